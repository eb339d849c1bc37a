"""A step is clipped, summed and divided as accounted, and the options of the optimizer work as documented."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from trainings import CLASSIFIER, CONVOLUTIONS, HUGE_CLIP, SMALL_VAE, changed, examples, flat, one, recipe

from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.dp import accounting
from bench.dp.networks import GAN, Autoencoder
from bench.dp.recipe import SCHEDULES, Privacy
from bench.dp.tensorflow_setup import tensorflow
from bench.dp.train import train


def update(part: Examples, **changes: Any) -> np.ndarray[Any, Any]:
    """What one step on all records without noise adds to the weights."""
    return one(recipe(**{**ONE_STEP, **changes}), part) - start()


ONE_STEP: dict[str, Any] = {"steps": 1, "rate": 1.0, "learning_rate": 1.0, "privacy": Privacy(0.5, 0.0)}


@cache
def start() -> np.ndarray[Any, Any]:
    """The weights of the first seed before any step."""
    return one(recipe(learning_rate=1e-30), examples(0))


@pytest.mark.parametrize(
    ("engine", "values"),
    [("onepass", (0.5, 0.0, 1e4, 1e30, np.nan, np.inf)), ("vectorized", (1e4, 1e30, np.nan))],
    ids=["onepass", "vectorized"],
)
def test_a_record_moves_the_step_by_the_clip_over_a_public_constant(engine: str, values: tuple[float, ...]) -> None:
    few = examples(8)
    more = Examples(np.concatenate([few.x, few.x[:1]]), np.append(few.y, 1), 3)
    base = update(few, engine=engine)
    for value in values:
        moved = base - update(changed(more, 8, value), engine=engine)
        assert np.linalg.norm(moved) <= 0.5 / 10 * (1 + 1e-4)  # the differences of float32 weights


def test_the_divisor_is_not_the_size_of_the_batch() -> None:
    few = examples(8)
    doubled = Examples(np.concatenate([few.x, few.x]), np.concatenate([few.y, few.y]), 3)
    base = update(few)
    assert np.linalg.norm(base) > 0.05
    np.testing.assert_allclose(update(doubled), 2 * base, atol=1e-6)  # a mean would give the same update for both
    np.testing.assert_allclose(update(few, batch_size=20.0), base / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("net", "optimizer", "engine"),
    [
        (SMALL_VAE, "adam", "onepass"),
        (SMALL_VAE, "sgd", "vectorized"),
        (CLASSIFIER, "sgd", "onepass"),
        (CLASSIFIER, "adam", "vectorized"),
        (replace(SMALL_VAE, classes=3), "sgd", "onepass"),
        (GAN((6,), (5,), 2), "sgd", "onepass"),
        (CONVOLUTIONS, "sgd", "onepass"),
    ],
)
def test_no_noise_and_a_huge_clip_is_plain_training(net: Any, optimizer: str, engine: str) -> None:
    made = recipe(net, optimizer=optimizer, learning_rate=0.02, engine=engine, momentum=0.5)
    parts, seeds = [examples(20, 0, net.shape), examples(12, 1, net.shape)], [1, 2]
    private = train(replace(made, privacy=HUGE_CLIP), parts, seeds)
    plain = train(replace(made, privacy=None), parts, seeds)
    for a, b in zip(private, plain, strict=True):
        np.testing.assert_allclose(flat(a), flat(b), rtol=0, atol=1e-5)


def test_the_engines_agree_with_noise() -> None:
    np.testing.assert_allclose(
        one(recipe(SMALL_VAE), examples()), one(recipe(SMALL_VAE, engine="vectorized"), examples()), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("privacy", [None, Privacy(1e3, 1e-6)], ids=["plain", "dp"])
def test_the_kl_divergence_has_a_gradient(privacy: Privacy | None) -> None:
    """The weights of the log variance depend on the KL weight; a KL divergence from add_loss would have no gradient."""
    ends = []
    for weight in (0.0, 100.0):
        made = recipe(replace(SMALL_VAE, kl_weight=weight), steps=1, rate=1.0, privacy=privacy, learning_rate=0.01)
        [fit] = train(made, [examples()], [1])
        ends.append(fit.weights[0][:, 2:])  # of the encoder's last layer, the half that gives the log variance
    assert np.abs(ends[0] - ends[1]).max() > 0.01


def test_the_kl_divergence_matches_its_closed_form() -> None:
    tf = tensorflow()
    x = tf.zeros((2, 6))
    code = tf.constant([[0.0, 0.0, 0.0, 0.0], [1.0, -2.0, 0.5, -1.0]])
    weighted = replace(SMALL_VAE, kl_weight=3.0).loss([tf.zeros((2, 6)), code], x, None)
    known = [0.0, 0.5 * (1 + 4 + np.exp(0.5) - 0.5 + np.exp(-1) + 1 - 2)]
    np.testing.assert_allclose(weighted, 6 * np.log(2) + 3 * np.array(known), rtol=1e-6)


@pytest.mark.parametrize("net", [CLASSIFIER, SMALL_VAE, GAN((6,), (5,), 2)], ids=["classifier", "vae", "gan"])
@pytest.mark.parametrize("how", ["onepass", "vectorized", None], ids=["onepass", "vectorized", "plain"])
def test_a_poisson_batch_in_pieces_gives_the_same_weights(net: Any, how: str | None) -> None:
    """The sum of all pieces is noised once: with noise for each piece the weights would differ."""
    parts, seeds = [examples(40), examples(12, 1)], [1, 2]
    made = recipe(net, engine=how or "onepass", privacy=Privacy(0.5, 1.0) if how else None, rate=0.6)
    whole = train(made, parts, seeds)
    for piece in (1, 7, 16):  # rows of both models: up to 36 pieces, the last one not full
        for a, b in zip(whole, train(replace(made, physical_batch=piece), parts, seeds), strict=True):
            np.testing.assert_allclose(flat(a), flat(b), rtol=0, atol=2e-6)


def test_networks_are_clipped_separately_if_requested() -> None:
    ae = Autoencoder((6,), (5,), 3)
    ends = {}
    for apart in (False, True):
        made = recipe(ae, **{**ONE_STEP, "clip_networks": apart})
        ends[apart] = one(made, examples(1)) - one(replace(made, learning_rate=1e-30), examples(1))
    encoder = 6 * 5 + 5 + 5 * 3 + 3
    share = 0.05 / 2**0.5  # of the clip over the divisor
    assert np.linalg.norm(ends[False]) == pytest.approx(0.05, rel=1e-4)
    for half in (ends[True][:encoder], ends[True][encoder:]):
        assert np.linalg.norm(half) <= share * (1 + 1e-4)
    assert np.linalg.norm(ends[True][encoder:]) == pytest.approx(share, rel=1e-4)
    both = replace(made, engine="vectorized")
    np.testing.assert_allclose(one(both, examples(20)), one(made, examples(20)), rtol=0, atol=1e-6)


def test_the_moving_average_of_the_weights_follows_its_recursion() -> None:
    """Computes the recursion from the weights after each step."""
    part = examples()
    made = recipe(steps=6)
    averaged = None
    for steps in range(7):
        now = one(replace(made, steps=max(steps, 1), learning_rate=0.1 if steps else 1e-30), part)
        decay = min(0.6, (1 + steps) / (10 + steps))
        averaged = now if averaged is None else decay * averaged + (1 - decay) * now
    assert averaged is not None
    np.testing.assert_allclose(one(replace(made, ema=0.6), part), averaged, rtol=0, atol=2e-6)
    assert np.abs(one(made, part) - averaged).max() > 1e-3


def test_learning_rate_schedules_decay() -> None:
    part = examples()

    def moved(steps: int, schedule: str) -> float:
        """The distance of the weights from the start, with all records in every batch and no noise."""
        made = recipe(steps=steps, rate=1.0, schedule=schedule, privacy=None)
        return float(np.linalg.norm(one(made, part) - start()))

    constant, cosine, linear = (moved(4, schedule) for schedule in SCHEDULES)
    assert cosine < 0.75 * constant
    assert linear < 0.75 * constant
    # By hand: the rates of a linear schedule of two steps are 1 and a half of the learning rate.
    made = recipe(steps=2, rate=1.0, schedule="linear", privacy=None)
    first = one(recipe(steps=1, rate=1.0, privacy=None), part)
    second = one(recipe(steps=2, rate=1.0, privacy=None), part)
    np.testing.assert_allclose(one(made, part), first + (second - first) / 2, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("optimizer", "usual"), [("sgd", 0.0), ("adam", 0.9)])
def test_momentum_is_that_of_the_optimizer(optimizer: str, usual: float) -> None:
    made, part = recipe(optimizer=optimizer, learning_rate=0.02), examples()
    np.testing.assert_array_equal(one(made, part), one(replace(made, momentum=usual), part))
    assert np.abs(one(made, part) - one(replace(made, momentum=0.5), part)).max() > 1e-4


def test_every_model_of_a_stack_has_a_separate_rate_divisor_clip_and_noise() -> None:
    made = [
        recipe(privacy=Privacy(0.5, 1.0)),
        recipe(privacy=Privacy(0.1, 3.0), rate=0.2, batch_size=3.0),
        recipe(privacy=Privacy(2.0, 0.1), rate=0.9),
    ]
    parts, seeds = [examples(20), examples(12, 1), examples(33, 2)], [5, 6, 7]
    stacked = train(made, parts, seeds)
    for fit, single, part, seed in zip(stacked, made, parts, seeds, strict=True):
        np.testing.assert_allclose(flat(fit), one(single, part, seed), rtol=0, atol=2e-6)
        assert single.privacy
        assert fit.dp_event == accounting.training_event(single.rate, single.privacy.noise_multiplier, 4)
    # In the wrong order, a model with less noise would be accounted as the one with more.
    swapped = train(made[::-1], parts, seeds)
    assert np.abs(flat(swapped[0]) - flat(stacked[0])).max() > 1e-3
    for odd in (recipe(steps=5), recipe(privacy=None), recipe(SMALL_VAE), recipe(engine="vectorized")):
        with pytest.raises(ValueError, match="differ in rate, batch_size, privacy alone"):
            train([made[0], odd], parts[:2], [1, 2])
    with pytest.raises(ValueError, match="a recipe each"):
        train(made[:2], parts, seeds)


@pytest.mark.parametrize(
    "changed",
    [{"ema": 1.0}, {"ema": -0.1}, {"momentum": 1.0}, {"physical_batch": 0}, {"schedule": "step"}, {"engine": "ghost"},
     {"optimizer": "lamb"}, {"learning_rate": 0.0}, {"batch_size": 0.0}],
    ids=str,
)  # fmt: skip
def test_a_recipe_out_of_range_is_one_sentence(changed: dict[str, Any]) -> None:
    with pytest.raises(UserError) as caught:
        recipe(**changed)
    assert "\n" not in str(caught.value)
