"""Poisson batches have the accounted distribution, and random streams are distinct."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, chi2
from trainings import SMALL_VAE, TINY, changed, examples, flat, recipe

from bench.dp import sampling
from bench.dp.recipe import Privacy
from bench.dp.train import train


def batches_of(rate: float, n: int, seed: int = 3) -> sampling.PoissonBatches:
    return sampling.PoissonBatches([rate], [n], [np.random.default_rng(seed)])


def rows_of(rate: float, n: int, steps: int) -> np.ndarray[Any, Any]:
    return batches_of(rate, n).rows(steps)[:, 0]


def bernoulli_trials(rate: float, n: int, steps: int) -> np.ndarray[Any, Any]:
    """The reference, slowly: a trial for each record of each batch; its successes, (steps, n)."""
    rng = np.random.default_rng(5)
    return np.array([[rng.random() < rate for _ in range(n)] for _ in range(steps)])


def successes(rows: np.ndarray[Any, Any], n: int) -> np.ndarray[Any, Any]:
    """Whether each batch of `rows` (steps, width) holds each record, (steps, n)."""
    return (rows[:, :, None] == np.arange(n)).any(1)


def joint_p(found: np.ndarray[Any, Any], rate: float) -> float:
    """Chi-squared test of all records of two batches in a row: each of their 2 ** (2 n) outcomes has its chance."""
    pairs = found[: len(found) // 2 * 2].reshape(len(found) // 2, -1)
    ones = np.array([bin(outcome).count("1") for outcome in range(2 ** pairs.shape[1])])
    expected = len(pairs) * rate**ones * (1 - rate) ** (pairs.shape[1] - ones)
    assert expected.min() > 10
    counts = np.bincount(pairs @ 2 ** np.arange(pairs.shape[1]), minlength=len(expected))
    return float(chi2.sf(((counts - expected) ** 2 / expected).sum(), len(expected) - 1))


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.7], ids=str)
def test_two_batches_have_the_distribution_of_independent_trials(rate: float) -> None:
    steps = 60_000
    found = successes(rows_of(rate, 3, steps), 3)
    assert joint_p(found, rate) > TINY
    assert joint_p(bernoulli_trials(rate, 3, steps), rate) > TINY
    # Mutants: another rate, batches that are never empty, batches that serve twice, gaps that begin anew at each batch
    # (a record that just served is passed over), and records of neighbouring places that come together.
    assert joint_p(bernoulli_trials(rate + 0.02, 3, steps), rate) < TINY
    assert joint_p(found[found.any(1)], rate) < TINY
    assert joint_p(np.repeat(found[::2], 2, axis=0), rate) < TINY
    rested = found.copy()
    rested[1:, 0] &= ~found[:-1, 2]
    assert joint_p(rested, rate) < TINY
    pasted = found.copy()
    pasted[:, 1] = np.where(np.random.default_rng(0).random(steps) < 0.05, found[:, 0], found[:, 1])
    assert joint_p(pasted, rate) < TINY


def spread_p(counts: Any, n: int, rate: float) -> float:
    """The p value of a two-sided test that counts are binomial, from their squared distance to the mean."""
    square = float(np.sum((counts - n * rate) ** 2) / (n * rate * (1 - rate)))
    return 2 * float(min(chi2.cdf(square, len(counts)), chi2.sf(square, len(counts))))


@pytest.mark.parametrize(("n", "rate", "steps"), [(300, 0.5, 1500), (300, 0.2, 1500), (300, 0.015, 6000)], ids=str)
def test_batch_sizes_are_binomial(n: int, rate: float, steps: int) -> None:
    rows = rows_of(rate, n, steps)
    sizes = (rows >= 0).sum(1)
    assert spread_p(sizes, n, rate) > TINY
    total = int(sizes.sum())
    assert 2 * min(binom.cdf(total, n * steps, rate), binom.sf(total - 1, n * steps, rate)) > TINY
    by_record = np.bincount(rows[rows >= 0], minlength=n)
    assert spread_p(by_record, steps, rate) > TINY
    # Records are sampled independently: pairs occur as often as expected.
    first, second = ((rows == k).any(1) for k in (0, 299))
    both = int((first & second).sum())
    assert 2 * min(binom.cdf(both, steps, rate**2), binom.sf(both - 1, steps, rate**2)) > TINY
    # Mutant: shuffled batches of equal size, with each record once per epoch.
    assert spread_p(np.full(steps, n * rate), n, rate) < TINY
    assert spread_p(np.full(n, steps * rate), steps, rate) < TINY


def test_no_batch_is_truncated_and_no_record_is_in_a_batch_twice() -> None:
    sizes, rates = [50, 0, 7], [0.3, 0.3, 0.6]
    made = sampling.PoissonBatches(rates, sizes, [np.random.default_rng(k) for k in range(3)]).rows(200)
    for k, (n, rate) in enumerate(zip(sizes, rates, strict=True)):
        # By hand: the successes of one line of trials, by the gaps between them.
        gaps = np.random.default_rng(k).geometric(rate, 200 * n + 1) if n else []
        line = {int(place) for place in np.cumsum(gaps) - 1}
        for t, row in enumerate(made[:, k]):
            drawn = [record for record in range(n) if t * n + record in line]
            assert row[: len(drawn)].tolist() == drawn
            assert (row[len(drawn) :] == -1).all()
    assert made.shape[2] == (made >= 0).sum(2).max()


@pytest.mark.parametrize("rate", [1e-12, 0.01, 0.3, 0.7, 1.0], ids=str)
def test_batches_go_on_where_they_stopped(rate: float) -> None:
    whole, parts = batches_of(rate, 40).rows(60), batches_of(rate, 40)
    for first, last in pairwise((0, 1, 3, 4, 30, 60)):
        rows = parts.rows(last - first)[:, 0]
        width = rows.shape[1]
        assert np.array_equal(rows, whole[first:last, 0, :width])
        assert (whole[first:last, 0, width:] == -1).all()
    assert (rate < 1) or np.array_equal(whole[:, 0], np.tile(np.arange(40), (60, 1)))


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
    for seed in range(100):  # a seed with which no batch of the first part has record 0, the index of padding
        rows = sampling.PoissonBatches([made.rate], [6], [sampling.streams(seed).batches]).rows(made.steps)
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
    assert np.array_equal(flat(before[1]), flat(moved[1]))  # records of one model do not affect the other


def test_batches_initial_weights_and_noise_use_distinct_streams() -> None:
    one, other = sampling.streams(4), sampling.streams(5)
    keys = {one.noise, one.noise_inputs, one.unclipped, other.noise, other.noise_inputs, other.unclipped}
    assert len(keys) == 6
    numbers = {s.random() for s in (one.start, one.batches, other.start, other.batches)}
    assert len(numbers) == 4
