"""The scores of LiRA and RMIA as functions of arrays equal naive implementations, and are finite in edge cases."""

from __future__ import annotations

import math
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from attacks.lira import LEAST, MANY, likelihood_ratio, logits
from attacks.rmia import dominance, relative
from bench.games import metrics

Array = NDArray[np.float64]


def confidences(n: int = 2000, k: int = 16, gap: float = 2.0, seed: int = 0) -> tuple[Array, Array, Any, Any]:
    """Confidences of a release and of shadows for records of varying difficulty, membership in shadows, and the truth.

    A model that was trained on a record is more confident by `gap`, with a standard deviation of 1.
    """
    rng = np.random.default_rng(seed)
    difficulty = 5 * rng.standard_normal(n)
    trained_on = np.stack([rng.permutation(n) < n // 2 for _ in range(k + 1)])
    confidence = difficulty + gap * trained_on + rng.standard_normal((k + 1, n))
    return confidence[0], confidence[1:], trained_on[1:], trained_on[0]


def area(scores: Array, member: NDArray[Any]) -> float:
    return float(metrics.auc(scores, member)["value"])


# LiRA


def naive_ratio(confidence: Array, shadows: Array, inside: NDArray[Any], online: bool) -> Array:
    """Carlini et al. 2022, algorithm 1, record by record, if every record has shadows on both sides."""
    k, n = shadows.shape
    residuals: dict[bool, list[float]] = {True: [], False: []}
    freedom = {True: 0, False: 0}
    for i in range(n):
        for side in (True, False):
            values = [shadows[j, i] for j in range(k) if inside[j, i] == side]
            residuals[side] += [(value - np.mean(values)) ** 2 for value in values]
            freedom[side] += len(values) - 1
    out = np.empty(n)
    for i in range(n):
        density = {}
        for side in (True, False):
            values = [shadows[j, i] for j in range(k) if inside[j, i] == side]
            variance = np.var(values, ddof=1) if k >= MANY else sum(residuals[side]) / freedom[side]
            density[side] = norm(np.mean(values), math.sqrt(variance))
        if online:
            out[i] = density[True].logpdf(confidence[i]) - density[False].logpdf(confidence[i])
        else:
            out[i] = norm.isf(density[False].sf(confidence[i]))
    return out


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("k", [8, MANY - 1, MANY])
def test_lira_equals_the_algorithm_of_its_paper(k: int, online: bool) -> None:
    confidence, shadows, inside, _ = confidences(n=40, k=k, gap=1.0)
    expected = naive_ratio(confidence, shadows, inside, online)
    assert np.allclose(likelihood_ratio(confidence, shadows, inside, online=online), expected)


def test_variances_per_record_are_used_from_64_shadows() -> None:
    """With fewer shadows the variance is pooled over all records."""
    for k in (MANY - 2, MANY):
        confidence, shadows, inside, _ = confidences(n=50, k=k)
        moved = shadows.copy()
        moved[:, 1:] *= 3  # the deviations of the other records
        before, after = (likelihood_ratio(confidence, s, inside)[0] for s in (shadows, moved))
        assert (before == after) == (k >= MANY)


def test_lira_exceeds_a_global_threshold() -> None:
    confidence, shadows, inside, member = confidences()
    found = area(likelihood_ratio(confidence, shadows, inside), member)
    assert found > 0.88
    assert area(likelihood_ratio(confidence, shadows, inside, online=False), member) > 0.88
    assert area(confidence, member) < 0.65
    assert area(likelihood_ratio(confidence, shadows, ~inside), member) < 0.12  # the mutant


def test_lira_is_at_chance_without_a_gap() -> None:
    games = [confidences(gap=0.0, seed=seed) for seed in range(10)]
    areas = [area(likelihood_ratio(*game[:3]), game[3]) for game in games]
    spread = 4.9 * math.sqrt(1 / (12 * 1000) * 2)  # of an AUC with 1,000 records per side, two-sided 1e-6
    assert np.abs(np.array(areas) - 0.5).max() < spread


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("never", ["in", "out"])
def test_records_in_no_shadow_or_in_all_shadows_are_scored(never: str, online: bool) -> None:
    confidence, shadows, inside, member = confidences(n=3000)
    lacking = np.arange(3000) < 1000
    difficulty = shadows - 2.0 * inside  # the confidences without the gap
    inside = np.where(lacking, never == "out", inside)
    shadows = difficulty + 2.0 * inside
    found = likelihood_ratio(confidence, shadows, inside, online=online)
    assert np.isfinite(found).all()
    assert area(found[lacking], member[lacking]) > 0.85
    assert area(found, member) > 0.85  # on one scale with the rest


@pytest.mark.parametrize("k", [2, 4, MANY])
@pytest.mark.parametrize("online", [True, False])
def test_degenerate_shadows_keep_scores_finite(k: int, online: bool) -> None:
    n = 30
    half = np.arange(k)[:, None] % 2 == np.zeros(n, int)
    everyone, nobody = np.ones((k, n), bool), np.zeros((k, n), bool)
    for confidence in (np.zeros(n), np.full(n, 69.0), np.linspace(-69, 69, n)):
        for inside in (half, everyone, nobody):
            for shadows in (np.zeros((k, n)), np.tile(np.linspace(-69, 69, n), (k, 1))):  # variances of 0
                assert np.isfinite(likelihood_ratio(confidence, shadows, inside, online=online)).all()
    assert (likelihood_ratio(np.zeros(n), np.zeros((k, n)), half, online=online) == 0).all()


def test_a_variance_of_zero_is_replaced_by_the_float_resolution() -> None:
    found = likelihood_ratio(np.full(3, 1.0), np.zeros((4, 3)), np.arange(4)[:, None] < [2, 2, 2], online=False)
    assert np.allclose(found, 1 / LEAST)


def test_logits_are_precise_if_the_probability_rounds_to_one() -> None:
    p = np.array([[1.0, 1e-9, 1e-12], [1.0, 1e-12, 1e-15], [0.2, 0.5, 0.3], [0.0, 1.0, 0.0]])
    found = logits(p, np.array([0, 0, 1, 1]))
    assert found[1] > found[0] > 20
    assert found[2] == pytest.approx(0.0)
    assert np.isfinite(found).all()
    assert np.isfinite(logits(p, np.array([2, 2, 2, 2]))).all()


def test_ten_thousand_records_against_64_shadows_in_two_seconds_and_linear_memory() -> None:
    peaks = []
    for n in (5000, 10000):
        arguments = confidences(n=n, k=64)[:3]
        tracemalloc.start()
        start = time.process_time()
        likelihood_ratio(*arguments)
        seconds = time.process_time() - start
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert seconds < 2
    assert peaks[1] < 2.2 * peaks[0]
    assert peaks[1] < 10 * arguments[1].nbytes


# RMIA


def naive_rmia(
    x: tuple[Array, Array, Any], z: tuple[Array, Array], online: bool, a: float, gamma: float
) -> tuple[Array, Array]:
    """Zarifzadeh et al. 2024, algorithm 1 and its offline form, pair by pair: shares, and the ratio of each record."""

    def ratio(probability: float, references: Array, trained_on: NDArray[Any]) -> float:
        out = [p for p, s in zip(references, trained_on, strict=True) if not s]
        within = [p for p, s in zip(references, trained_on, strict=True) if s]
        if not online:
            return probability / (((1 + a) * np.mean(out) + (1 - a)) / 2)
        if not within:
            return probability / float(np.mean(out))
        return probability / ((np.mean(within) + np.mean(out)) / 2)

    ratios = [ratio(p, x[1][:, i], x[2][:, i]) for i, p in enumerate(x[0])]
    others = [ratio(p, z[1][:, j], np.zeros(len(z[1]), bool)) for j, p in enumerate(z[0])]
    return np.array([np.mean([r / o >= gamma for o in others]) for r in ratios]), np.array(ratios)


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_rmia_equals_the_algorithm_of_its_paper(online: bool, gamma: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.random(60), rng.random((4, 60)), np.arange(4)[:, None] % 2 == rng.integers(0, 2, 60)
    z = rng.random(31), rng.random((4, 31))
    share, ratios = naive_rmia(x, z, online, 0.3, gamma)
    records = relative(*x, online=online, a=0.3)
    population = relative(*z, np.zeros(z[1].shape, bool), online=online, a=0.3)
    found = dominance(records, population, gamma)
    assert np.allclose(records, np.log(ratios))
    mutant = relative(x[0], x[1], ~x[2], online=online, a=0.3)  # online it is symmetric in membership
    assert np.allclose(mutant, np.log(ratios)) == online
    assert (np.abs(found - share) <= 1 / 32).all()  # the added term only breaks ties
    assert (np.diff(found[np.argsort(ratios)]) >= 0).all()
    assert len(np.unique(found)) == len(np.unique(ratios)) > len(np.unique(share))


def test_a_tie_with_the_population_counts() -> None:
    """A constant release: every ratio is 1, which counts at gamma 1."""
    same = np.zeros(5)
    assert (dominance(same, np.zeros(9), 1.0) >= 1).all()
    assert (dominance(same, np.zeros(9), 2.0) < 0.1).all()


def test_rmia_exceeds_a_global_threshold() -> None:
    confidence, shadows, inside, member = confidences()
    p, references = (1 / (1 + np.exp(-v / 2)) for v in (confidence, shadows))
    assert area(relative(p, references, inside, online=True, a=1.0), member) > 0.8
    assert area(relative(p, references, inside, online=False, a=1.0), member) > 0.8  # no probability is close to 1 here
    assert area(p, member) < 0.65


def test_records_without_a_reference_take_the_others() -> None:
    p, references = np.array([0.9, 0.9]), np.array([[0.5, 0.5], [0.7, 0.7]])
    inside = np.array([[True, False], [True, False]])
    offline = relative(p, references, inside, online=False, a=1.0)
    online = relative(p, references, inside, online=True, a=1.0)
    assert np.allclose(np.concatenate([offline, online]), math.log(0.9 / 0.6))


def test_ten_thousand_records_against_a_large_population_in_two_seconds() -> None:
    rng = np.random.default_rng(0)
    start = time.process_time()
    records = relative(rng.random(10000), rng.random((64, 10000)), rng.random((64, 10000)) < 0.5, online=True, a=0.3)
    dominance(records, rng.standard_normal(100000), 2.0)
    assert time.process_time() - start < 2
