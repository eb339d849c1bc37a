"""The accountant against closed forms and published numbers, and its rules for delta, composition and noise."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import dp_accounting as dp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import gammaln, logsumexp
from scipy.stats import norm

from bench.core.errors import Caveat, UserError
from bench.dp import accounting
from bench.dp.accounting import claim, delta_for, describe, epsilon, noise_multiplier, parallel, training_event


def gaussian(sigma: float, delta: float) -> float:
    """Epsilon of one Gaussian release in closed form (Balle and Wang 2018, theorem 8)."""

    def gap(eps: float) -> float:
        known = norm.cdf(0.5 / sigma - eps * sigma) - math.exp(eps) * norm.cdf(-0.5 / sigma - eps * sigma)
        return float(known - delta)

    return float(brentq(gap, 0, 100))


def renyi(rate: float, sigma: float, steps: int) -> list[tuple[int, float]]:
    """Renyi divergence of the sampled Gaussian at whole orders (Mironov et al. 2019, equation 3)."""
    found = []
    for order in range(2, 64):
        k = np.arange(order + 1)
        binomial = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
        terms = binomial + (order - k) * np.log1p(-rate) + k * np.log(rate) + (k * k - k) / (2 * sigma**2)
        found.append((order, steps * float(logsumexp(terms)) / (order - 1)))
    return found


@pytest.mark.parametrize("sigma", [0.8, 2.0, 10.0])
def test_one_gaussian_step_matches_its_closed_form(sigma: float) -> None:
    found, known = epsilon(training_event(1.0, sigma, 1), 1e-5), gaussian(sigma, 1e-5)
    assert known <= found * (1 + 1e-6)
    assert found == pytest.approx(known, rel=0.005)


def test_unsampled_steps_are_one_step_with_less_noise() -> None:
    assert epsilon(training_event(1.0, 8.0, 16), 1e-5) == pytest.approx(gaussian(2.0, 1e-5), rel=0.005)


def test_published_epsilon_of_the_mnist_tutorial() -> None:
    rate, sigma, steps, delta = 250 / 60_000, 1.3, 3600, 1e-5
    published = min(rdp + math.log(1 / delta) / (order - 1) for order, rdp in renyi(rate, sigma, steps))
    assert published == pytest.approx(1.18, abs=0.005)
    # The same divergences by a tighter conversion (Canonne, Kamath and Steinke 2020, proposition 12).
    tighter = min(
        rdp + math.log1p(-1 / order) - math.log(delta * order) / (order - 1) for order, rdp in renyi(rate, sigma, steps)
    )
    by_rdp = epsilon(training_event(rate, sigma, steps), delta, "rdp")
    assert by_rdp == pytest.approx(tighter, rel=0.01)
    assert by_rdp < 1.18


@pytest.mark.parametrize(
    ("rate", "sigma", "steps"), [(0.5, 3.0, 100), (0.128, 1.5, 400), (250 / 60_000, 1.3, 3600), (1.0, 5.0, 50)]
)
def test_pld_is_below_rdp_and_near(rate: float, sigma: float, steps: int) -> None:
    event = training_event(rate, sigma, steps)
    by_pld, by_rdp = epsilon(event, 1e-5), epsilon(event, 1e-5, "rdp")
    assert by_pld <= by_rdp <= 1.2 * by_pld


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_epsilon_is_monotone(accountant: str) -> None:
    def of(rate: float, sigma: float, steps: int, delta: float = 1e-5) -> float:
        return epsilon(training_event(rate, sigma, steps), delta, accountant)

    rising = [
        [of(0.1, sigma, 100) for sigma in (4.0, 2.0, 1.0)],
        [of(0.1, 2.0, steps) for steps in (10, 100, 1000)],
        [of(rate, 2.0, 100) for rate in (0.01, 0.1, 0.5, 1.0)],
        [of(0.1, 2.0, 100, delta) for delta in (1e-4, 1e-5, 1e-7)],
    ]
    for values in rising:
        assert all(a < b for a, b in itertools.pairwise(values)), values


def test_no_access_has_epsilon_zero_and_no_noise_infinite_epsilon() -> None:
    for accountant in ("pld", "rdp"):
        assert epsilon(accounting.no_access(), 1e-5, accountant) == 0
        assert epsilon(accounting.no_privacy(), 1e-5, accountant) == math.inf
        assert epsilon(training_event(0.5, 0.0, 10), 1e-5, accountant) == math.inf


# --- noise for a target epsilon ---


@pytest.mark.parametrize("target", [0.01, 0.1, 1.0, 8.0])
def test_noise_reaches_the_target_epsilon_from_below(target: float) -> None:
    sigma = noise_multiplier(target, 1e-5, 0.2, 60)
    dp_event = epsilon(training_event(0.2, sigma, 60), 1e-5)
    assert 0.99 * target <= dp_event <= target


def test_no_noise_for_an_infinite_target() -> None:
    assert noise_multiplier(math.inf, 1e-5, 0.2, 60) == 0


@pytest.mark.parametrize("target", [0.0, -1.0, -math.inf, math.nan])
def test_a_target_that_is_not_positive_is_refused(target: float) -> None:
    with pytest.raises(UserError, match="above 0"):
        noise_multiplier(target, 1e-5, 0.2, 60)


def test_a_target_that_cannot_be_computed_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object) -> float:
        raise ValueError("deltas are not in non-increasing order")

    monkeypatch.setattr(accounting, "_epsilon", fails)
    with pytest.raises(UserError, match=r"between 0.01 and 100, or inf\.$"):
        noise_multiplier(3000.0, 1e-5, 0.2, 60)


# --- delta and composition ---


@pytest.mark.parametrize(
    ("n", "delta"),
    [
        (0, 1e-5),
        (1, 1e-5),
        (1000, 1e-5),
        (60_000, 1e-5),
        (100_000, 1e-5),
        (100_001, 1e-6),
        (200_000, 1e-6),
        (10**9, 1e-9),
    ],
)
def test_delta_rule(n: int, delta: float) -> None:
    assert delta_for(n) == delta  # exactly: it is printed and enters a digest
    assert n * delta_for(n) <= 1 + 1e-12


def part(*rows: int) -> np.ndarray[Any, Any]:
    return np.array(rows)


def test_disjoint_parts_compose_in_parallel() -> None:
    event = training_event(0.5, 3.0, 100)
    assert parallel([event] * 3, [part(0, 3), part(1), part()]) == event


def test_parts_that_share_a_record_compose_sequentially() -> None:
    event = training_event(0.5, 3.0, 100)
    both = parallel([event, event], [part(0, 1), part(1, 2)])
    twice = epsilon(training_event(0.5, 3.0, 200), 1e-5)
    assert epsilon(both, 1e-5) == pytest.approx(twice, rel=1e-3)
    assert twice > 1.3 * epsilon(event, 1e-5)
    assert describe(both) == "2 times (Poisson, rate 0.5, 100 steps, noise multiplier 3)"


def test_different_events_compose_sequentially() -> None:
    events = [training_event(0.5, 3.0, 100), training_event(0.5, 4.0, 100)]
    both = parallel(events, [part(0), part(1)])
    assert epsilon(both, 1e-5) > max(epsilon(event, 1e-5) for event in events)


def test_a_part_with_a_duplicate_record_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        parallel([training_event(0.5, 3.0, 100)], [part(4, 4)])


def test_describe() -> None:
    event = training_event(0.125, 1.54321, 400)
    assert describe(event) == "Poisson, rate 0.125, 400 steps, noise multiplier 1.543"
    assert describe(accounting.no_access()) == "no access"
    assert describe(accounting.no_privacy()) == describe(training_event(0.5, 0.0, 3)) == "none"
    assert describe(dp.ComposedDpEvent([event, accounting.no_access()])) == f"{describe(event)} + no access"
    assert describe(dp.GaussianDpEvent(1.0)) == "GaussianDpEvent"


# --- claims ---


def test_a_claim_states_both_accountants_and_the_delta() -> None:
    event = training_event(0.5, 3.0, 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = claim(event, 200_000)
        assert claim(accounting.no_privacy(), 10)["epsilon"] == math.inf
        assert claim(accounting.no_access(), 10)["epsilon_rdp"] == 0
    assert found == {
        "epsilon": epsilon(event, 1e-6),
        "epsilon_rdp": epsilon(event, 1e-6, "rdp"),
        "epsilon_selected": accounting.selected(event, 1e-6),
        "delta": 1e-6,
    }


def test_the_epsilon_of_private_selection_matches_papernot_and_steinke() -> None:
    """Geometric number of runs with mean m: their theorem 2 (Renyi), order by order."""
    event, delta, m = training_event(0.01, 1.1, 1000), 1e-5, accounting.SELECTED
    orders = np.concatenate([np.arange(1.1, 11, 0.1), np.arange(11, 64)])
    rdp = rdp_of(event, orders)
    best = math.inf
    for order, dp_event in zip(orders, rdp, strict=True):
        # with any second order b: e(a) + 2 (1 - 1/b) e(b) + 2 log(m) / b + log(m) / (a - 1)
        more = min(2 * (1 - 1 / b) * e + 2 * math.log(m) / b for b, e in zip(orders, rdp, strict=True))
        total = dp_event + more + math.log(m) / (order - 1)
        best = min(best, total + math.log1p(-1 / order) - math.log(delta * order) / (order - 1))
    found = accounting.selected(event, delta)
    assert found == pytest.approx(best, rel=0.02)
    assert epsilon(event, delta) < found < m * epsilon(event, delta)
    assert accounting.selected(accounting.no_access(), delta) == 0
    assert accounting.selected(accounting.no_privacy(), delta) == math.inf


def rdp_of(event: Any, orders: Any) -> Any:
    from dp_accounting import rdp

    accountant = rdp.RdpAccountant(orders)
    accountant.compose(event)
    return accountant._rdp


def test_a_claim_has_a_caveat_if_rdp_gives_the_smaller_epsilon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = {"pld": 2.0, "rdp": 1.5}
    monkeypatch.setattr(accounting, "epsilon", lambda event, delta, accountant="pld": values[accountant])
    with pytest.warns(Caveat, match="looser RDP"):
        found = claim(training_event(0.5, 3.0, 100), 100)
    assert found["epsilon"] == 2.0


def test_very_little_noise_is_accounted_in_little_memory() -> None:
    """On a grid of 1e-4 this event would require tens of GiB."""
    found = accounting.claim(accounting.training_event(1.0, 1e-3, 1), 1000)
    assert 5e5 < found["epsilon"] < 6e5
