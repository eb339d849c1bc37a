"""Training does what is accounted: the batches, the sums, the noise, the steps, and what is remembered of them."""

from __future__ import annotations

import gc
import shutil
import threading
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, chi2

from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.source_code import reached
from bench.dp import accounting, networks, sampling, vae
from bench.dp import train as training
from bench.dp import training_loop as engine
from bench.dp.joint_training import train_jointly
from bench.dp.layers import Single
from bench.dp.networks import GAN, Autoencoder, Classifier
from bench.dp.recipe import SCHEDULES, Privacy, Recipe, private_training
from bench.dp.tensorflow_setup import tensorflow
from bench.dp.train import caching, train
from bench.dp.vae import VAE
from bench.dp.weights_cache import WeightsCache
from bench.models.classifier import batch_rate, classify, standard, uniform
from bench.store.store import Store

TINY = 1e-6  # a test that is right fails once in a million
CLASSIFIER = Classifier((6,), 3, (5,), "tanh")
SMALL_VAE = VAE((6,), (5,), 2, "tanh")
CONVOLUTIONS = Classifier((3, 2, 1), 3, (4,), "tanh", (2, 3))
HUGE_CLIP = Privacy(1e6, 0.0)


def examples(n: int = 20, seed: int = 0, shape: tuple[int, ...] = (6,)) -> Examples:
    rng = np.random.default_rng(seed)
    return Examples(rng.random((n, *shape)), rng.integers(0, 3, n), 3)


def changed(part: Examples, row: int, value: float) -> Examples:
    """The same records but one, past the check that keeps such values out."""
    x = part.x.copy()
    x[row, ::2] = value
    out = copy(part)
    object.__setattr__(out, "x", x)
    return out


def recipe(net: Any = CLASSIFIER, **changes: Any) -> Recipe:
    values = {"steps": 4, "rate": 0.5, "batch_size": 10.0, "learning_rate": 0.1, "optimizer": "sgd"}
    return Recipe(net, **{**values, "privacy": Privacy(0.5, 1.0), **changes})


def flat(fit: Any) -> np.ndarray[Any, Any]:
    return np.concatenate([np.ravel(w) for w in fit.weights])


def one(made: Recipe, part: Examples, seed: int = 1) -> np.ndarray[Any, Any]:
    return flat(train(made, [part], [seed])[0])


# --- batches ---


def rows_of(rate: float, n: int, steps: int, seed: int = 3) -> np.ndarray[Any, Any]:
    return sampling.poisson_rows([rate], [n], [np.random.default_rng(seed)], steps)[:, 0]


def spread_p(counts: Any, n: int, rate: float) -> float:
    """Two-sided test that counts are binomial by their squared distance from the mean."""
    square = float(np.sum((counts - n * rate) ** 2) / (n * rate * (1 - rate)))
    return 2 * float(min(chi2.cdf(square, len(counts)), chi2.sf(square, len(counts))))


@pytest.mark.parametrize(("n", "rate", "steps"), [(300, 0.2, 1500), (300, 0.015, 6000)], ids=["coins", "by size"])
def test_batch_sizes_are_binomial(n: int, rate: float, steps: int) -> None:
    assert (rate * sampling.FEW > 1) == (rate == 0.2)
    rows = rows_of(rate, n, steps)
    sizes = (rows >= 0).sum(1)
    assert spread_p(sizes, n, rate) > TINY
    total = int(sizes.sum())
    assert 2 * min(binom.cdf(total, n * steps, rate), binom.sf(total - 1, n * steps, rate)) > TINY
    by_record = np.bincount(rows[rows >= 0], minlength=n)
    assert spread_p(by_record, steps, rate) > TINY
    # Records know nothing of one another: pairs come together as often as chance has it.
    first, second = ((rows == k).any(1) for k in (0, 299))
    both = int((first & second).sum())
    assert 2 * min(binom.cdf(both, steps, rate**2), binom.sf(both - 1, steps, rate**2)) > TINY
    # Mutant: shuffled batches, all of one size, each record once an epoch.
    assert spread_p(np.full(steps, n * rate), n, rate) < TINY
    assert spread_p(np.full(n, steps * rate), steps, rate) < TINY


