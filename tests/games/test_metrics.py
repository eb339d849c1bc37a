"""Estimates equal naive computations, and intervals cover in simulations; every test rejects a mutant."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from scipy import stats
from slow_truths import delong_truth, drawn

from bench.games import metrics, paired
from bench.games.intervals import Z

ERROR_RATE = 1e-6


@pytest.mark.parametrize("grain", [None, 1, 0.5])
@pytest.mark.parametrize("sizes", [(2, 2), (5, 30), (40, 23)])
def test_auc_equals_that_of_all_pairs(sizes: tuple[int, int], grain: float | None) -> None:
    scores, member = drawn(1, *sizes, shift=0.5)
    if grain:
        scores = np.round(scores / grain) * grain
    value, variance, _, _ = delong_truth(scores, member)
    found = metrics.auc(scores, member)
    assert found["value"] == pytest.approx(value)
    if 0 < value < 1:
        assert found["se"] == pytest.approx(np.sqrt(variance))
        assert 0 <= found["low"] < found["value"] < found["high"] <= 1
        assert metrics.auc(scores, member, spread=2)["se"] == pytest.approx(2 * np.sqrt(variance))


def test_auc_is_reflected_by_the_sign_and_invariant_to_order_and_scale() -> None:
    scores, member = drawn(2, 60, 40)
    scores = np.round(scores, 1)
    found, reflected = metrics.auc(scores, member), metrics.auc(-scores, member)
    assert reflected["value"] == pytest.approx(1 - found["value"])
    assert (reflected["low"], reflected["high"]) == pytest.approx((1 - found["high"], 1 - found["low"]))
    order = np.argsort(member)
    assert metrics.auc(scores[order], member[order]) == pytest.approx(found)
    assert metrics.auc(np.exp(3 * scores), member) == found


def test_auc_of_equal_scores_is_exactly_a_half() -> None:
    member = np.arange(50) < 20
    assert metrics.auc(np.full(50, 0.1), member) == {"value": 0.5, "low": 0.5, "high": 0.5, "se": 0.0}


@pytest.mark.parametrize("sign", [1, -1])
def test_auc_without_overlap_has_an_interval(sign: int) -> None:
    member = np.arange(50) < 20
    found = metrics.auc(sign * member.astype(float), member)
    edge = 0.025 ** (1 / 20)
    assert (found["value"], found["low"], found["high"]) == pytest.approx(
        (1, edge, 1) if sign > 0 else (0, 0, 1 - edge)
    )
    assert found["se"] > 0


def coverage_p(width: float, runs: int = 2000) -> float:
    """The p value of "at least 94 % of the intervals cover": the formula holds asymptotically."""
    truth, covered = stats.norm.cdf(0.5 / np.sqrt(2)), 0
    for seed in range(runs):
        found = metrics.auc(*drawn(seed, 150, 100, 0.5))
        logit = [np.log(found[key] / (1 - found[key])) for key in ("low", "value", "high")]
        low, high = (logit[1] + width * (end - logit[1]) for end in (logit[0], logit[2]))
        covered += low <= np.log(truth / (1 - truth)) <= high
    return float(stats.binomtest(covered, runs, 0.94, alternative="less").pvalue)


def test_auc_interval_covers() -> None:
    assert coverage_p(1.0) > ERROR_RATE
    assert coverage_p(0.8) < ERROR_RATE  # mutant: an interval of four fifths of the width


def noise_advantages(rule: str, runs: int = 1000) -> np.ndarray:
    found = []
    for seed in range(runs):
        scores, member = drawn(seed, 51, 38, shift=0)
        if rule == "halves":
            found.append(metrics.advantage(scores, member, np.random.default_rng(seed))["value"])
        else:
            found.append(max((scores[member] >= t).mean() - (scores[~member] >= t).mean() for t in scores))
    return np.array(found)


def test_advantage_on_noise_is_zero() -> None:
    limit = stats.norm.isf(ERROR_RATE / 2)
    found = noise_advantages("halves")
    assert abs(found.mean()) < limit * found.std() / np.sqrt(len(found))
    mutant = noise_advantages("best on the same records")
    assert mutant.mean() > limit * mutant.std() / np.sqrt(len(mutant))


def test_advantage_finds_a_leak_and_is_a_share_of_the_records() -> None:
    scores, member = drawn(6, 4000, 3001, shift=2.0)
    found = metrics.advantage(scores, member, np.random.default_rng(0))
    assert found["low"] < 2 * stats.norm.cdf(1) - 1 < found["high"]
    assert found["high"] - found["low"] < 0.05
    balanced = metrics.balanced_accuracy(found)
    assert balanced["value"] == (1 + found["value"]) / 2
    assert balanced["se"] == found["se"] / 2
    again = metrics.advantage(scores, member, np.random.default_rng(0))
    assert found == again


@pytest.mark.parametrize(("scores", "value"), [(np.arange(40) >= 20, 1.0), (np.zeros(40), 0.0)])
def test_advantage_at_the_edges(scores: np.ndarray, value: float) -> None:
    found = metrics.advantage(scores, np.arange(40) >= 20, np.random.default_rng(0))
    assert found["value"] == value
    assert -1 <= found["low"] <= value <= found["high"] <= 1
    assert found["se"] > 0


def naive_tpr(scores: np.ndarray, member: np.ndarray, fpr: float) -> tuple[int, int]:
    best = (0, 0)
    for threshold in scores:
        hits, alarms = int((scores[member] >= threshold).sum()), int((scores[~member] >= threshold).sum())
        if alarms / (~member).sum() <= fpr:
            best = max(best, (hits, alarms))
    return best


@pytest.mark.parametrize("fpr", [0.1, 0.03])
@pytest.mark.parametrize("grain", [None, 0.25, 10.0])
def test_tpr_at_fpr_equals_the_naive_one(grain: float | None, fpr: float) -> None:
    scores, member = drawn(7, 200, 350)
    if grain:
        scores = np.round(scores / grain) * grain
    found = metrics.tpr_at_fpr(scores, member, fpr)
    hits, alarms = naive_tpr(scores, member, fpr)
    assert (found["true_positives"], found["false_positives"]) == (hits, alarms)
    assert (found["members"], found["non_members"]) == (200, 350)
    exact = stats.binomtest(alarms, 350).proportion_ci(0.95, "exact")
    assert (found["fpr"], found["fpr_low"], found["fpr_high"]) == pytest.approx((alarms / 350, exact.low, exact.high))
    exact = stats.binomtest(hits, 200).proportion_ci(0.95, "exact")
    assert found["value"] == pytest.approx(hits / 200)
    assert found["low"] <= exact.low < exact.high <= found["high"]


def test_tpr_interval_covers_with_an_estimated_threshold() -> None:
    """Many members, few non-members, no leak: a mutant with an exact threshold covers under 70 % (p < 1e-6)."""
    rng, trials, covered, naive = np.random.default_rng(0), 400, 0, 0
    member = np.arange(11_000) < 10_000
    for _ in range(trials):
        found = metrics.tpr_at_fpr(rng.standard_normal(11_000), member, 0.01)
        covered += found["low"] <= 0.01 <= found["high"]
        exact = stats.binomtest(found["true_positives"], 10_000).proportion_ci(0.95, "exact")
        naive += exact.low <= 0.01 <= exact.high
    assert stats.binomtest(covered, trials, 0.95, alternative="less").pvalue > 1e-6
    assert stats.binomtest(naive, trials, 0.95, alternative="less").pvalue < 1e-6


def tpr_bounds(false_alarms: int, others: int, fpr: float, place: float) -> tuple[float, float]:
    """Interval of the TPR of 400 members with one score; `false_alarms` non-members are above the true threshold 2.

    place: the members' score, just below or just above that threshold.
    """
    scores = np.r_[np.full(400, place), np.full(false_alarms, 3.0), np.zeros(others - false_alarms)]
    found = metrics.tpr_at_fpr(scores, np.arange(len(scores)) < 400, fpr)
    return found["low"], found["high"]


@pytest.mark.parametrize(("others", "fpr"), [(1000, 0.01), (1500, 0.01), (300, 0.05)])
def test_an_estimated_threshold_uses_at_most_half_of_the_error_rate(others: int, fpr: float) -> None:
    """Sums over all counts of alarms: members are on one side of the true threshold, so the true TPR is 0 or 1.

    An interval that missed the truth for one more count of alarms, as with `at(fewest)` for `at(fewest - 1)`, would
    exceed the error rate; one that missed it for one less would be wider than necessary.
    """
    counts = np.arange(round(4 * fpr * others))
    chance = stats.binom.pmf(counts, others, fpr)
    assert chance.sum() > 1 - 1e-9
    below = [tpr_bounds(k, others, fpr, 1.9)[0] > 0 for k in counts]  # the truth is 0
    above = [tpr_bounds(k, others, fpr, 2.1)[1] < 1 for k in counts]  # the truth is 1
    for wrong, of_more in ((below, 1), (above, -1)):
        error = chance[wrong].sum()
        more = chance[np.roll(wrong, of_more) | wrong].sum()
        assert 0 < error <= 0.0125 < more


def test_ties_with_non_members_are_all_alarms() -> None:
    member = np.arange(40) < 20
    found = metrics.tpr_at_fpr(np.ones(40), member, 0.5)
    assert (found["true_positives"], found["false_positives"]) == (0, 0)
    mutant = metrics.tpr_at_fpr(1 - np.arange(40) / 1e9, member, 0.5)  # ties broken by the order of the records
    assert (mutant["true_positives"], mutant["false_positives"]) == (20, 10)


@pytest.mark.parametrize(("others", "fpr", "needed"), [(375, 0.01, 1000), (999, 0.01, 1000), (9999, 0.001, 10000)])
def test_a_small_fpr_requires_enough_non_members(others: int, fpr: float, needed: int) -> None:
    scores, member = drawn(8, 10, others)
    assert metrics.tpr_at_fpr(scores, member, fpr) == {"not_measurable": f"{others} non-members; {needed} are needed"}
    assert "value" in metrics.tpr_at_fpr(*drawn(8, 10, needed), fpr)


@pytest.mark.parametrize("grain", [None, 0.5])
@pytest.mark.parametrize("sizes", [(2, 2), (50, 20), (3000, 9000)])
def test_roc_corners_are_points_of_the_curve(sizes: tuple[int, int], grain: float | None) -> None:
    scores, member = drawn(9, *sizes)
    if grain:
        scores = np.round(scores / grain) * grain
    curve = metrics.roc(scores, member)
    assert len(curve["fp"]) == len(curve["tp"]) <= 200
    assert curve["fp"][0] == 0
    assert (curve["fp"][-1], curve["tp"][-1]) == (sizes[1], sizes[0])
    assert all(a < b for a, b in itertools.pairwise(curve["fp"]))
    assert curve["tp"] == sorted(curve["tp"])
    members, others = np.sort(scores[member]), np.sort(scores[~member])
    true = {(0, 0)} | {
        (len(others) - int(np.searchsorted(others, t)), len(members) - int(np.searchsorted(members, t))) for t in scores
    }
    assert set(zip(curve["fp"], curve["tp"], strict=True)) <= true
    assert all(isinstance(count, int) for count in curve["fp"] + curve["tp"])
    if sizes == (50, 20) and grain is None:  # few enough corners: none is left out
        assert curve["fp"] == list(range(21))


@pytest.mark.parametrize("hits", [0, 3, 20])
def test_accuracy_has_the_wilson_interval(hits: int) -> None:
    found = metrics.accuracy(np.arange(20) < hits)
    truth = stats.binomtest(hits, 20).proportion_ci(0.95, "wilson")
    assert (found["value"], found["low"], found["high"]) == pytest.approx((hits / 20, truth.low, truth.high))


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.r_[np.nan, np.inf, np.zeros(8)], "2 of 10 scores are not finite"),
        (np.zeros((10, 1)), "shape"),
        (np.zeros(9), "shape"),
        (np.array(["a"] * 10), "real scores"),
        (np.zeros(10, complex), "real scores"),
    ],
)
def test_malformed_scores_are_refused(scores: np.ndarray, message: str) -> None:
    member = np.arange(10) < 5
    for estimate in (
        lambda: metrics.auc(scores, member),
        lambda: paired.auc_gain(np.zeros(10), scores, member),
        lambda: metrics.advantage(scores, member, np.random.default_rng(0)),
        lambda: metrics.tpr_at_fpr(scores, member, 0.1),
        lambda: metrics.roc(scores, member),
    ):
        with pytest.raises(ValueError, match=message):
            estimate()


def test_a_truth_without_non_members_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 members"):
        metrics.auc(np.zeros(10), np.ones(10, bool))


def test_the_import_loads_no_large_library() -> None:
    code = "import sys, bench.games; print(*(m for m in ('scipy', 'sklearn', 'tensorflow') if m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_share_interval_covers_the_mean_of_numbers_in_the_unit_interval() -> None:
    rng = np.random.default_rng(0)
    for sample in (lambda: rng.random(10) < 0.6, lambda: rng.beta(3, 2, 10), lambda: rng.integers(0, 5, 10) / 4):
        mean = np.mean([sample() for _ in range(4000)])
        found = [metrics.share(np.asarray(sample(), float)) for _ in range(2000)]
        covered = sum(estimate["low"] <= mean <= estimate["high"] for estimate in found)
        assert stats.binom.cdf(covered, 2000, 0.93) > 1e-6
    sure = metrics.share(np.ones(10))
    assert (sure["value"], sure["low"], sure["high"]) == pytest.approx((1, 10 / (10 + Z**2), 1))


def test_average_has_the_student_t_interval() -> None:
    values = np.array([0.1, -0.2, 0.3, 0.25])
    found = metrics.average(values)
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert (found["value"], found["low"], found["high"]) == pytest.approx((values.mean(), low, high))


@pytest.mark.parametrize("bad", [[], [0.5, 1.2], [0.5, np.nan], [[0.5]]])
def test_values_outside_the_unit_interval_are_refused(bad: Any) -> None:
    for estimate in (metrics.share, metrics.average, lambda x: paired.share_gain(x, x)):
        with pytest.raises(ValueError, match="expected"):
            estimate(np.array(bad))
    with pytest.raises(ValueError, match="paired"):
        paired.share_gain(np.ones(3), np.ones(4))
