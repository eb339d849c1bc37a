"""Intervals against published values, exact sums and other libraries."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench.games import intervals


def test_newcombe_interval_matches_the_published_one() -> None:
    found = intervals.newcombe(56, 70, 48, 80)  # table II (a) of the paper, method 10: 0.2 (0.0524, 0.3339)
    assert (found["value"], found["low"], found["high"]) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (1, 7), (3, 20), (7, 7), (199, 200)])
def test_clopper_pearson_and_wilson_match_scipy(hits: int, n: int) -> None:
    for interval, method in ((intervals.clopper_pearson(hits, n), "exact"), (intervals.wilson(hits, n), "wilson")):
        truth = stats.binomtest(hits, n).proportion_ci(0.95, method)
        assert interval == pytest.approx((truth.low, truth.high), abs=1e-12)
    uppers = intervals.clopper_pearson_upper(np.array([hits, n]), n, 0.025)
    assert uppers.tolist() == [intervals.clopper_pearson(hits, n)[1], 1]


@pytest.mark.parametrize(("n", "rate"), [(12, 0.03), (12, 0.4), (40, 0.97)])
def test_clopper_pearson_covers_exactly(n: int, rate: float) -> None:
    """Sums over all outcomes: at least 95 %, and less at half of the width."""
    chance = stats.binom.pmf(np.arange(n + 1), n, rate)
    ends = np.array([intervals.clopper_pearson(hits, n) for hits in range(n + 1)])
    middle = np.arange(n + 1) / n
    for width, enough in ((1.0, True), (0.5, False)):
        low, high = middle - width * (middle - ends[:, 0]), middle + width * (ends[:, 1] - middle)
        assert (chance[(low <= rate) & (rate <= high)].sum() >= 0.95) == enough


def test_students_quantiles_are_those_of_scipy_to_the_bit() -> None:
    from scipy import special

    degrees = range(1, len(intervals.STUDENT) + 4)
    assert [intervals.student(k) for k in degrees] == [special.stdtrit(k, 1 - intervals.TAIL) for k in degrees]


def test_over_seeds_takes_the_wider_interval() -> None:
    assert intervals.over_seeds([0.6], [0.1]) == pytest.approx({"value": 0.6, "low": 0.404, "high": 0.796}, abs=1e-4)
    within = intervals.over_seeds([0.6, 0.6, 0.6], [0.1, 0.1, 0.1])
    assert within["high"] - 0.6 == pytest.approx(intervals.Z * 0.1 / np.sqrt(3))
    between = intervals.over_seeds([0.5, 0.6, 0.7], [0.0, 0.0, 0.0])
    assert between["high"] - 0.6 == pytest.approx(stats.t.ppf(0.975, 2) * 0.1 / np.sqrt(3))
    with pytest.raises(ValueError, match="0 values"):
        intervals.over_seeds([], [])


def test_a_paired_difference_excludes_the_variance_between_seeds() -> None:
    values, ses = [0.1, 0.2, 0.0], [0.03, 0.03, 0.03]
    wide, narrow = intervals.over_seeds(values, ses), intervals.over_seeds(values, ses, between=False)
    assert narrow["high"] - narrow["value"] == pytest.approx(1.959964 * 0.03 / 3**0.5, rel=1e-5)
    assert wide["high"] > narrow["high"]
