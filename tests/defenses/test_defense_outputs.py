"""The releases of defenses: what they depend on, the model that they publish, and options out of range."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import components, quick, split
from defense_runs import train

from bench.core.dataset import Examples, Split
from bench.core.errors import UserError
from bench.core.release import Release
from bench.dp import accounting
from bench.dp.recipe import ENGINES
from bench.runner.selection import choose

RECORD = ("predict", "encode")


def test_augm_does_not_depend_on_private_labels(cancer: Split) -> None:
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
    assert not np.allclose(third.predict(cancer.holdout.x), first.predict(cancer.holdout.x)), "nothing is tested"


def test_a_random_encoder_does_not_depend_on_private_records(cancer: Split) -> None:
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
    assert accounting.claim(first.dp_event, 200)["epsilon"] == np.inf  # clients train on embeddings without DP
    with pytest.raises(UserError, match="no encoder 'dpp'"):
        train(name, cancer.private, public, encoder="dpp")


def test_a_conditional_vae_generates_the_pictures_of_each_label() -> None:
    """The records of a class are copies of one picture, without noise: the generated ones are close to it."""
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


def test_sgd_refuses_scattering_of_features_other_than_pictures(cancer: Split) -> None:
    with pytest.raises(UserError, match="need pictures"):
        train("dp_sgd", cancer.private, cancer.public, features="scattering")
    with pytest.raises(UserError, match="did you mean 'scattering'"):
        train("dp_sgd", cancer.private, cancer.public, features="scatering")


@pytest.mark.parametrize("data", ["digits", "breast_cancer"])
@pytest.mark.parametrize("name", ["dp_sgd", "none"])
def test_the_published_model_gives_the_predictions(name: str, data: str) -> None:
    """The model takes raw records, so white-box attacks can differentiate the whole of it."""
    parts = split(data)
    release = train(name, parts.private, parts.public)
    assert release.predict
    assert release.model is not None
    x = parts.holdout.x
    logits = np.asarray(release.model(x), np.float64)
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert np.allclose(release.predict(x), softmax, atol=1e-5)


@pytest.mark.parametrize("name", [name for name, one in components().defenses.items() if "engine" in one.options])
def test_the_engines_give_the_same_release(name: str, cancer: Split) -> None:
    """Ghost clipping and vectorized clipping, noise included."""
    first, second = (train(name, cancer.private, cancer.public, engine=engine) for engine in ENGINES)
    assert first.predict
    assert second.predict
    x = cancer.holdout.x
    np.testing.assert_allclose(first.predict(x), second.predict(x), rtol=0, atol=1e-3)
    assert first.dp_event == second.dp_event
    with pytest.raises(UserError, match="engine is one of"):
        train(name, cancer.private, cancer.public, engine="ghost")


@pytest.mark.parametrize(
    "option",
    ["epsilon=0", "epsilon=-1", "epsilon=nan", "steps=0", "rate=0", "rate=1.5", "batch_size=0", "learning_rate=0",
     "l2_norm_clip=0", "hidden=0", "code_dim=0", "latent_dim=-1", "activation=rleu", "samples=0",
     "classifier_steps=-1", "classifier_samples=-1", "cosines=-1", "shift=-1", "pixel_noise=-1", "pixel_noise=nan",
      "features=hog", "engine=ghost", "schedule=step", "optimizer=lamb", "ema=1", "momentum=1",
      "teachers=0", "queries=-1", "threshold=1", "threshold=nan",
      "frequencies=0", "bandwidth=-1", "drawn=1", "digits=0", "beta=0", "gamma=nan"],
)  # fmt: skip
def test_an_option_out_of_range_is_refused_in_one_sentence(option: str, digits: Split) -> None:
    """For every defense with the option, before a long training."""
    having = [name for name, one in components().defenses.items() if option.partition("=")[0] in one.options]
    assert having

    def run(name: str) -> Release:
        [choice] = choose(components(), "defense", f"{name},{option}")
        settings = {**quick(choice.component), **choice.options}
        release: Release = choice.component.function(digits.private, digits.public, seed=0, **settings)
        return release

    for name in having:
        with pytest.raises(UserError) as caught:
            run(name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", components().defenses)
def test_every_option_has_a_description_that_allows_its_default(name: str) -> None:
    component = components().defenses[name]
    assert set(component.described) == set(component.options)
    for option, described in component.described.items():
        assert described.meaning, option
        assert described.allows(component.options[option]), option
