"""What makes each defense the one that it is called after: who sees which records, and through what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import components, quick, split

import defenses.dp_cvaegm
import defenses.dp_merf
import defenses.dp_sgd
import defenses.dp_vaegm
from bench.core import images
from bench.core.dataset import Examples, Split
from bench.core.errors import UserError
from bench.core.randomness import derive, stream
from bench.core.release import Release
from bench.dp import accounting, networks, vae
from bench.dp import train as training
from bench.dp.networks import Autoencoder
from bench.dp.recipe import ENGINES, DPTraining, Fit, Recipe
from bench.dp.vae import VAE
from bench.models import classifier, published_encoder, scattering, vae_generator
from bench.models.classifier import Classified
from bench.runner.selection import choose

RECORD = ("predict", "encode")


class Witness:
    """What `train` and `classify` were handed on the way to a release."""

    def __init__(self) -> None:
        self.trained: list[tuple[Recipe, list[Examples], list[int]]] = []
        self.classified: list[tuple[Examples, Classified]] = []
        self.fits: list[list[Fit]] = []


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> Iterator[Witness]:
    seen = Witness()
    train, classify = training.train, classifier.classify

    def train_seen(recipe: Any, parts: Any, seeds: Any, what: str = "training") -> Any:
        seen.trained.append((recipe, list(parts), list(seeds)))
        seen.fits.append(train(recipe, parts, seeds, what))
        return seen.fits[-1]

    def classify_seen(examples: Examples, *arguments: Any, **options: Any) -> Classified:
        seen.classified.append((examples, classify(examples, *arguments, **options)))
        return seen.classified[-1][1]

    for module in (published_encoder, defenses.dp_vaegm, defenses.dp_cvaegm, defenses.dp_merf, classifier):
        monkeypatch.setattr(module, "train", train_seen)
    for module in (published_encoder, defenses.dp_sgd, vae_generator):
        monkeypatch.setattr(module, "classify", classify_seen)
    yield seen
    seen.__init__()  # type: ignore[misc]  # TensorFlow complains of functions that outlive it


def train(name: str, private: Examples, public: Examples, **changed: Any) -> Release:
    component = components().defenses[name]
    release: Release = component.function(private, public, seed=0, **quick(component, **changed))
    return release


def equal(a: Examples, b: Examples) -> bool:
    return np.array_equal(a.x, b.x) and np.array_equal(a.y, b.y)


def private_parts(witness: Witness) -> list[Examples]:
    """What DP training saw; everything else must have been trained on something public by then."""
    return [part for recipe, parts, _ in witness.trained if recipe.privacy for part in parts]


# DP-AuGM


def test_augm_classifier_sees_encoded_public_records_only(cancer: Split, witness: Witness) -> None:
    release = train("dp_augm", cancer.private, cancer.public)
    assert release.encode
    [(seen, _)] = witness.classified
    assert np.array_equal(seen.y, cancer.public.y)
    codes = release.encode(cancer.public.x)
    centred = codes - codes.mean(0)  # and one scale for all of them, which the public codes give
    assert np.allclose(seen.x, centred / np.sqrt((centred**2).mean()), atol=1e-2)
    [part] = private_parts(witness)
    assert np.array_equal(part.x, cancer.private.x)
    (autoencoder, _, _), (plain, [parts], _) = witness.trained
    assert isinstance(autoencoder.net, Autoencoder)
    assert plain.privacy is None
    assert equal(parts, seen)


def test_augm_predicts_through_its_encoder(cancer: Split, witness: Witness) -> None:
    """A record moved where the encoder does not look keeps its answer; moved anywhere else it does not."""
    release = train("dp_augm", cancer.private, cancer.public, hidden=(5,), code_dim=4, steps=20, classifier_steps=50)
    assert release.encode
    assert release.predict
    kernel = witness.fits[0][0].weights[0]
    assert kernel.shape == (30, 5)
    unseen = np.linalg.svd(kernel.T)[2][5:]  # (25, 30): what the first layer maps to nothing
    assert np.abs(unseen @ kernel).max() < 1e-4
    x = cancer.holdout.x
    rng = np.random.default_rng(0)
    aside = rng.normal(size=(len(x), 25)) @ unseen
    anywhere = rng.normal(size=x.shape)
    anywhere *= np.linalg.norm(aside, axis=1, keepdims=True) / np.linalg.norm(anywhere, axis=1, keepdims=True)
    assert np.abs(release.encode(x + aside) - release.encode(x)).max() < 1e-4
    assert np.abs(release.predict(x + aside) - release.predict(x)).max() < 1e-3
    assert np.abs(release.predict(x + anywhere) - release.predict(x)).max() > 0.05


def test_augm_never_reads_private_labels(cancer: Split) -> None:
    first = train("dp_augm", cancer.private, cancer.public)
    others = Examples(cancer.private.x, 1 - cancer.private.y, 2)
    second = train("dp_augm", others, cancer.public)
    for access in RECORD:
        a, b = (getattr(release, access)(cancer.holdout.x) for release in (first, second))
        assert np.array_equal(a, b), access
    assert first.dp_event == second.dp_event
    relabelled = Examples(cancer.public.x, 1 - cancer.public.y, 2)
    third = train("dp_augm", cancer.private, relabelled)
    assert third.predict
    assert first.predict
    assert not np.allclose(third.predict(cancer.holdout.x), first.predict(cancer.holdout.x)), "the check sees nothing"


def test_an_encoder_that_was_never_trained_reads_no_private_record(cancer: Split) -> None:
    others = Examples(1 - cancer.private.x, cancer.private.y, 2)
    name, public = "federated_dp_augm", cancer.public
    first, second = (train(name, private, public, encoder="random") for private in (cancer.private, others))
    trained = train(name, cancer.private, public)
    assert first.encode
    assert second.encode
    assert trained.encode
    x = cancer.holdout.x
    assert np.array_equal(first.encode(x), second.encode(x))
    assert not np.allclose(first.encode(x), trained.encode(x))
    assert accounting.claim(first.dp_event, 200)["epsilon"] == np.inf  # clients train on what they encoded
    with pytest.raises(UserError, match="no encoder 'dpp'"):
        train(name, cancer.private, public, encoder="dpp")


# DP-VaeGM


@pytest.mark.parametrize("name", ["dp_vaegm", "dp_cvaegm", "dp_merf"])
def test_classifiers_of_generators_see_roughened_synthetic_records_only(
    name: str, digits: Split, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: list[Examples] = []

    def augmented(records: Examples, *arguments: Any, **options: Any) -> Examples:
        handed.append(records)
        return images.augmented(records, *arguments, **options)

    monkeypatch.setattr(vae_generator, "augmented", augmented)
    release = train(name, digits.private, digits.public)
    assert release.generate
    assert release.synthetic is not None
    assert len(release.synthetic) == quick(components().defenses[name])["samples"]
    [(seen, _)] = witness.classified
    [synthetic] = handed
    own = release.generate(40, derive(0, "downstream"))
    assert equal(synthetic, own)
    assert equal(seen, images.augmented(own, stream(0, "rough"), shift=2, noise=0.4))
    (first, _, _), *_, (_, [last], _) = witness.trained
    assert isinstance(first.net, VAE) or name == "dp_merf"
    assert first.privacy is not None
    assert [recipe.privacy for recipe, _, _ in witness.trained[1:]] == [None] * (len(witness.trained) - 1)
    assert equal(last, seen)


def test_vaegm_has_a_vae_and_a_stream_a_class_and_cvaegm_one_for_all(digits: Split, witness: Witness) -> None:
    train("dp_vaegm", digits.private, digits.public)
    train("dp_cvaegm", digits.private, digits.public)
    (_, parts, seeds), _, (pooled, [everybody], _), _ = witness.trained
    assert len(parts) == len(set(seeds)) == 10
    for k, part in enumerate(parts):
        assert equal(part, digits.private[np.flatnonzero(digits.private.y == k)])
    assert equal(everybody, digits.private)
    assert pooled.net.labels == 10


@pytest.mark.parametrize("data", ["digits", "breast_cancer"])
def test_vaegm_lets_out_one_decoder_that_is_that_of_each_class(data: str, witness: Witness) -> None:
    parts = split(data)
    release = train("dp_vaegm", parts.private, parts.public)
    assert release.decode
    (vaes, _, _), fits = witness.trained[0], witness.fits[0]
    z = np.random.default_rng(0).standard_normal((7, vaes.net.latent), np.float32)
    for k, fit in enumerate(fits):
        alone = networks.mapping(vae.decoder(vaes.net, fit.weights), "sigmoid", parts.private.shape)(z)
        codes = np.concatenate([z, np.tile(np.eye(len(fits))[k], (7, 1))], axis=1)
        assert np.allclose(release.decode(codes), alone, atol=1e-6)
        assert not np.allclose(release.decode(np.roll(codes, 1, axis=1)), alone, atol=1e-3), "the check sees nothing"


def test_a_conditional_vae_gives_each_label_its_own_pictures() -> None:
    """Ten records of one picture a class, no noise: what is made for a label is that picture and no other's."""
    rng = np.random.default_rng(0)
    prototypes = np.kron(rng.integers(0, 2, (4, 2, 2)), np.ones((4, 4)))[..., None]
    prototypes[0], prototypes[1] = 0, 1
    private = Examples(np.repeat(prototypes, 25, 0), np.repeat(np.arange(4), 25), 4)
    release = train("dp_cvaegm", private, private, epsilon=float("inf"), steps=300, rate=0.5)
    assert release.generate
    made = release.generate(40, 1)
    for k in range(4):
        mean = made.x[made.y == k].mean(0)
        distances = [np.abs(mean - prototype).mean() for prototype in prototypes]
        assert int(np.argmin(distances)) == int(np.argmin([np.abs(prototypes[k] - p).mean() for p in prototypes]))
        assert distances[k] < 0.15


