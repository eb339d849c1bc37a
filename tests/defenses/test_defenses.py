"""The records that each defense trains on, and its recipes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import components, quick, split
from defense_runs import train

import defenses.dp_cvaegm
import defenses.dp_merf
import defenses.dp_sgd
import defenses.dp_vaegm
from bench.core import images
from bench.core.dataset import Examples, Split
from bench.core.randomness import derive, stream
from bench.dp import networks, vae
from bench.dp import train as training
from bench.dp.networks import Autoencoder
from bench.dp.recipe import DPTraining, Fit, Recipe
from bench.dp.vae import VAE
from bench.models import classifier, published_encoder, scattering, vae_generator
from bench.models.classifier import Classified
from bench.runner.selection import choose


class Recorder:
    """Records the arguments and results of `train` and `classify`."""

    def __init__(self) -> None:
        self.trained: list[tuple[Recipe, list[Examples], list[int]]] = []
        self.classified: list[tuple[Examples, Classified]] = []
        self.fits: list[list[Fit]] = []


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    found = Recorder()
    train, classify = training.train, classifier.classify

    def recorded_train(recipe: Any, parts: Any, seeds: Any, what: str = "training") -> Any:
        found.trained.append((recipe, list(parts), list(seeds)))
        found.fits.append(train(recipe, parts, seeds, what))
        return found.fits[-1]

    def recorded_classify(examples: Examples, *arguments: Any, **options: Any) -> Classified:
        found.classified.append((examples, classify(examples, *arguments, **options)))
        return found.classified[-1][1]

    for module in (published_encoder, defenses.dp_vaegm, defenses.dp_cvaegm, defenses.dp_merf, classifier):
        monkeypatch.setattr(module, "train", recorded_train)
    for module in (published_encoder, defenses.dp_sgd, vae_generator):
        monkeypatch.setattr(module, "classify", recorded_classify)
    yield found
    found.__init__()  # type: ignore[misc]  # TensorFlow warns of functions that outlive it


def equal(a: Examples, b: Examples) -> bool:
    return np.array_equal(a.x, b.x) and np.array_equal(a.y, b.y)


def private_parts(recorder: Recorder) -> list[Examples]:
    """The data sets of all DP trainings."""
    return [part for recipe, parts, _ in recorder.trained if recipe.privacy for part in parts]


def test_the_classifier_of_augm_is_trained_on_public_embeddings_only(cancer: Split, recorder: Recorder) -> None:
    release = train("dp_augm", cancer.private, cancer.public)
    assert release.encode
    [(records, _)] = recorder.classified
    assert np.array_equal(records.y, cancer.public.y)
    embeddings = release.encode(cancer.public.x)
    centred = embeddings - embeddings.mean(0)  # and one scale for all, from the public embeddings
    assert np.allclose(records.x, centred / np.sqrt((centred**2).mean()), atol=1e-2)
    [part] = private_parts(recorder)
    assert np.array_equal(part.x, cancer.private.x)
    (autoencoder, _, _), (plain, [parts], _) = recorder.trained
    assert isinstance(autoencoder.net, Autoencoder)
    assert plain.privacy is None
    assert equal(parts, records)


def test_augm_predicts_through_its_encoder(cancer: Split, recorder: Recorder) -> None:
    """Predictions do not change along the null space of the encoder, and change along random directions."""
    release = train("dp_augm", cancer.private, cancer.public, hidden=(5,), code_dim=4, steps=20, classifier_steps=50)
    assert release.encode
    assert release.predict
    kernel = recorder.fits[0][0].weights[0]
    assert kernel.shape == (30, 5)
    null_space = np.linalg.svd(kernel.T)[2][5:]  # (25, 30), of the first layer
    assert np.abs(null_space @ kernel).max() < 1e-4
    x = cancer.holdout.x
    rng = np.random.default_rng(0)
    along_null = rng.normal(size=(len(x), 25)) @ null_space
    random = rng.normal(size=x.shape)
    random *= np.linalg.norm(along_null, axis=1, keepdims=True) / np.linalg.norm(random, axis=1, keepdims=True)
    assert np.abs(release.encode(x + along_null) - release.encode(x)).max() < 1e-4
    assert np.abs(release.predict(x + along_null) - release.predict(x)).max() < 1e-3
    assert np.abs(release.predict(x + random) - release.predict(x)).max() > 0.05


@pytest.mark.parametrize("name", ["dp_vaegm", "dp_cvaegm", "dp_merf"])
def test_classifiers_of_generators_are_trained_on_augmented_synthetic_records_only(
    name: str, digits: Split, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    augmentations: list[Examples] = []

    def augmented(records: Examples, *arguments: Any, **options: Any) -> Examples:
        augmentations.append(records)
        return images.augmented(records, *arguments, **options)

    monkeypatch.setattr(vae_generator, "augmented", augmented)
    release = train(name, digits.private, digits.public)
    assert release.generate
    assert release.synthetic is not None
    assert len(release.synthetic) == quick(components().defenses[name])["samples"]
    [(records, _)] = recorder.classified
    [synthetic] = augmentations
    generated = release.generate(40, derive(0, "downstream"))
    assert equal(synthetic, generated)
    assert equal(records, images.augmented(generated, stream(0, "rough"), shift=2, noise=0.4))
    (first, _, _), *_, (_, [last], _) = recorder.trained
    assert isinstance(first.net, VAE) or name == "dp_merf"
    assert first.privacy is not None
    assert [recipe.privacy for recipe, _, _ in recorder.trained[1:]] == [None] * (len(recorder.trained) - 1)
    assert equal(last, records)


def test_vaegm_has_one_vae_per_class_and_cvaegm_one_for_all_classes(digits: Split, recorder: Recorder) -> None:
    train("dp_vaegm", digits.private, digits.public)
    train("dp_cvaegm", digits.private, digits.public)
    (_, parts, seeds), _, (pooled, [all_records], _), _ = recorder.trained
    assert len(parts) == len(set(seeds)) == 10
    for k, part in enumerate(parts):
        assert equal(part, digits.private[np.flatnonzero(digits.private.y == k)])
    assert equal(all_records, digits.private)
    assert pooled.net.labels == 10


@pytest.mark.parametrize("data", ["digits", "breast_cancer"])
def test_the_decoder_of_vaegm_equals_the_decoder_of_each_class(data: str, recorder: Recorder) -> None:
    parts = split(data)
    release = train("dp_vaegm", parts.private, parts.public)
    assert release.decode
    (vaes, _, _), fits = recorder.trained[0], recorder.fits[0]
    z = np.random.default_rng(0).standard_normal((7, vaes.net.latent), np.float32)
    for k, fit in enumerate(fits):
        alone = networks.mapping(vae.decoder(vaes.net, fit.weights), "sigmoid", parts.private.shape)(z)
        latents = np.concatenate([z, np.tile(np.eye(len(fits))[k], (7, 1))], axis=1)
        assert np.allclose(release.decode(latents), alone, atol=1e-6)
        assert not np.allclose(release.decode(np.roll(latents, 1, axis=1)), alone, atol=1e-3), "nothing is tested"


def test_sgd_trains_one_classifier_privately_and_uses_no_public_record(cancer: Split, recorder: Recorder) -> None:
    release = train("dp_sgd", cancer.private, cancer.public)
    [(records, _)] = recorder.classified
    assert equal(records, cancer.private)
    [(recipe, _, _)] = recorder.trained
    assert recipe.privacy is not None
    other = train("dp_sgd", cancer.private, cancer.holdout)
    assert release.predict
    assert other.predict
    assert np.array_equal(release.predict(cancer.holdout.x), other.predict(cancer.holdout.x))


def test_sgd_of_pictures_is_linear_on_scattering_features(digits: Split, recorder: Recorder) -> None:
    train("dp_sgd", digits.private, digits.public)
    train("dp_sgd", digits.private, digits.public, features="none")
    (scattered, _), (raw, _) = recorder.classified
    assert equal(scattered, scattering.scattered(digits.private))
    assert equal(raw, digits.private)
    nets = [recipe.net for recipe, _, _ in recorder.trained]
    assert [net.hidden for net in nets] == [(), (64,)]


@pytest.mark.parametrize(
    "option", ["schedule=cosine", "ema=0.5", "momentum=0.5", "clip_networks=true", "optimizer=sgd"]
)
def test_an_option_of_training_is_passed_on(option: str, cancer: Split, recorder: Recorder) -> None:
    """For every private defense with the option, the recipe of its private training differs in the option only."""
    key, value = option.split("=")
    for name, one in components().defenses.items():
        if not one.private or key not in one.options:
            continue
        recorder.trained.clear()
        train(name, cancer.private, cancer.public)
        [choice] = choose(components(), "defense", f"{name},{option}")
        train(name, cancer.private, cancer.public, **choice.options)
        before, after = (recipe for recipe, _, _ in recorder.trained if recipe.privacy)
        assert getattr(after, key) == choice.options[key] != getattr(before, key), f"{name},{option}: {value}"
        assert replace(after, **{key: getattr(before, key)}) == before


def test_options_in_a_group_equal_single_options(cancer: Split, recorder: Recorder) -> None:
    """Both give the same recipe; every defense has separate defaults of a common group."""
    having = {name for name, one in components().defenses.items() if "momentum" in one.options}
    assert having == {"dp_augm", "dp_sgd", "dp_vaegm", "dp_cvaegm"}
    steps = {name: components().defenses[name].options["steps"] for name in having}
    assert steps == {"dp_augm": 200, "dp_sgd": 200, "dp_vaegm": 150, "dp_cvaegm": 400}
    train("dp_sgd", cancer.private, cancer.public, steps=3, ema=0.5)
    training_group = DPTraining(steps=3, ema=0.5)
    defenses.dp_sgd.dp_sgd(cancer.private, cancer.public, seed=0, training=training_group)
    flat, grouped = (recipe for recipe, _, _ in recorder.trained)
    assert flat == grouped
