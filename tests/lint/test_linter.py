"""Planted bugs are flagged, correct code is not, and a defense that fails gets a finding.

That every shipped defense is clean is tested in tests/conformance; how often bugs are flagged: `tests.lint.planted`.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from conftest import components
from planted import GROUPS
from planted.bug import CLAIMS, Bug, small, units

from bench.core.component import Choice, defense
from bench.core.dataset import Examples, Split
from bench.core.release import Release
from bench.dp import accounting, training_loop
from bench.lint import probe_run
from bench.lint.linter import lint
from bench.lint.optimizer_update import LENGTHS

BUGS = {bug.name: bug for group in GROUPS for bug in GROUPS[group] if group != "right"}
# One bug for each probe, and for each data set that only one bug needs; the others take an hour and are slow.
DEFAULT_BUGS = {
    "no noise", "doubled sensitivity", "second moments from clean sums", "shuffled epochs",
    "scaling by the private maximum", "scaling by the private maximum, in the release",
    "one row of noise for all rows of a mechanism", "half of the votes accounted", "votes dealt out by position",
    "let out: private records for later", "noise that is let out as features", "fitted once, kept in the module",
    "half of two classes agree", "one noise for small tables", "small tables, whatever the seed",
    "records of a small class count thrice", "a class of few is not answered", "rare classes left out",
}  # fmt: skip
DEFAULT_RIGHT = {
    "small", "sums by class", "votes", "a forest of public splits", "public records with noise",
    "descent by the mechanism in lots", "components about a noised sum over n",
    "half of two classes agree, with noise", "small tables, each with its noise", "updates clipped by hand",
}  # fmt: skip


def slow_unless(default: bool) -> Any:
    """The marks of a parameter."""
    return [] if default else pytest.mark.slow


def test_the_default_bugs_are_planted() -> None:
    assert BUGS.keys() >= DEFAULT_BUGS
    assert {bug.name for bug in GROUPS["right"]} >= DEFAULT_RIGHT


# Private training refuses these, so that no probe observes a step.
REFUSED = {"a layer that looks at the whole lot": "a layer mixes records"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=slow_unless(name in DEFAULT_BUGS)) for name in BUGS])
def test_a_planted_bug_is_flagged(name: str, cancer: Split) -> None:
    [found] = BUGS[name].found(cancer, 0)
    assert found.what
    assert "\n" not in found.what
    assert ": " in found.what, "a finding states the defect, then the remedy"
    if name in REFUSED:
        assert (found.probe, REFUSED[name] in found.what) == ("run", True)
    else:
        assert found.probe != "run", found.what


@pytest.mark.slow
def test_returning_an_earlier_step_of_some_trainings_is_flagged(cancer: Split) -> None:
    """In one probed training the returned step may be the best one, so another training is probed, too."""
    right = training_loop.fit

    def fit(recipes: Any, parts: Any, *rest: Any) -> Any:
        unchanged = recipes[0].privacy is None or recipes[0].steps == max(LENGTHS)
        early = recipes if unchanged else [replace(one, steps=one.steps - 1) for one in recipes]
        return right(early, parts, *rest) | {"steps": np.array(recipes[0].steps)}

    [found] = Bug("unchanged", small, lambda: patch.object(training_loop, "fit", fit)).found(cancer, 0)
    assert "returns other weights" in found.what


@pytest.mark.parametrize(
    "bug",
    [pytest.param(bug, id=bug.name, marks=slow_unless(bug.name in DEFAULT_RIGHT)) for bug in GROUPS["right"]],
)
def test_correct_code_is_not_flagged(bug: Bug, cancer: Split) -> None:
    assert bug.found(cancer, 1, whole=True, most=9) == ()


def test_a_defense_without_a_claim_is_not_linted(cancer: Split) -> None:
    assert lint(Choice(components().defenses["none"]), cancer, 0) == ()
    assert lint(Choice(small.component, {"epsilon": math.inf}), cancer, 0) == ()


def test_a_defense_that_fails_is_not_clean(cancer: Split) -> None:
    def fails(private: Examples, public: Examples, *, seed: int) -> Any:
        raise ZeroDivisionError("no such class")

    [found] = lint(Choice(replace(small.component, function=fails, options={})), cancer, 0)
    assert "ZeroDivisionError: no such class" in found.what


def noisy_mean(private: Examples, rng: Any) -> Any:
    """Noised sums of clipped records, without the mechanism of the project."""
    sums = units(private.x).sum(0) + rng.normal(0, 1, private.shape)
    return Release(accounting.training_event(1.0, 1.0, 1), predict=lambda x: np.exp(np.outer(x @ sums, [0.01, -0.01])))


def fails_on_predict(private: Examples, rng: Any) -> Any:
    def predict(x: Any) -> Any:
        raise KeyError("no such record")

    return Release(accounting.no_access(), predict=predict)


def private_steps(private: Examples, rng: Any) -> Any:
    """Logistic regression by DP-SGD in NumPy: correct, but the linter cannot observe it."""
    weights = np.zeros(private.shape)
    for _ in range(4):
        batch = private[rng.random(len(private)) < 0.2]
        slopes = 1 / (1 + np.exp(-batch.x @ weights)) - batch.y
        weights -= 0.01 * (units(slopes[:, None] * batch.x).sum(0) + rng.normal(0, 1, private.shape))
    dp_event = accounting.training_event(0.2, 1.0, 4)
    return Release(dp_event, predict=lambda x: 1 / (1 + np.exp(np.outer(x @ weights, [-1, 1]))))


FAILING: dict[str, tuple[Any, str]] = {
    "exits": (lambda private, rng: sys.exit(3), "SystemExit"),
    "hangs": (lambda private, rng: time.sleep(60), "did not end within"),
    "returns nothing": (lambda private, rng: None, "returned a NoneType"),
    "accounts nothing": (lambda private, rng: Release(None), "dp_event is a NoneType"),  # type: ignore[arg-type]
    "releases nothing": (lambda private, rng: Release(accounting.no_privacy()), "no finite epsilon"),
    "modifies records": (lambda private, rng: private.x.sort(0), "read-only"),
    "fails on predict": (fails_on_predict, "no such record"),
    "ignores its seed": (lambda private, rng: noisy_mean(private, np.random.default_rng()), "runs with the same seed"),
    "draws from the global state": (lambda private, rng: noisy_mean(private, np.random), "runs with the same seed"),
    "noise in NumPy": (noisy_mean, "outside of DP training"),
    "DP-SGD in NumPy": (private_steps, "outside of DP training"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILING)
def test_a_defense_that_fails_gets_a_finding(name: str, cancer: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_run, "TIME_LIMIT", 0.5 if name == "hangs" else 600)
    behaviour, message = FAILING[name]

    @defense("failing", **CLAIMS)
    def failing(private: Examples, public: Examples, *, seed: int) -> Any:
        return behaviour(private, np.random.default_rng(seed))

    found = lint(Choice(failing.component), cancer, 0)  # type: ignore[attr-defined]
    assert found
    assert message in found[0].what
    assert all("\n" not in one.what and ": " in one.what for one in found)
