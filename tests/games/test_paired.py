"""Paired differences equal naive computations, and their intervals have exact coverage."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from scipy import stats
from slow_truths import delong_truth, drawn

from bench.games import intervals, metrics, paired

Gain = Callable[[np.ndarray, np.ndarray], Mapping[str, float]]


def test_gain_has_delongs_covariance() -> None:
    a, member = drawn(3, 40, 30)
    b = 0.7 * a + drawn(4, 40, 30)[0]
    found = paired.auc_gain(a, b, member)
    auc_a, _, a10, a01 = delong_truth(a, member)
    auc_b, _, b10, b01 = delong_truth(b, member)
    variance = np.var(a10 - b10, ddof=1) / 40 + np.var(a01 - b01, ddof=1) / 30
    assert found["value"] == pytest.approx(auc_a - auc_b)
    assert found["se"] == pytest.approx(np.sqrt(variance))
    assert found["high"] - found["low"] == pytest.approx(2 * intervals.Z * np.sqrt(variance))
    wider = paired.auc_gain(a, b, member, spread=2)
    assert wider["se"] ** 2 == pytest.approx(variance + 3 * metrics.auc(b, member)["se"] ** 2)
    unpaired = metrics.auc(a, member)["se"] ** 2 + metrics.auc(b, member)["se"] ** 2
    assert variance < 0.9 * unpaired  # mutant: the covariance left out


def test_the_gain_over_the_same_scores_is_zero_and_a_perfect_gain_has_an_interval() -> None:
    a, member = drawn(5, 40, 30)
    assert paired.auc_gain(a, a, member) == {"value": 0, "low": 0, "high": 0, "se": 0}
    perfect = paired.auc_gain(member.astype(float), np.zeros(70), member)
    assert perfect["value"] == 0.5
    assert perfect["low"] < 0.5 < perfect["high"]


def test_gain_of_shares_covers_the_difference_and_is_newcombes() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        both = rng.random(10)
        estimate = paired.share_gain((both < 0.7).astype(float), (both < 0.4).astype(float))
        covered += estimate["low"] <= 0.3 <= estimate["high"]
    assert stats.binom.cdf(covered, 2000, 0.93) > 1e-6
    # Without correlation it is the combination of two Wilson intervals, as for independent shares.
    up, down = metrics.share(np.array([1.0, 1, 0, 0])), metrics.share(np.array([1.0, 0, 1, 0]))
    estimate = paired.share_gain(np.array([1.0, 1, 0, 0]), np.array([1.0, 0, 1, 0]))
    assert estimate["high"] == pytest.approx(math.hypot(up["high"] - 0.5, 0.5 - down["low"]))
    sure = paired.share_gain(np.ones(10), np.zeros(10))
    assert sure["value"] == 1
    assert 0.5 < sure["low"] < 0.7


def coverage(gain: Gain, n: int, cells: tuple[float, float, float, float]) -> float:
    """The exact probability that an interval covers the true gain, over all outcomes of n pairs of 0 and 1.

    cells: the probabilities of a pair (1, 1), (1, 0), (0, 1) and (0, 0).
    """
    total = 0.0
    for a, b, c in itertools.product(range(n + 1), repeat=3):
        if a + b + c <= n:
            counts = np.array([a, b, c, n - a - b - c])
            estimate = gain(np.repeat([1.0, 1, 0, 0], counts), np.repeat([1.0, 0, 1, 0], counts))
            covers = estimate["low"] <= cells[1] - cells[2] <= estimate["high"]
            total += covers * float(stats.multinomial.pmf(counts, n, cells))
    return total


def independent_gain(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """The mutant: combines two Wilson intervals without their correlation, as for independent shares."""
    one, other = metrics.share(a), metrics.share(b)
    value = one["value"] - other["value"]
    low = value - math.hypot(one["value"] - one["low"], other["high"] - other["value"])
    high = value + math.hypot(one["high"] - one["value"], other["value"] - other["low"])
    return {"low": low, "high": high}


@pytest.mark.parametrize("cells", [(0.0, 0.5, 0.5, 0.0), (0.0, 0.3, 0.7, 0.0), (0.1, 0.4, 0.4, 0.1)])
def test_units_that_disagree_widen_the_interval_of_a_gain(cells: tuple[float, float, float, float]) -> None:
    """If one answer succeeds where the other fails, the correlation is negative and the variance larger."""
    assert coverage(paired.share_gain, 10, cells) > 0.92
    assert coverage(independent_gain, 10, cells) < 0.9


def test_units_reproduce_their_estimate() -> None:
    scores, member = drawn(3, 40, 30)
    value = metrics.auc(scores, member)["value"]
    assert paired.is_made_of(paired.auc_units(scores, member), value)
    assert not paired.is_made_of(paired.auc_units(scores, member), value + 1e-4)
    assert not paired.is_made_of({}, value)
    group = np.arange(70) % 3
    recalls = paired.recall_units(scores > 0, group)
    assert paired.is_made_of(recalls, metrics.balanced_recall(scores > 0, group)["value"])
