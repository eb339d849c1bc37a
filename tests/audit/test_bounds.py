"""Bounds on epsilon agree with slow reference computations and jax_privacy, and are monotone in their inputs."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references import ALPHA, DELTA, mu_of
from scipy import stats

from bench.audit.bounds import clopper_pearson, one_run, rank
from bench.audit.bounds.rank import Rule
from tests.audit import peers

PEERS = json.loads((Path(__file__).parent / "peers.json").read_text())
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dp_accounting")


def exactly(k: int, n: int, p: float) -> float:
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (0, 30), (7, 30), (29, 30)])
def test_clopper_pearson_is_the_rate_at_which_so_few_hits_have_probability_alpha(hits: int, n: int) -> None:
    high = float(clopper_pearson.upper(hits, n, 0.02))
    assert sum(exactly(k, n, high) for k in range(hits + 1)) == pytest.approx(0.02, abs=1e-9)
    assert clopper_pearson.upper(n, n, 0.02) == 1


def test_the_tail_probabilities_of_rank_rules_sum_to_alpha() -> None:
    rules = [Rule(7, 30, 2, 20), Rule(30, 30, 0, 20), Rule(4, 20, 7, 30)]
    found = clopper_pearson.at_ranks(rules, 0.06)
    wrong = 0.0
    for (caught, size, allowed, other), high, low in zip(rules, found.high, found.low, strict=True):
        wrong += sum(exactly(k, other, high) for k in range(allowed + 1))
        wrong += sum(exactly(k, size, low) for k in range(caught, size + 1))
    assert wrong == pytest.approx(0.06, abs=1e-9)


@given(
    st.integers(1, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n), st.integers(n, 200))),
    st.floats(0, 4), st.sampled_from([0.0, 1e-6, 1e-3, 0.02]),
)  # fmt: skip
@settings(deadline=None)
def test_one_run_is_the_sum_of_the_paper(counts: tuple[int, int, int], epsilon: float, delta: float) -> None:
    right, guesses, canaries = counts
    q = math.exp(epsilon) / (1 + math.exp(epsilon))
    tail = [math.fsum(exactly(k, guesses, q) for k in range(v, guesses + 1)) for v in range(right + 1)]
    most = max(((tail[right - i] - tail[right]) / i for i in range(1, right + 1)), default=0.0)
    slow = min(1.0, tail[right] + 2 * canaries * delta * most)
    assert one_run.p_value(right, guesses, canaries, epsilon, delta) == pytest.approx(slow, abs=1e-9)


@pytest.mark.parametrize("rule", [Rule(5, 12, 0, 9), Rule(12, 12, 3, 9), Rule(1, 3, 4, 40), Rule(30, 31, 7, 30)])
def test_a_count_by_rank_is_as_probable_as_in_a_random_order(rule: Rule) -> None:
    """If the sides are exchangeable, all orders are equally likely: exact integer counts."""
    caught, size, allowed, other = rule
    orders = sum(
        math.comb(k + allowed, k) * math.comb(size - k + other - allowed - 1, size - k) for k in range(caught, size + 1)
    )
    nothing = rank.Curve(lambda u: u, 1.0)
    assert rank.p_value(rule, nothing) == pytest.approx(orders / math.comb(size + other, size), rel=1e-9)


@pytest.mark.parametrize(
    ("rule", "epsilon"),
    [
        (Rule(100, 100, 0, 100), 3.3), (Rule(40, 100, 6, 100), 0.9), (Rule(900_000, 1_000_000, 25, 100), 1.2),
        (Rule(60, 100, 250_000, 1_000_000), 0.8), (Rule(31_500, 500_000, 31_250, 500_000), 0.0),
    ],
)  # fmt: skip
def test_a_count_by_rank_is_the_mean_over_false_positive_rates(rule: Rule, epsilon: float) -> None:
    caught, size, allowed, other = rule
    edges = stats.beta(allowed + 1, other - allowed).ppf(np.linspace(0, 1, 200_001))
    u = np.append(edges[0], edges[:-1]), edges  # at the lower and at the upper end of each cell of equal probability
    below, above = (float(stats.binom.sf(caught - 1, size, np.minimum(np.exp(epsilon) * e[1:], 1)).mean()) for e in u)
    curve = rank.Curve(lambda u: np.exp(epsilon) * u, math.exp(-epsilon))
    assert below - 1e-9 <= rank.p_value(rule, curve) <= above + 1e-9
    assert above - below < 1e-3


def test_rules_count_the_same_as_a_loop() -> None:
    rng = np.random.default_rng(0)
    held_in, held_out = np.sort(rng.integers(0, 30, 90) + 3.0), np.sort(rng.integers(0, 30, 70) * 1.0)
    found = rank.rules(held_in, held_out)
    slow = []
    for side, other in ((held_in, held_out), (-held_in, -held_out)):
        side, other = (side, other) if side is held_in else (other, side)
        n = len(other)
        for allowed in (0, 1, n // 16, n // 4):
            threshold = sorted(other)[n - 1 - allowed]
            slow.append(Rule(sum(bool(score > threshold) for score in side), len(side), allowed, n))
    assert found == slow


def test_epsilon_of_mu_is_that_of_the_gaussian_mechanism() -> None:
    for epsilon in (0.1, 1.0, 4.0, 20.0):
        for delta in (1e-12, 1e-5, 0.01):
            assert rank.epsilon_of_mu(mu_of(epsilon, delta), delta) == pytest.approx(epsilon, rel=1e-6)
    assert rank.epsilon_of_mu(0.0, DELTA) == rank.epsilon_of_mu(1e-6, DELTA) == 0


def counts(name: str, t: float) -> tuple[int, int, int, int]:
    held_in, held_out = peers.cases()[name]
    return int((held_out >= t).sum()), len(held_out), int((held_in >= t).sum()), len(held_in)


def test_clopper_pearson_and_one_run_are_those_of_jax_privacy() -> None:
    for name, t, delta, alpha, value in PEERS["clopper_pearson"]:
        ours = clopper_pearson.epsilon(clopper_pearson.at_counts(*counts(name, t), alpha), delta)
        assert ours == pytest.approx(value, abs=1e-6), (name, t)
    for name, t, delta, alpha, value in PEERS["one_run"]:
        false, others, true, members = counts(name, t)
        ours = one_run.epsilon(true, false + true, members + others, delta, alpha)
        assert ours == pytest.approx(value, abs=1e-6), (name, t, delta)
    assert len({round(row[-1], 3) for row in PEERS["clopper_pearson"] + PEERS["one_run"]}) > 60


def test_bonferroni_gaussian_dp_and_auc_are_those_of_jax_privacy() -> None:
    from scipy.special import ndtri

    from bench.games import metrics

    for delta, alpha, value in PEERS["bonferroni"]:
        one = clopper_pearson.at_counts(*counts("labels", 0.5), alpha / 3)
        assert clopper_pearson.epsilon(clopper_pearson.Rates(one.high[:1], one.low[:1]), delta) == pytest.approx(
            value, abs=1e-6
        )
    for delta, alpha, value in PEERS["gaussian_dp"]:
        one = clopper_pearson.at_counts(*counts("labels", 0.5), alpha / 3)
        mu = float((ndtri(one.low) - ndtri(one.high)).max())
        assert rank.epsilon_of_mu(mu, delta) == pytest.approx(value, abs=1e-6)
    for name, value in PEERS["auc"].items():
        sides = peers.cases()[name]
        member = np.repeat([True, False], [len(side) for side in sides])
        assert metrics.auc(np.concatenate(sides), member)["value"] == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(("n", "most"), [(100, 3.28), (500, 4.91), (1_000, 5.60), (10_000, 7.90)])
def test_a_perfect_attack_proves_no_more_than_its_trials(n: int, most: float) -> None:
    assert clopper_pearson.epsilon(clopper_pearson.at_counts(0, n, n, n, ALPHA), 0) == pytest.approx(most, abs=0.005)
    best = max(rank.epsilon([rule], 0, ALPHA) for rule in rank.perfect(n, n))
    assert most < best < math.log(n)  # n trials without a false positive do not show a rate below 1 / n
    apart = rank.rules(np.arange(n) + n * 1.0, np.arange(n) * 1.0)
    assert best - 1.5 < rank.epsilon(apart, 0, ALPHA) < best
    assert one_run.epsilon(n, n, n, 0, ALPHA) == pytest.approx(-math.log(ALPHA ** (-1 / n) - 1), abs=1e-6)


@given(st.integers(1, 60), st.integers(1, 60), st.data())
@settings(deadline=None, max_examples=40)
def test_more_caught_proves_more_and_more_confidence_or_delta_less(size: int, other: int, data: st.DataObject) -> None:
    caught, allowed = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, other - 1))
    rule, more = Rule(caught, size, allowed, other), Rule(caught + 1, size, allowed, other)
    value = rank.epsilon([rule], 1e-3, ALPHA)
    assert value <= rank.epsilon([more], 1e-3, ALPHA) + 1e-7
    assert value <= rank.epsilon([rule], 0, ALPHA) + 1e-7
    assert value >= rank.epsilon([rule], 1e-3, 0.01) - 1e-7
    assert value >= clopper_pearson.epsilon(clopper_pearson.at_ranks([rule], ALPHA), 1e-3) - 1e-7
    assert rank.mu([rule], ALPHA) <= rank.mu([more], ALPHA) + 1e-7


@given(st.integers(1, 80), st.integers(0, 100), st.data())
@settings(deadline=None, max_examples=40)
def test_more_right_guesses_prove_more(guesses: int, abstained: int, data: st.DataObject) -> None:
    right, m = data.draw(st.integers(0, guesses - 1)), guesses + abstained
    value = one_run.epsilon(right, guesses, m, 1e-4, ALPHA)
    assert value <= one_run.epsilon(right + 1, guesses, m, 1e-4, ALPHA) + 1e-7
    assert value <= one_run.epsilon(right, guesses, m, 0, ALPHA) + 1e-7
    assert value >= one_run.epsilon(right, guesses, m, 1e-4, 0.01) - 1e-7
    steps = [one_run.p_value(right, guesses, m, epsilon, 1e-4) for epsilon in np.linspace(0, 6, 30)]
    assert all(a <= b + 1e-12 for a, b in pairwise(steps))


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=40), st.lists(st.integers(-9, 9), min_size=2, max_size=40))
@settings(deadline=None, max_examples=40)
def test_the_bounds_know_only_the_order_of_the_scores(held_in: list[int], held_out: list[int]) -> None:
    a, b = np.sort(np.array(held_in, float)), np.sort(np.array(held_out, float))
    rules = rank.rules(a, b)
    assert rank.rules(np.exp(a), np.exp(b)) == rules
    assert sorted(rank.rules(-b[::-1], -a[::-1])) == sorted(rules)
