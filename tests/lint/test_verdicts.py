"""Verdicts are stored until the code or options change, and `run` lints defenses without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import components
from msgspec.structs import replace
from planted.bug import small

from bench.cli.main import main
from bench.core.component import Choice
from bench.lint import linter, verdicts
from bench.lint.short_options import SHORT_OPTIONS, shortened, verdict_choice
from bench.runner.registry import Registry
from bench.store.records import LintFinding, LintVerdict
from bench.store.store import Store


def test_linter_runs_are_short_and_one_verdict_covers_every_epsilon() -> None:
    choice = Choice(components().defenses["dp_vaegm"], {"epsilon": 1.0, "steps": 99, "clip_networks": True})
    assert verdict_choice(choice).label == "dp_vaegm,clip_networks=true"
    assert shortened(choice).settings["steps"] == SHORT_OPTIONS["steps"]
    assert shortened(choice).settings["epsilon"] == 1.0


@pytest.fixture
def registry() -> Registry:
    return Registry({"small": small.component}, {}, components().data, [])


def test_verdicts_are_valid_until_something_changes(
    registry: Registry, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, choice = Store(results), Choice(small.component)
    assert "not probed" in str(verdicts.caveat(store, registry, "small"))
    monkeypatch.setattr(linter, "lint", lambda *_: ())
    verdict = verdicts.measure(choice, registry)
    store.save(verdict)
    assert store.find_label(LintVerdict, "small") == verdict
    assert store.root.joinpath(*verdict.place) == results / "probes" / "small.json"
    assert verdicts.caveat(store, registry, "small") is None
    assert verdicts.caveat(store, registry, "small,epsilon=1") is None
    assert "not probed" in str(verdicts.caveat(store, registry, "small,engine=vectorized"))
    assert "known: all, small" in str(verdicts.caveat(store, registry, "gone"))
    assert store.results() == []

    store.save(replace(verdict, findings=(LintFinding("noise", "too little: add some"),)))
    assert verdicts.caveat(store, registry, "small") == "noise: too little: add some."
    store.save(replace(verdict, digest="old"))
    assert "other code" in str(verdicts.caveat(store, registry, "small"))
    store.root.joinpath(*verdict.place).write_text("{")
    assert "is damaged" in str(verdicts.caveat(store, registry, "small"))


def test_a_defense_without_a_claim_requires_no_verdict(results: Path) -> None:
    for label in ("none", "dp_sgd,epsilon=inf"):
        assert verdicts.caveat(Store(results), components(), label) is None


CONSTANT = '''
import numpy as np
from bench import Release, accounting, defense


@defense("constant_plugin", publishes={"predict"}, private=True)
def constant_plugin(private, public, *, seed, epsilon=8.0):
    """A constant prediction."""
    return Release(accounting.no_access(), predict=lambda x: np.full((len(x), private.classes), 1 / private.classes))
'''


@pytest.mark.parametrize("findings", [(), (LintFinding("noise", "too little: add some"),)])
def test_run_probes_defenses_without_a_verdict_and_prints_the_findings(
    findings: tuple[LintFinding, ...],
    results: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    probed_labels: list[str] = []

    def fake(choice: Choice, *_: Any) -> tuple[LintFinding, ...]:
        probed_labels.append(choice.label)
        return findings

    monkeypatch.setattr(linter, "lint", fake)
    plugin = tmp_path / "constant_plugin.py"
    plugin.write_text(CONSTANT)
    arguments = ["run", "--no-reference", "--plugin", str(plugin), "--results", str(results), "--attack", "confidence"]
    arguments += ["--data", "breast_cancer,private=60,holdout=60,public=60"]
    for epsilon in (1.0, 8.0):
        arguments += ["--defense", f"constant_plugin,epsilon={epsilon}"]
    for _ in range(2):
        assert main(arguments) == (3 if findings else 0)
        printed = "bench: constant_plugin,epsilon=1: noise: too little: add some." in capsys.readouterr().err
        assert printed == bool(findings)
    assert probed_labels == ["constant_plugin"], "one verdict covers every epsilon, and a valid one is reused"