def test_no_batch_is_cut_and_no_record_is_in_one_twice() -> None:
    sizes = [50, 0, 7]
    rates = [0.3, 0.3, 0.6]
    made = sampling.poisson_rows(rates, sizes, [np.random.default_rng(k) for k in range(3)], 200)
    again = [np.random.default_rng(k) for k in range(3)]
    for step in made:
        for rate, n, rng, row in zip(rates, sizes, again, step, strict=True):
            drawn = np.flatnonzero(rng.random(n) < rate)
            assert row[: len(drawn)].tolist() == drawn.tolist()
            assert (row[len(drawn) :] == -1).all()
    assert made.shape[2] == (made >= 0).sum(2).max()


@pytest.mark.parametrize(
    ("privacy", "how", "values"),
    [
        (None, "onepass", (0.9,)),
        (Privacy(0.5, 1.0), "onepass", (0.9, np.nan)),
        (Privacy(0.5, 1.0), "vectorized", (np.nan,)),
    ],
    ids=["plain", "onepass", "vectorized"],
)
def test_padding_contributes_nothing(privacy: Privacy | None, how: str, values: tuple[float, ...]) -> None:
    parts = [examples(6, 1), examples(40, 2)]
    made = recipe(SMALL_VAE, rate=0.2, steps=3, privacy=privacy, engine=how)
    for seed in range(100):  # one under which no batch of the first part holds record 0, which padding points at
        rows = sampling.poisson_rows([made.rate], [6], [sampling.streams(seed).batches], made.steps)
        if not (rows == 0).any() and (rows >= 0).any():
            break
    before = train(made, parts, [seed, 1000])
    for value in values:
        after = train(made, [changed(parts[0], 0, value), parts[1]], [seed, 1000])
        for a, b in zip(before, after, strict=True):
            assert np.array_equal(flat(a), flat(b))
    if how == "vectorized":
        return
    drawn = int(rows.max())
    moved = train(made, [changed(parts[0], drawn, 0.9), parts[1]], [seed, 1000])
    assert not np.array_equal(flat(before[0]), flat(moved[0]))
    assert np.array_equal(flat(before[1]), flat(moved[1]))  # and no model hears of another's records


# --- sums ---


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
    np.testing.assert_allclose(update(doubled), 2 * base, atol=1e-6)  # a mean would give the same twice
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
def test_the_divergence_from_the_prior_is_alive(privacy: Privacy | None) -> None:
    """The log variance's weights must feel the weight of the KL; given by add_loss it would have no gradient here."""
    ends = []
    for weight in (0.0, 100.0):
        made = recipe(replace(SMALL_VAE, kl_weight=weight), steps=1, rate=1.0, privacy=privacy, learning_rate=0.01)
        [fit] = train(made, [examples()], [1])
        ends.append(fit.weights[0][:, 2:])  # of the encoder's last layer, the half that gives the log variance
    assert np.abs(ends[0] - ends[1]).max() > 0.01


def test_the_divergence_is_the_closed_form() -> None:
    tf = tensorflow()
    x = tf.zeros((2, 6))
    code = tf.constant([[0.0, 0.0, 0.0, 0.0], [1.0, -2.0, 0.5, -1.0]])
    weighted = replace(SMALL_VAE, kl_weight=3.0).loss([tf.zeros((2, 6)), code], x, None)
    known = [0.0, 0.5 * (1 + 4 + np.exp(0.5) - 0.5 + np.exp(-1) + 1 - 2)]
    np.testing.assert_allclose(weighted, 6 * np.log(2) + 3 * np.array(known), rtol=1e-6)