# DP-SGD


def test_sgd_trains_the_one_classifier_privately_and_reads_nothing_public(cancer: Split, witness: Witness) -> None:
    release = train("dp_sgd", cancer.private, cancer.public)
    [(seen, _)] = witness.classified
    assert equal(seen, cancer.private)
    [(recipe, _, _)] = witness.trained
    assert recipe.privacy is not None
    other = train("dp_sgd", cancer.private, cancer.holdout)
    assert release.predict
    assert other.predict
    assert np.array_equal(release.predict(cancer.holdout.x), other.predict(cancer.holdout.x))


def test_sgd_of_pictures_is_linear_on_their_scattering(digits: Split, witness: Witness) -> None:
    train("dp_sgd", digits.private, digits.public)
    train("dp_sgd", digits.private, digits.public, features="none")
    (scattered, _), (raw, _) = witness.classified
    assert equal(scattered, scattering.scattered(digits.private))
    assert equal(raw, digits.private)
    nets_seen = [recipe.net for recipe, _, _ in witness.trained]
    assert [net.hidden for net in nets_seen] == [(), (64,)]


def test_sgd_refuses_scattering_of_what_is_no_picture(cancer: Split) -> None:
    with pytest.raises(UserError, match="need pictures"):
        train("dp_sgd", cancer.private, cancer.public, features="scattering")
    with pytest.raises(UserError, match="did you mean 'scattering'"):
        train("dp_sgd", cancer.private, cancer.public, features="scatering")


