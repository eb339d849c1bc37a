"""A bound at confidence 1 - alpha exceeds the true epsilon in at most a share alpha of repeats, and is not vacuous."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from references import ALPHA, DELTA, at_most, mu_of

from bench.audit.bounds import clopper_pearson, one_run, rank

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dp_accounting")


def naive(held_in: NDArray[Any], held_out: NDArray[Any]) -> float:
    """ln(TPR / FPR) at the best threshold, without correction for choosing it."""
    thresholds = np.unique(held_out)[1:]
    tpr, fpr = ((side[:, None] >= thresholds).mean(axis=0) for side in (held_in, held_out))
    return float(np.log(np.maximum(tpr, 1e-9) / fpr).max())


def trials(held_in: NDArray[Any], held_out: NDArray[Any], alpha: float = ALPHA) -> tuple[float, float, float]:
    rules = rank.rules(np.sort(held_in), np.sort(held_out))
    return (
        rank.epsilon(rules, DELTA, alpha),
        rank.mu(rules, alpha),
        clopper_pearson.epsilon(clopper_pearson.at_ranks(rules, alpha), 0),
    )


@pytest.mark.parametrize("ties", [False, True])
def test_uninformative_scores_exceed_zero_at_most_at_the_error_rate(ties: bool) -> None:
    rng = np.random.default_rng(1)
    repeats, n = 2_000, 120
    above, uncorrected, folklore, wins = np.zeros(4), 0, 0, at_most(repeats, ALPHA)
    for _ in range(repeats):
        scores = rng.integers(0, 4, 2 * n) * 1.0 if ties else rng.random(2 * n)
        coins = rng.random(2 * n) < 0.5
        above += np.array([*trials(scores[:n], scores[n:]), one_run.bound(scores, coins, DELTA, ALPHA, rng)]) > 0
        if not ties:
            rules = rank.rules(np.sort(scores[:n]), np.sort(scores[n:]))
            uncorrected += rank.epsilon(rules, DELTA, ALPHA * len(rules)) > 0
            folklore += naive(scores[:n], scores[n:]) > 0
    assert (above <= wins).all(), above / repeats
    if not ties:
        assert min(uncorrected, folklore) > wins  # uncorrected bounds do fail
        assert above.sum() > 0


@pytest.mark.parametrize(("epsilon", "least"), [(1.0, 0.45), (2.0, 1.05), (4.0, 2.18)])
def test_a_gaussian_mechanism_is_bounded_from_below_and_closely(epsilon: float, least: float) -> None:
    """20,000 trials, half of them members: Gaussian DP reaches `least` in every repeat."""
    rng, repeats, n, mu = np.random.default_rng(2), 60, 10_000, mu_of(epsilon, DELTA)
    found = np.array([trials(rng.normal(mu, 1, n), rng.normal(0, 1, n)) for _ in range(repeats)])
    of_mu = np.array([rank.epsilon_of_mu(one, DELTA) for one in found[:, 1]])
    assert of_mu.min() >= least
    assert max((of_mu > epsilon).sum(), *(found[:, [0, 2]] > epsilon).sum(axis=0)) <= at_most(repeats, ALPHA)
    assert np.median(found[:, 0]) > max(np.median(found[:, 2]), 0.9 * least)


def test_a_tight_claim_is_refuted_at_most_at_the_error_rate() -> None:
    """The privacy loss of randomised response is tight at one threshold, which rank and coin bounds find."""
    rng, repeats, looser, n, epsilon = np.random.default_rng(3), 1_000, 100, 240, math.log(3)
    above, close = np.zeros(2), np.zeros(2)
    for repeat in range(repeats):
        coins = np.arange(2 * n) < n
        responses = coins ^ (rng.random(2 * n) < 0.25)
        scores = responses + rng.random(2 * n)
        found = rank.rules(np.sort(scores[coins]), np.sort(scores[~coins]))
        at_random = rng.random(2 * n) < 0.5
        scores = (at_random ^ (rng.random(2 * n) < 0.25)) + rng.random(2 * n)
        for i, bound in enumerate((
            lambda alpha: rank.epsilon(found, 0, alpha),  # noqa: B023
            lambda alpha: one_run.bound(scores, at_random, 0, alpha, np.random.default_rng(0)),  # noqa: B023
        )):  # fmt: skip
            above[i] += bound(ALPHA) > epsilon
            if repeat < looser:
                close[i] += bound(0.9) > epsilon
    assert (above <= at_most(repeats, ALPHA)).all(), above / repeats
    assert (close > at_most(looser, ALPHA)).all(), close / looser


def test_a_failure_of_probability_delta_is_allowed_for_in_one_run() -> None:
    """Each coin is revealed with probability delta, else answered at random; ignoring delta refutes epsilon 0."""
    rng, repeats, m, delta = np.random.default_rng(4), 2_000, 200, 0.04
    right = rng.binomial(m, 0.5 + delta / 2, repeats)
    refuted = [np.array([one_run.p_value(int(r), m, m, 0.0, d) <= ALPHA for r in right]).sum() for d in (delta, 0.0)]
    assert refuted[0] <= at_most(repeats, ALPHA) < refuted[1]


def test_the_order_of_records_does_not_break_ties() -> None:
    """The order of a file that lists its members first, or last, must not break ties."""
    included = np.arange(2_000) < 1_000
    for coins in (included, ~included):
        bounds = [one_run.bound(np.zeros(2_000), coins, DELTA, 0.001, np.random.default_rng(i)) for i in range(20)]
        assert max(bounds) < 0.2
    scores = np.repeat([1.0, 0.0], [1_000, 1_000])
    assert one_run.bound(scores, included, DELTA, 0.001, np.random.default_rng(0)) > 1