@pytest.mark.parametrize("net", [CLASSIFIER, SMALL_VAE, GAN((6,), (5,), 2)], ids=["classifier", "vae", "gan"])
@pytest.mark.parametrize("how", ["onepass", "vectorized", None], ids=["onepass", "vectorized", "plain"])
def test_a_lot_in_pieces_is_the_lot(net: Any, how: str | None) -> None:
    """Each piece clipped, the sum noised once: with noise a step, pieces could not agree with the whole."""
    parts, seeds = [examples(40), examples(12, 1)], [1, 2]
    made = recipe(net, engine=how or "onepass", privacy=Privacy(0.5, 1.0) if how else None, rate=0.6)
    whole = train(made, parts, seeds)
    for piece in (1, 7, 16):  # rows of both models together: up to 36 pieces, and a last one that is not full
        for a, b in zip(whole, train(replace(made, physical_batch=piece), parts, seeds), strict=True):
            np.testing.assert_allclose(flat(a), flat(b), rtol=0, atol=2e-6)


def test_networks_are_clipped_apart_where_that_is_asked_for() -> None:
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


# --- options of the optimizer ---


def test_the_average_of_the_weights_is_the_average_of_the_weights() -> None:
    """Against the recursion by hand, over the weights after each of the steps."""
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


def test_schedules_end_at_nothing() -> None:
    part = examples()

    def moved(steps: int, schedule: str) -> float:
        """How far the last step of four moves the weights, all records in every batch and no noise."""
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


def test_each_model_has_its_own_rate_divisor_clip_and_noise() -> None:
    made = [
        recipe(privacy=Privacy(0.5, 1.0)),
        recipe(privacy=Privacy(0.1, 3.0), rate=0.2, batch_size=3.0),
        recipe(privacy=Privacy(2.0, 0.1), rate=0.9),
    ]
    parts, seeds = [examples(20), examples(12, 1), examples(33, 2)], [5, 6, 7]
    together = train(made, parts, seeds)
    for fit, single, part, seed in zip(together, made, parts, seeds, strict=True):
        np.testing.assert_allclose(flat(fit), one(single, part, seed), rtol=0, atol=2e-6)
        assert single.privacy
        assert fit.dp_event == accounting.training_event(single.rate, single.privacy.noise_multiplier, 4)
    # Handed the wrong way round, a model that was noised less would be accounted as the one that was noised more.
    swapped = train(made[::-1], parts, seeds)
    assert np.abs(flat(swapped[0]) - flat(together[0])).max() > 1e-3
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


# --- a generator that meets no record ---


def test_the_generator_of_a_gan_learns_and_no_record_reaches_it_but_through_the_discriminator() -> None:
    """Records of one bright corner: the generator's pictures go there, privately too."""
    net = GAN((6,), (16,), 3)
    part = Examples(np.tile([0.95, 0.9, 0.95, 0.05, 0.1, 0.05], (200, 1)), np.zeros(200, int), 1)
    z = np.random.default_rng(0).standard_normal((50, 3))

    def pictures(privacy: Privacy | None, steps: int, **changed: Any) -> Any:
        made = recipe(net, **{"optimizer": "adam", "learning_rate": 0.01, "steps": steps, "batch_size": 100.0,
                              "momentum": 0.5, "privacy": privacy, **changed})  # fmt: skip
        [fit] = train(made, [part], [1])
        return networks.mapping(networks.generator(net, fit.weights))(z), fit

    before, _ = pictures(None, 1, learning_rate=1e-9)
    for privacy in (None, Privacy(1.0, 0.5)):
        after, fit = pictures(privacy, 300)
        assert np.abs(before.mean(0) - part.x[0]).mean() > 0.3
        assert np.abs(after.mean(0) - part.x[0]).mean() < 0.15
    assert fit.dp_event == accounting.training_event(0.5, 0.5, 300)
    # With a discriminator that is only noise, two data sets give one generator: it saw neither.
    other = Examples(1 - part.x, part.y, 1)
    made = recipe(net, privacy=Privacy(1e-12, 1e12), batch_size=100.0)
    first, second = (train(made, [records], [1])[0] for records in (part, other))
    np.testing.assert_allclose(flat(first), flat(second), rtol=0, atol=1e-6)