@pytest.mark.parametrize("data", ["digits", "breast_cancer"])
@pytest.mark.parametrize("name", ["dp_sgd", "none"])
def test_the_published_model_is_the_one_that_predicts(name: str, data: str) -> None:
    """From raw records: what a white-box attack differentiates is all of it."""
    parts = split(data)
    release = train(name, parts.private, parts.public)
    assert release.predict
    assert release.model is not None
    x = parts.holdout.x
    logits = np.asarray(release.model(x), np.float64)
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert np.allclose(release.predict(x), softmax, atol=1e-5)


@pytest.mark.parametrize("name", [name for name, one in components().defenses.items() if "engine" in one.options])
def test_the_engines_give_the_same_defense(name: str, cancer: Split) -> None:
    """Whoever doubts the one pass can ask for TensorFlow Privacy's way, noise and all."""
    first, second = (train(name, cancer.private, cancer.public, engine=engine) for engine in ENGINES)
    assert first.predict
    assert second.predict
    x = cancer.holdout.x
    np.testing.assert_allclose(first.predict(x), second.predict(x), rtol=0, atol=1e-3)
    assert first.dp_event == second.dp_event
    with pytest.raises(UserError, match="engine is one of"):
        train(name, cancer.private, cancer.public, engine="ghost")


