"""Audits of mechanisms of known epsilon: bounds stay below it except at the stated error rate, and close to it."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from conftest import split
from references import ALPHA, DELTA, at_most, choice, quiet

from bench.audit import audit as audits
from bench.audit import replayed_mechanisms
from bench.audit.bounds import paired_trials as pairs
from bench.dp import accounting
from bench.store.records import AuditFinding

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dp_accounting")


@pytest.mark.parametrize(("epsilon", "delta"), [(0.5, 0.0), (2.0, 1e-5), (1.0, 0.05)])
def test_no_mechanism_wins_more_pairs_than_the_worst_case(epsilon: float, delta: float) -> None:
    """With probability delta membership is revealed, else it is randomised response: all outcomes enumerated."""
    q = (1 - delta) / (1 + math.exp(-epsilon))
    held_in = {"in": delta, "yes": q, "no": 1 - delta - q, "out": 0.0}
    held_out = {"in": 0.0, "yes": 1 - delta - q, "no": q, "out": delta}
    order = ["out", "no", "yes", "in"]
    won = sum(
        held_in[a] * held_out[b] * (0.5 if a == b else order.index(a) > order.index(b))
        for a, b in itertools.product(order, order)
    )
    # a revealed outcome never ties with another, so this order of the scores is optimal
    many = 10**12
    found = pairs.epsilon(round(won * many), many, delta, ALPHA)
    assert found == pytest.approx(epsilon, abs=2e-5)
    assert pairs.epsilon(round((won + 1e-3) * many), many, delta, ALPHA) > epsilon + 1e-3


def test_mu_of_a_gaussian_mechanism_is_bounded_from_below_and_closely() -> None:
    rng, repeats, n, mu = np.random.default_rng(0), 400, 1_000, 0.6
    found, loose = np.zeros(repeats), np.zeros(repeats)
    for i in range(repeats):
        won = pairs.wins(rng.normal(mu, 1, n), rng.normal(0, 1, n), rng)
        found[i], loose[i] = pairs.mu(won, n, ALPHA), pairs.mu(won, n, 0.7)
    assert (found > mu).sum() <= at_most(repeats, ALPHA) < (loose > mu).sum()
    assert np.median(found) > 0.8 * mu


def test_constant_scores_give_no_bound_and_ties_are_broken_at_random() -> None:
    rng, repeats, n = np.random.default_rng(1), 1_000, 100
    above = sum(pairs.mu(pairs.wins(np.zeros(n), np.zeros(n), rng), n, ALPHA) > 0 for _ in range(repeats))
    assert 0 < above <= at_most(repeats, ALPHA)
    assert pairs.mu(0, 0, ALPHA) == pairs.epsilon(0, 0, DELTA, ALPHA) == 0


class Fake:
    """Uses of a Gaussian mechanism with a canary of full sensitivity; `true` is the real noise multiplier."""

    what, rate, steps = "fake", 0.5, 20

    def __init__(self, claimed: float, true: float) -> None:
        self.noise_multiplier, self._true = claimed, true

    def scores(self, pairs: int, seed: int, on_progress: replayed_mechanisms.OnProgress) -> replayed_mechanisms.Sides:
        rng = np.random.default_rng(seed)
        shift = 0.0 if math.isinf(self._true) else 1.0
        noise = 1.0 if math.isinf(self._true) else self._true
        return rng.normal(shift, noise, pairs), rng.normal(0.0, noise, pairs)


class FakeRow(audits.AuditRow):
    """A row with one mechanism of known noise."""

    mechanisms: Any = None


def fake(claimed: float, true: float, trials: int = 8_000, seed: int = 0) -> AuditFinding:
    mechanism = Fake(claimed, true)
    row = FakeRow(choice("defense", "dp_sgd"), split("breast_cancer"), seed, trials // 2, quiet)
    row.mechanisms = replayed_mechanisms.event(mechanism, claimed), [mechanism]
    return audits.measure(row, "one_step", "digest")


def test_the_bound_of_known_noise_is_between_half_and_all_of_the_true_epsilon() -> None:
    right = fake(2.0, 2.0)
    assert 0.5 * float(right.epsilon) < right.lower[0] < float(right.epsilon)
    assert list(right.lower) == sorted(right.lower, reverse=True)
    assert right.most[0] > 5 * float(right.epsilon)
    assert not right.violated(1)
    nothing = fake(2.0, math.inf)
    assert nothing.lower[0] < 0.1 * float(nothing.epsilon)
    half = fake(2.0, 1.0)
    assert float(half.epsilon) < half.lower[0] < accounting.epsilon(replayed_mechanisms.event(Fake(1, 1), 1.0), DELTA)
    assert half.violated(3)


def test_less_noise_per_step_than_stated_is_a_violation_by_itself() -> None:
    """The total epsilon of a defense with several mechanisms may hide that one of them leaks."""
    part = {"what": "fake", "noise_multiplier": 2.0, "rate": 1.0, "steps": 1, "mu": [0.6, 0.4, 0.4], "won": 0}
    found = AuditFinding("one_step", 8.0, DELTA, (3.0,) * 3, (9.0,) * 3, 100, (part,), 1.0, "d")
    assert found.violated(1)
    assert not found.violated(2)


def test_a_claim_refuted_by_chance_is_audited_again(monkeypatch: pytest.MonkeyPatch) -> None:
    repeats, refuted, error = 300, dict[int, int](), 0.2
    monkeypatch.setattr(audits, "ERROR", error)
    monkeypatch.setattr(audits, "epsilon_of_uses", lambda mechanism, mu, delta: 2.0 * mu)
    for tries in (1, 2):
        monkeypatch.setattr(audits, "TRIES", tries)
        seeds = range(tries * repeats, (tries + 1) * repeats)
        refuted[tries] = sum(fake(2.0, 2.0, trials=400, seed=seed).violated(1) for seed in seeds)
    assert refuted[2] <= at_most(repeats, error**2) < refuted[1] <= at_most(repeats, error)