# --- noise ---


def test_noise_in_the_weights_has_the_accounted_scale() -> None:
    wide = Autoencoder((40,), (150,), 20)
    part = examples(5, shape=(40,))
    made = recipe(wide, steps=3, rate=1e-9, learning_rate=0.5, batch_size=8.0, privacy=Privacy(0.3, 1.7))
    noise = one(made, part) - one(replace(made, learning_rate=1e-30), part)

    def p(scale: float) -> float:
        square = float(np.sum(np.float64(noise) ** 2)) / (scale * 0.3 * 0.5 / 8 * 3**0.5) ** 2
        return 2 * float(min(chi2.cdf(square, noise.size), chi2.sf(square, noise.size)))

    assert noise.size > 10_000
    assert p(1.7) > TINY  # of three steps; with one stream for all steps it would be 1.7 times 3 ** 0.5
    assert p(0.9 * 1.7) < TINY
    assert p(1.1 * 1.7) < TINY


def test_equal_seeds_are_refused() -> None:
    parts = [examples(), examples(seed=1)]
    for seeds in ([1, 1], [1], [1, 2, 3]):
        with pytest.raises(ValueError, match="a different seed"):
            train(recipe(), parts, seeds)


@pytest.mark.parametrize(
    ("net", "optimizer"),
    [
        (CLASSIFIER, "sgd"),
        (SMALL_VAE, "adam"),
        (replace(SMALL_VAE, classes=3), "sgd"),
        (GAN((6,), (5,), 2), "sgd"),
        (CONVOLUTIONS, "sgd"),
    ],
    ids=["classifier", "vae", "conditional vae", "gan", "convolutions"],
)
def test_together_is_one_by_one_noise_included(net: Any, optimizer: str) -> None:
    made = recipe(net, optimizer=optimizer, learning_rate=0.02)
    parts = [examples(n, k, net.shape) for k, n in enumerate((20, 1, 0, 33))]
    seeds = [5, 6, 7, 8]
    together = train(made, parts, seeds)
    for fit, part, seed in zip(together, parts, seeds, strict=True):
        np.testing.assert_allclose(flat(fit), one(made, part, seed), rtol=0, atol=2e-6)


def test_the_same_seed_gives_the_same_weights_to_the_bit() -> None:
    parts = [examples(), examples(seed=1)]
    first, again, other = (train(recipe(SMALL_VAE), parts, seeds) for seeds in ([1, 2], [1, 2], [1, 3]))
    for k in range(2):
        assert np.array_equal(flat(first[k]), flat(again[k]))
    assert not np.allclose(flat(first[1]), flat(other[1]))


def test_data_start_and_noise_are_streams_apart() -> None:
    own, other = sampling.streams(4), sampling.streams(5)
    keys = {own.noise, own.noise_inputs, own.unclipped, other.noise, other.noise_inputs, other.unclipped}
    assert len(keys) == 6
    numbers = {s.random() for s in (own.start, own.batches, other.start, other.batches)}
    assert len(numbers) == 4


# --- what comes in goes wrong ---


@pytest.mark.parametrize(("engine", "optimizer"), [("onepass", "adam"), ("onepass", "sgd"), ("vectorized", "adam")])
def test_weights_stay_finite(engine: str, optimizer: str) -> None:
    part = examples(9)
    for row, value in enumerate([np.nan, np.inf, -np.inf, 1e30, -1e30, 3e38]):
        part = changed(part, row, value)
    made = recipe(SMALL_VAE, engine=engine, optimizer=optimizer, rate=0.9)
    for fit in train(made, [part, examples(0)], [1, 2]):
        assert np.isfinite(flat(fit)).all()


@pytest.mark.parametrize(("rate", "n"), [(1e-12, 20), (0.5, 0)])
def test_empty_batches_and_empty_parts(rate: float, n: int) -> None:
    [fit] = train(recipe(rate=rate), [examples(n)], [1])
    assert np.isfinite(flat(fit)).all()
    assert fit.steps == 4