@pytest.mark.parametrize(
    "option", ["schedule=cosine", "ema=0.5", "momentum=0.5", "clip_networks=true", "optimizer=sgd"]
)
def test_an_option_of_training_reaches_it(option: str, cancer: Split, witness: Witness) -> None:
    """Whichever private defense has it: the recipe of its private training changes in that and nothing else."""
    word, value = option.split("=")
    for name, one in components().defenses.items():
        if not one.private or word not in one.options:
            continue
        witness.trained.clear()
        train(name, cancer.private, cancer.public)
        [choice] = choose(components(), "defense", f"{name},{option}")
        train(name, cancer.private, cancer.public, **choice.options)
        before, after = (recipe for recipe, _, _ in witness.trained if recipe.privacy)
        assert getattr(after, word) == choice.options[word] != getattr(before, word), f"{name},{option}: {value}"
        assert replace(after, **{word: getattr(before, word)}) == before


@pytest.mark.parametrize(
    "option",
    ["epsilon=0", "epsilon=-1", "epsilon=nan", "steps=0", "rate=0", "rate=1.5", "batch_size=0", "learning_rate=0",
     "l2_norm_clip=0", "hidden=0", "code_dim=0", "latent_dim=-1", "activation=rleu", "samples=0",
     "classifier_steps=-1", "classifier_samples=-1", "cosines=-1", "shift=-1", "pixel_noise=-1", "pixel_noise=nan",
      "features=hog", "engine=ghost", "schedule=step", "optimizer=lamb", "ema=1", "momentum=1",
      "teachers=0", "queries=-1", "threshold=1", "threshold=nan",
      "frequencies=0", "bandwidth=-1", "drawn=1", "digits=0", "beta=0", "gamma=nan"],
)  # fmt: skip
def test_an_option_out_of_range_is_one_sentence(option: str, digits: Split) -> None:
    """Whichever defense has the option, before anything is trained at length."""
    having = [name for name, one in components().defenses.items() if option.partition("=")[0] in one.options]
    assert having

    def ask(name: str) -> Release:
        [choice] = choose(components(), "defense", f"{name},{option}")
        settings = {**quick(choice.component), **choice.options}
        release: Release = choice.component.function(digits.private, digits.public, seed=0, **settings)
        return release

    for name in having:
        with pytest.raises(UserError) as caught:
            ask(name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", components().defenses)
def test_every_option_says_what_it_means_and_its_default_is_allowed(name: str) -> None:
    component = components().defenses[name]
    assert set(component.described) == set(component.options)
    for option, said in component.described.items():
        assert said.meaning, option
        assert said.allows(component.options[option]), option


def test_groups_of_options_are_options_like_any_other(cancer: Split, witness: Witness) -> None:
    """One by one or as a group they give the same recipe; a defense has its own defaults of a common group."""
    having = {name for name, one in components().defenses.items() if "momentum" in one.options}
    assert having == {"dp_augm", "dp_sgd", "dp_vaegm", "dp_cvaegm"}
    steps = {name: components().defenses[name].options["steps"] for name in having}
    assert steps == {"dp_augm": 200, "dp_sgd": 200, "dp_vaegm": 150, "dp_cvaegm": 400}
    train("dp_sgd", cancer.private, cancer.public, steps=3, ema=0.5)
    training_group = DPTraining(steps=3, ema=0.5)
    defenses.dp_sgd.dp_sgd(cancer.private, cancer.public, seed=0, training=training_group)
    flat, grouped = (recipe for recipe, _, _ in witness.trained)
    assert flat == grouped
