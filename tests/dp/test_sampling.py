"""Poisson batches have the accounted distribution, and random streams are distinct."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, chi2
from trainings import SMALL_VAE, TINY, changed, examples, flat, recipe

from bench.dp import sampling
from bench.dp.recipe import Privacy
from bench.dp.train import train


def rows_of(rate: float, n: int, steps: int, seed: int = 3) -> np.ndarray[Any, Any]:
    return sampling.poisson_rows([rate], [n], [np.random.default_rng(seed)], steps)[:, 0]


def spread_p(counts: Any, n: int, rate: float) -> float:
    """The p value of a two-sided test that counts are binomial, from their squared distance to the mean."""
    square = float(np.sum((counts - n * rate) ** 2) / (n * rate * (1 - rate)))
    return 2 * float(min(chi2.cdf(square, len(counts)), chi2.sf(square, len(counts))))


@pytest.mark.parametrize(("n", "rate", "steps"), [(300, 0.2, 1500), (300, 0.015, 6000)], ids=["bernoulli", "by size"])
def test_batch_sizes_are_binomial(n: int, rate: float, steps: int) -> None:
    assert (rate * sampling.FEW > 1) == (rate == 0.2)
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
    for seed in range(100):  # a seed with which no batch of the first part has record 0, the index of padding
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
    assert np.array_equal(flat(before[1]), flat(moved[1]))  # records of one model do not affect the other


def test_batches_initial_weights_and_noise_use_distinct_streams() -> None:
    one, other = sampling.streams(4), sampling.streams(5)
    keys = {one.noise, one.noise_inputs, one.unclipped, other.noise, other.noise_inputs, other.unclipped}
    assert len(keys) == 6
    numbers = {s.random() for s in (one.start, one.batches, other.start, other.batches)}
    assert len(numbers) == 4