def test_plain_training_that_diverges_is_an_error() -> None:
    with pytest.raises(FloatingPointError, match="smaller learning rate"):
        train(recipe(privacy=None), [changed(examples(), 3, np.nan)], [1], "a classifier")


@dataclass(frozen=True)
class Convolved(Classifier):
    """A small network of the kind that ghost clipping does not know."""

    def connect(self, layers: Any, x: Any, draw: Any, label: Any) -> list[Any]:
        from tensorflow import keras

        h = keras.layers.DepthwiseConv2D(2, activation="tanh", name="convolution")(x)
        return [layers.dense(layers.flatten(h), self.classes)]


@dataclass(frozen=True)
class Bent(Classifier):
    """A classifier with one more layer, by name."""

    extra: str = ""

    def connect(self, layers: Any, x: Any, draw: Any, label: Any) -> list[Any]:
        import tensorflow as tf
        from tensorflow import keras

        h = layers.dense(x, 5, "tanh")
        if self.extra == "norm":
            h = keras.layers.BatchNormalization()(h)
        if self.extra == "centred":
            h = keras.layers.Lambda(lambda t: t - tf.reduce_mean(t, 0))(h)
        if self.extra == "regularised":
            h = keras.layers.Dense(5, kernel_regularizer="l2")(h)
        if self.extra == "twice":
            again = keras.layers.Dense(5, name="again")
            h = again(again(h))
        return [layers.dense(h, self.classes)]

    def loss(self, outputs: list[Any], x: Any, y: Any) -> Any:
        import tensorflow as tf

        losses = super().loss(outputs, x, y)
        return tf.reduce_mean(losses) if self.extra == "reduced" else losses


@pytest.mark.parametrize("engine", ["onepass", "vectorized"])
@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ("norm", "batch means|batch_normalization"),
        ("centred", "mixes records"),
        ("regularised", "add_loss"),
        ("reduced", "one number per record"),
    ],
)
def test_networks_that_break_the_clip_are_refused(extra: str, why: str, engine: str) -> None:
    made = recipe(Bent((6,), 3, extra=extra), engine=engine)
    with pytest.raises(ValueError, match=why):
        train(made, [examples()], [1])


def test_what_one_pass_does_not_know_trains_with_the_reference() -> None:
    net, part = Convolved((3, 3, 1), 3), examples(shape=(3, 3, 1))
    with pytest.raises(ValueError, match=r"'convolution'.*engine=vectorized"):
        train(recipe(net), [part], [1])
    with pytest.raises(ValueError, match=r"'again' is used twice.*engine=vectorized"):
        train(recipe(Bent((6,), 3, extra="twice")), [examples()], [1])
    plain = one(recipe(net, privacy=None), part)
    made = recipe(net, engine="vectorized", privacy=HUGE_CLIP)
    np.testing.assert_allclose(one(made, part), plain, rtol=0, atol=1e-5)
    twice = Bent((6,), 3, extra="twice")
    np.testing.assert_allclose(
        one(replace(made, net=twice), examples()), one(recipe(twice, privacy=None), examples()), rtol=0, atol=1e-5
    )


def test_records_are_let_go_of_when_a_training_ends() -> None:
    """TensorFlow keeps every program that was traced: captured records would pile up, a copy a training."""
    tf, part = tensorflow(), examples(37)
    for privacy in (None, Privacy(0.5, 1.0)):
        train(recipe(privacy=privacy), [part], [1])
        gc.collect()
        kept = [o for o in gc.get_objects() if isinstance(o, type(tf.constant(0))) and tuple(o.shape) == part.x.shape]
        assert not kept


# --- many at once ---


def procedure(k: int) -> Any:
    """Two trainings in a row, as of a defense: the second on what came out of the first."""
    part = examples(20 + k, k)
    [first] = train(recipe(Autoencoder((6,), (5,), 3), learning_rate=0.01), [part], [100 + k], "first")
    encoder, _ = networks.halves(Autoencoder((6,), (5,), 3), first.weights)
    codes = Examples(networks.mapping(encoder)(part.x), part.y, 3)
    [second] = train(recipe(Classifier((3,), 3, (4,))), [codes], [200 + k], "second")
    return k, first, second


