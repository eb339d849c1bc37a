"""Planted bugs are flagged and right code is not; verdicts are kept as long as nothing changes; `run` asks for them.

That every shipped defense is clean stands in test_contracts.py; how often bugs are flagged: `tests.audit.planted`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import components
from planted import BAR, CORRECT, MORE, Bug, small
from scipy import stats

from bench import measuring
from bench.aggregation import Policy, Server
from bench.component import Choice
from bench.data import Data, Examples, Where
from bench.probes import lint as linter
from bench.probes import verdicts
from bench.probes.arrivals import unmatched
from bench.probes.doors import Averaged, Seen
from bench.probes.finding import SURE, Finding, alike, dispersion, spread
from bench.probes.lint import lint
from bench.probes.quick import QUICK, probed, short
from bench.probes.server import server
from bench.registry import Crossing, Registry, Request
from bench.store import Store

BUGS = {bug.name: bug for bug in (*BAR, *MORE)}


# The bugs


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_flagged(name: str, cancer: Data) -> None:
    [found] = BUGS[name].found(cancer, 0)
    assert found.what
    assert "\n" not in found.what
    assert ": " in found.what, "a sentence says what is wrong, then what to do"
    assert found.probe != "trial", found.what


RIGHT = [pytest.param(bug, id=bug.name, marks=[pytest.mark.slow] if bug.name != "small" else []) for bug in CORRECT]


@pytest.mark.parametrize("bug", RIGHT)
def test_what_is_right_is_not_flagged(bug: Bug, cancer: Data) -> None:
    assert bug.found(cancer, 1, whole=True, most=9) == ()


def test_who_claims_nothing_is_not_probed(cancer: Data) -> None:
    assert lint(Choice(components().defenses["none"]), cancer, 0) == ()
    assert lint(Choice(small.component, {"epsilon": math.inf}), cancer, 0) == ()


def test_a_defense_that_fails_is_not_clean(cancer: Data) -> None:
    def fails(private: Examples, public: Examples, *, seed: int) -> Any:
        raise ZeroDivisionError("no such class")

    [found] = lint(Choice(replace(small.component, function=fails, options={})), cancer, 0)
    assert "ZeroDivisionError: no such class" in found.what


@pytest.mark.parametrize("bug", ["", "clip", "noise", "by those who answered"])
def test_a_server_that_clips_or_noises_wrong_is_flagged(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Server.close

    def close(made: Server) -> None:
        if bug == "clip":
            policy = made.policy
            made.policy = replace(policy, clip=3 * policy.clip, noise_multiplier=policy.noise_multiplier / 3)
        elif bug == "noise":
            made.policy = replace(made.policy, noise_multiplier=0.5 * made.policy.noise_multiplier)
        elif bug:
            made.clients = made.clients[: max(1, len(made._taken))]
        right(made)

    monkeypatch.setattr(Server, "close", close)
    seen = Seen(averaged=[Averaged(Policy(clip=0.7, noise_multiplier=1.3), 3, [], [], [])])
    assert bool(server(seen, 0)) == bool(bug)


# The tests that probes make


def test_tests_have_their_error_rate_and_reject_the_wrong_value() -> None:
    rng = np.random.default_rng(0)
    some = rng.normal(0, 2, (400, 300))
    rates = np.array([spread(row, 4.0) for row in some])
    assert stats.kstest(rates, "uniform").pvalue > SURE
    assert spread(some[0], 1.0) < SURE
    pairs = np.array([alike(a, b, 2.0) for a, b in zip(some[::2], some[1::2], strict=True)])
    assert stats.kstest(pairs, "uniform").pvalue > SURE
    assert alike(some[0], some[0], 2.0) < SURE
    lots = rng.binomial(64, 0.3, (400, 60)).astype(float)
    law = (64 * 0.3, 64 * 0.3 * 0.7, (1 - 6 * 0.21) / (64 * 0.21))
    assert np.mean([dispersion(row, *law) < 0.01 for row in lots]) < 0.03
    assert dispersion(np.full(60, 19.0), *law) < SURE
    assert dispersion(np.repeat(lots[0][:2], 30) * 3, *law) < SURE


def test_rows_are_matched_one_to_one_and_up_to_rounding() -> None:
    rng = np.random.default_rng(0)
    some = Examples(rng.random((20, 5)), np.zeros(20, int), 2)
    close = Examples(some.x[::-1] + np.float32(1e-6), some.y, 2)
    twice = Examples(np.concatenate([some.x, some.x[:1]]), np.zeros(21, int), 2)
    assert unmatched(some, close) == unmatched(close, some) == 0
    assert (unmatched(some, twice), unmatched(twice, some)) == (0, 1)
    assert unmatched(some, Examples(some.x * 1.001, some.y, 2)) == 20
    assert unmatched(some, Examples(some.x, 1 - some.y, 2)) == 20
    assert unmatched(some[:0], some) == 0


# Verdicts


def test_a_trial_is_short_and_one_verdict_stands_for_every_epsilon() -> None:
    choice = Choice(components().defenses["dp_vaegm"], {"epsilon": 1.0, "steps": 99, "clip_networks": True})
    assert probed(choice).label == "dp_vaegm,clip_networks=true"
    assert short(choice).settings["steps"] == QUICK["steps"]
    assert short(choice).settings["epsilon"] == 1.0


@pytest.fixture
def registry() -> Registry:
    return Registry({"small": small.component}, {}, components().data, [])


def test_verdicts_are_kept_until_something_changes(
    registry: Registry, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, choice = Store(results), Choice(small.component)
    assert "not probed" in str(verdicts.caveat(store, registry, "small"))
    monkeypatch.setattr(linter, "lint", lambda *_: ())
    verdict = verdicts.measure(choice, registry)
    verdicts.save(store, verdict)
    assert verdicts.load(store, "small") == verdict
    assert verdicts.path(store, "small") == results / "probes" / "small.json"
    assert verdicts.caveat(store, registry, "small") is None
    assert verdicts.caveat(store, registry, "small,epsilon=1") is None
    assert "not probed" in str(verdicts.caveat(store, registry, "small,engine=vectorized"))
    assert "known: all, small" in str(verdicts.caveat(store, registry, "gone"))
    assert store.results() == []

    verdicts.save(store, replace(verdict, findings=(Finding("noise", "too little: add some"),)))
    assert verdicts.caveat(store, registry, "small") == "noise: too little: add some."
    verdicts.save(store, replace(verdict, digest="old"))
    assert "other code" in str(verdicts.caveat(store, registry, "small"))
    verdicts.path(store, "small").write_text("{")
    assert "not probed" in str(verdicts.caveat(store, registry, "small"))


def test_who_claims_nothing_needs_no_verdict(results: Path) -> None:
    for label in ("none", "dp_sgd,epsilon=inf"):
        assert verdicts.caveat(Store(results), components(), label) is None


@pytest.mark.parametrize("findings", [(), (Finding("noise", "too little: add some"),)])
def test_a_run_probes_whom_it_does_not_know_and_says_what_was_found(
    findings: tuple[Finding, ...],
    registry: Registry,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[str] = []

    def fake(choice: Choice, *_: Any) -> tuple[Finding, ...]:
        asked.append(choice.label)
        return findings

    monkeypatch.setattr(linter, "lint", fake)
    chosen = tuple(Choice(small.component, {"epsilon": epsilon}) for epsilon in (1.0, 8.0, math.inf))
    request = Request((Crossing(chosen, (), (), (0,)),), results, Where())
    assert measuring._probe(request, registry) == bool(findings)
    assert ("bench: small,epsilon=1: noise: too little: add some." in capsys.readouterr().err) == bool(findings)
    assert measuring._probe(request, registry) == bool(findings)
    assert asked == ["small"], "a fresh verdict costs nothing"
