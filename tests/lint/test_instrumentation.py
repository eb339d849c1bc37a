"""Observation does not change mechanisms, and recovers the sums that the optimizer received."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from conftest import components, quick

from bench.core.dataset import Examples, Split
from bench.dp import gaussian_mechanism, instrumentation, networks
from bench.dp.layers import Single
from bench.dp.networks import Classifier
from bench.dp.recipe import Privacy, Recipe
from bench.dp.tensorflow_setup import tensorflow
from bench.dp.train import train
from bench.lint.instrumentation import watching
from bench.lint.probe_run import module_reset
from bench.lint.white_box_steps import Steps
from defenses.dp_sgd import dp_sgd
from defenses.none import none

NET = Classifier((6,), 3, (5,), "tanh")
LOOSE = Privacy(1e6, 0.0)  # no clipping and no noise


def examples(n: int = 20, seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    return Examples(rng.random((n, 6)), rng.integers(0, 3, n), 3)


def recipe(**changes: Any) -> Recipe:
    values = {"steps": 5, "rate": 1.0, "batch_size": 10.0, "learning_rate": 0.1, "privacy": LOOSE}
    return Recipe(NET, **{**values, **changes})


def plain_sum(weights: list[Any], part: Examples) -> np.ndarray[Any, Any]:
    """The sum of all gradients at these weights, by automatic differentiation."""
    tf = tensorflow()
    model = networks.build(NET, Single())
    model.set_weights(weights)
    with tf.GradientTape() as tape:
        loss = NET.loss([model(part.x)], part.x, part.y)
    return np.concatenate([np.ravel(g) for g in tape.gradient(loss, model.trainable_weights)])


@pytest.mark.parametrize("models", [1, 3])
@pytest.mark.parametrize(
    "how",
    [
        {"optimizer": "adam"},
        {"optimizer": "adam", "momentum": 0.5, "schedule": "linear"},
        {"optimizer": "sgd", "schedule": "cosine"},
        {"optimizer": "sgd", "momentum": 0.9},
    ],
)
def test_a_step_returns_the_sum_that_the_optimizer_received(how: dict[str, Any], models: int) -> None:
    parts = [examples(seed=k) for k in range(models)]
    training = Steps([recipe(**how)] * models, parts, range(models))
    for _ in range(3):
        before = training.weights
        sums = training.step()
        for k, part in enumerate(parts):
            expected = plain_sum([w[k] for w in before], part)
            assert np.allclose(sums[k], expected, atol=1e-4 * np.abs(expected).max())
        assert not np.allclose(sums, 1.01 * sums, atol=1e-4 * np.abs(sums).max()), "the tolerance does not detect 1 %"


def test_observed_steps_equal_those_of_training() -> None:
    """With and without observation the weights are identical."""
    made = recipe(optimizer="adam", rate=0.5, privacy=Privacy(0.5, 1.0))
    training = Steps([made], [examples()], [7])
    for _ in range(made.steps):
        training.step()
    [fit] = train(made, [examples()], [7])
    assert all(np.array_equal(a[0], b) for a, b in zip(training.weights, fit.weights, strict=True))


@pytest.mark.parametrize(("name", "trained", "summed", "averaged"), [
    ("dp_vaegm", 1, 0, 0), ("pate", 0, 1, 0), ("federated_client_dp", 0, 0, 2), ("none", 0, 0, 0),
])  # fmt: skip
def test_mechanisms_are_observed_only_within_the_block(
    name: str, trained: int, summed: int, averaged: int, cancer: Split
) -> None:
    component = components().defenses[name]
    with watching() as seen:
        watched = component.function(cancer.private, cancer.public, seed=0, **quick(component))
        with pytest.raises(RuntimeError, match="another observer"), watching():
            pass
    assert instrumentation.current_observer() is None
    assert [len(seen.trained), len(seen.summed), len(seen.averaged)] == [trained, summed, averaged]
    assert all(one.steps() == one.recipes[0].steps for one in seen.trained)
    plain = component.function(cancer.private, cancer.public, seed=0, **quick(component))
    assert np.array_equal(watched.predict(cancer.holdout.x), plain.predict(cancer.holdout.x))


def test_with_blank_inputs_releases_do_not_depend_on_records() -> None:
    with watching(blank_inputs=True) as seen:
        rng = np.random.default_rng(0)
        noised = gaussian_mechanism.gaussian(np.full(1000, 7.0), 1.0, 2.0, rng)
        made = recipe(privacy=Privacy(0.5, 1.0))
        one, other = (train(made, [examples(n)], [3])[0] for n in (20, 30))
        plain = [train(recipe(privacy=None), [examples(n)], [3])[0] for n in (20, 30)]
    assert abs(noised.mean()) < 1
    assert np.array_equal(seen.summed[0].values, np.full(1000, 7.0))
    assert all(np.array_equal(a, b) for a, b in zip(one.weights, other.weights, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(plain[0].weights, plain[1].weights, strict=True))
    assert [len(trained.parts[0]) for trained in seen.trained] == [20, 30]


@pytest.mark.parametrize("defense", [dp_sgd, none], ids=["grouped options", "single options"])
def test_the_state_of_the_module_of_a_defense_is_reset(defense: Any) -> None:
    reset = module_reset(defense.component.function)
    module = sys.modules[defense.__module__]
    module.KEPT = 1  # type: ignore[attr-defined]
    reset()
    assert not hasattr(module, "KEPT")