def test_calls_together_give_what_each_gives_alone_in_a_training_a_stage(calls: list[Any]) -> None:
    found = train_jointly([lambda k=k: procedure(k) for k in range(4)])
    assert [(len(arguments[1]), arguments[3]) for arguments in calls] == [(4, "first"), (4, "second")]
    for k, (name, *fits) in enumerate(found):
        assert name == k
        for fit, alone in zip(fits, procedure(k)[1:], strict=True):
            np.testing.assert_allclose(flat(fit), flat(alone), rtol=0, atol=1e-5)
            assert fit.dp_event == alone.dp_event
    assert train_jointly([]) == []


def test_calls_of_other_shapes_and_lengths_go_side_by_side(calls: list[Any]) -> None:
    def short() -> str:
        return "nothing to train"

    def other() -> Any:
        return train(recipe(SMALL_VAE), [examples(9)], [7], "first")[0]

    found = train_jointly([short, lambda: procedure(0), other, lambda: procedure(1)])
    assert sorted(len(arguments[1]) for arguments in calls) == [1, 2, 2]
    assert found[0] == "nothing to train"
    np.testing.assert_allclose(flat(found[2]), flat(other()), rtol=0, atol=1e-6)


def test_a_call_that_fails_ends_all_and_leaves_no_thread() -> None:
    reached = []

    def fails() -> None:
        train(recipe(), [examples()], [1])
        raise RuntimeError("after its first training")

    def waits() -> None:
        train(recipe(), [examples()], [2])
        try:
            train(recipe(), [examples()], [3])
            reached.append("trained on")
        except Exception:  # noqa: BLE001 - what a component might do
            reached.append("handled")

    before = threading.active_count()
    for order in ([fails, waits], [waits, fails]):
        with pytest.raises(RuntimeError, match="after its first"):
            train_jointly(order)
    assert reached == []
    assert threading.active_count() == before
    with pytest.raises(ValueError, match="a different seed"):  # noise of one model would be that of another
        train_jointly([lambda: train(recipe(), [examples()], [1])] * 2)
    assert threading.active_count() == before


def test_calls_together_are_remembered(store: Store, calls: list[Any]) -> None:
    for _ in range(2):
        train_jointly([lambda k=k: procedure(k) for k in range(2)])
    assert len(calls) == 2


def test_calls_of_calls_train_as_one_too(calls: list[Any]) -> None:
    """Say the seeds of a control, each of which plays an attack that trains shadow models."""

    def outer(k: int) -> Any:
        return train_jointly([lambda j=j: train(recipe(), [examples(9, j)], [j])[0] for j in (2 * k, 2 * k + 1)])

    found = train_jointly([lambda k=k: outer(k) for k in range(3)])
    assert [len(arguments[1]) for arguments in calls] == [6]
    for k, fits in enumerate(found):
        for j, fit in zip((2 * k, 2 * k + 1), fits, strict=True):
            [alone] = train(recipe(), [examples(9, j)], [j])
            np.testing.assert_allclose(flat(fit), flat(alone), rtol=0, atol=1e-5)


# --- remembered ---


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with caching(WeightsCache(tmp_path)):
        yield Store(tmp_path)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every real training from here on."""
    seen: list[Any] = []
    real = engine.fit

    def counted(*arguments: Any) -> Any:
        seen.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(engine, "fit", counted)
    return seen


def test_what_was_trained_is_not_trained_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [examples(), examples(7, 1)]
    first = train(recipe(), parts, [1, 2])
    monkeypatch.setattr(engine, "fit", None)
    for a, b in zip(first, train(recipe(), parts, [1, 2]), strict=True):
        assert np.array_equal(flat(a), flat(b))
        assert (a.steps, a.dp_event, a.seconds) == (b.steps, b.dp_event, b.seconds)
    with caching(None), pytest.raises(TypeError):
        train(recipe(), parts, [1, 2])


def test_fits_are_counted_once_each_with_what_they_cost_and_what_was_recalled(store: Store) -> None:
    def ask() -> Any:
        return train_jointly([lambda k=k: procedure(k) for k in range(2)])

    with training.recording_trainings() as first:
        [_, fit, _], _ = ask()
        ask()  # found by now, but made within the block
    assert len(first.seconds) == 2
    assert fit.seconds in first.seconds.values()
    assert first.seconds_cached == 0
    assert all(map(store.weights.has, first.seconds))
    with training.recording_trainings() as again:
        ask()
        ask()
    assert again.seconds == first.seconds
    assert again.seconds_cached == pytest.approx(sum(first.seconds.values()))
    with training.recording_trainings() as none:
        pass
    assert (none.seconds, none.seconds_cached) == ({}, 0)
    assert not store.weights.has("0" * 32)


def test_fits_within_the_threads_of_calls_are_counted_too(store: Store) -> None:
    def ask(k: int) -> Any:
        made = {"seconds": np.float64(k + 1)}
        return training.cached((k,), recipe().net, lambda: made)

    for recalled in (0.0, 6.0):
        with training.recording_trainings() as fits:
            train_jointly([lambda k=k: ask(k) for k in range(3)])
        assert sorted(fits.seconds.values()) == [1, 2, 3]
        assert fits.seconds_cached == recalled


def test_any_change_trains_again(store: Store, calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    part = examples()
    train(recipe(), [part], [1])
    relabelled = Examples(part.x, np.roll(part.y, 1), 3)
    train(recipe(), [changed(part, 19, 0.25)], [1])
    train(recipe(), [relabelled], [1])
    train(recipe(), [part], [2])
    train(recipe(privacy=Privacy(0.5, 1.1)), [part], [1])
    train(recipe(replace(CLASSIFIER, activation="relu")), [part], [1])
    assert len(calls) == 6
    train(recipe(), [part], [1])
    assert len(calls) == 6
    monkeypatch.setattr(training, "code_digest", lambda files: "other")
    train(recipe(), [part], [1])
    assert len(calls) == 7


def test_the_code_of_a_network_from_elsewhere_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    roots: list[Path] = []
    monkeypatch.setattr(training, "code_digest", lambda files: roots.extend(files) or "same")
    training.training_code(Bent((6,), 3))
    assert Path(__file__) in roots
    names = {path.name for path in reached(path for path in roots if path != Path(__file__))}
    assert names >= {
        "clipping.py", "training_loop.py", "training_program.py", "sampling.py", "layers.py", "networks.py",
        "optimizer.py", "randomness.py", "train.py",
    }  # fmt: skip
    assert not names & {"joint_training.py", "store.py"}


def test_nothing_is_pickled(store: Store) -> None:
    train(recipe(), [examples()], [1])
    [path] = [p for p in store.root.rglob("*") if p.is_file()]
    with np.load(path, allow_pickle=False) as found:
        assert {found[name].dtype.kind for name in found.files} <= set("fi")


def test_steps_that_ran_are_steps_that_are_accounted(store: Store) -> None:
    made = recipe(steps=7)
    [fit] = train(made, [examples()], [1])
    assert fit.steps == 7
    assert fit.dp_event == accounting.training_event(0.5, 1.0, 7)
    [path] = store.root.rglob("*.npz")
    found = store.weights.load(path.stem)
    assert found is not None
    for steps in (6, 8):
        store.weights.save(path.stem, {**found, "steps": np.array(steps)})
        with pytest.raises(ValueError, match=f"{steps} steps ran, but 7"):
            train(made, [examples()], [1])


def test_a_killed_run_loses_one_fit(store: Store, calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> list[Any]:
        return [train(recipe(SMALL_VAE), [examples(seed=k)], [k])[0] for k in range(3)]

    with caching(None):
        whole = run()
    counted = engine.fit

    def killed(made: Any, parts: Any, seeds: Any, *rest: Any) -> Any:
        if seeds == [2]:
            raise KeyboardInterrupt
        return counted(made, parts, seeds, *rest)

    monkeypatch.setattr(engine, "fit", killed)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.setattr(engine, "fit", counted)
    calls.clear()
    resumed = run()
    assert [arguments[2] for arguments in calls] == [[2]]
    for a, b in zip(whole, resumed, strict=True):
        assert np.array_equal(flat(a), flat(b))
        assert (a.steps, a.dp_event) == (b.steps, b.dp_event)


def test_a_damaged_memory_trains_again(store: Store, calls: list[Any]) -> None:
    first = one(recipe(), examples())
    [path] = store.root.rglob("*.npz")
    path.write_bytes(path.read_bytes()[:100])
    assert np.array_equal(one(recipe(), examples()), first)
    shutil.rmtree(store.root / ".local")
    assert np.array_equal(one(recipe(), examples()), first)
    assert len(calls) == 3


def test_progress_is_told_to_the_end() -> None:
    heard: list[tuple[str, int, int]] = []
    with caching(None, lambda *said: heard.append(said)):
        [fit] = train(recipe(steps=43), [examples()], [1], "some net")
    assert fit.steps == 43
    assert heard[-1] == ("some net", 43, 43)
    assert [done for _, done, _ in heard] == sorted({done for _, done, _ in heard})


# --- what stands around it ---


def test_private_training() -> None:
    made = private_training(2.0, 1000, 0.5, 30, 0.7)
    assert made is not None
    assert made.l2_norm_clip == 0.7
    dp_event = accounting.claim(accounting.training_event(0.5, made.noise_multiplier, 30), 1000)
    assert 1.98 <= dp_event["epsilon"] <= 2.0
    assert private_training(float("inf"), 1000, 0.5, 30, 0.7) is None
    with pytest.raises(UserError, match="above 0"):
        private_training(0.0, 1000, 0.5, 30, 0.7)


def test_the_classifier_learns_and_predicts_probabilities() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 90)
    part = Examples((np.eye(3)[y] + 0.1 * rng.random((90, 3))) / 1.1, y, 3)
    found = classify(part, 1, standard(part, hidden=(8,), steps=60, learning_rate=0.05))
    chances = found.predict(part.x)
    assert chances.shape == (90, 3)
    np.testing.assert_allclose(chances.sum(1), 1, atol=1e-5)
    assert (chances.argmax(1) == y).mean() > 0.95
    assert accounting.describe(found.fit.dp_event) == "none"
    private = classify(part, 1, replace(standard(part, hidden=(8,), steps=3), privacy=Privacy(1.0, 2.0)))
    assert accounting.describe(private.fit.dp_event) == "Poisson, rate 1, 3 steps, noise multiplier 2"
    assert uniform(4)(part.x).tolist() == [[0.25] * 4] * 90
    assert [batch_rate(n, 50) for n in (0, 10, 200)] == [1, 1, 0.25]


def test_halves_are_the_whole() -> None:
    part = examples()
    [fit] = train(recipe(Autoencoder((6,), (5,), 3)), [part], [1])
    encoder, decoder = networks.halves(Autoencoder((6,), (5,), 3), fit.weights)
    whole = networks.build(Autoencoder((6,), (5,), 3), Single())
    whole.set_weights(fit.weights)
    decode = networks.mapping(decoder, "sigmoid", (2, 3))
    pictures = decode(networks.mapping(encoder)(part.x))
    assert pictures.shape == (20, 2, 3)
    np.testing.assert_allclose(pictures.reshape(20, 6), networks.mapping(whole, "sigmoid")(part.x), atol=1e-6)
    assert networks.mapping(encoder)(part.x[:0]).shape == (0, 3)
    fitted = train(recipe(SMALL_VAE), [part], [1])[0]
    assert networks.mapping(vae.decoder(SMALL_VAE, fitted.weights))(np.zeros((4, 2))).shape == (4, 6)
