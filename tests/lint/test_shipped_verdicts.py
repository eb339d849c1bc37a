"""The linter's verdicts on the defenses of the package are shipped: a run lints only what differs from them."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import components
from msgspec.structs import replace

from bench.cli import run
from bench.core.component import Choice
from bench.core.dataset import DataLocation
from bench.core.source_code import BENCH, reached
from bench.lint import linter, verdicts
from bench.runner.registry import discover
from bench.runner.request import Grid, Request
from bench.runner.selection import choose_all
from bench.store import freshness
from bench.store.records import LintFinding, LintVerdict, place_of_label
from bench.store.store import Store

AGAIN = "the code that decides them changed: run `python -m bench.lint.verdicts` and commit bench/lint/shipped"
SOURCE = (Path(__file__).resolve().parents[2] / "defenses" / "dp_merf.py").read_text()
LINE = "wanted, shares = rows(fit.weights)"


@pytest.fixture
def linted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The labels that are linted, of a linter that finds nothing."""
    labels: list[str] = []
    monkeypatch.setattr(linter, "lint", lambda choice, *_: labels.append(choice.label) or ())
    return labels


@pytest.fixture
def shipped(tmp_path: Path, linted: list[str], monkeypatch: pytest.MonkeyPatch) -> Store:
    """Clean verdicts of the present code, in place of those that are shipped."""
    monkeypatch.setattr(verdicts, "SHIPPED", Store(tmp_path / "shipped"))
    for choice in verdicts.of_package(components()):
        verdicts.SHIPPED.save(verdicts.measure(choice, components()))
    linted.clear()
    return verdicts.SHIPPED


def lint(results: Path, plugin: Path | None, *defenses: str) -> bool:
    registry = discover([plugin] if plugin else [])
    chosen = {"defense": defenses, "attack": ["confidence"], "data": ["digits"]}
    grid = Grid(*(tuple(choose_all(registry, kind, names)) for kind, names in chosen.items()), (0,))
    return run.lint_claims(Request((grid,), results, DataLocation()), registry)


def test_there_is_one_of_each_defense_that_claims_privacy_and_none_is_of_other_code() -> None:
    registry = components()
    choices = verdicts.of_package(registry)
    assert {choice.name for choice in choices} == {one.name for one in registry.defenses.values() if one.private}
    files = {verdicts.SHIPPED.root.joinpath(*place_of_label(LintVerdict, choice.label)) for choice in choices}
    assert set(verdicts.SHIPPED.root.rglob("*.json")) == files, AGAIN
    assert [choice.label for choice in verdicts.stale(verdicts.SHIPPED, registry, choices)] == [], AGAIN


@pytest.mark.slow
@pytest.mark.parametrize("choice", verdicts.of_package(components()), ids=lambda choice: choice.label)
def test_a_verdict_is_what_the_linter_finds(choice: Choice) -> None:
    assert verdicts.measure(choice, components()) == verdicts.SHIPPED.find_label(LintVerdict, choice.label)


def test_a_run_lints_only_what_has_no_verdict(results: Path, shipped: Store, linted: list[str]) -> None:
    assert not lint(results, None, "dp_vaegm,epsilon=1", "dp_merf", "dp_sgd,batch_size=7", "none")
    assert linted == ["dp_sgd,batch_size=7"]
    stored = {path.stem for path in (results / "probes").iterdir()}
    assert stored == {"dp_vaegm", "dp_merf", "dp_sgd,batch_size=7"}
    assert verdicts.caveat(Store(results), components(), "dp_vaegm") is None


@pytest.mark.parametrize(
    ("edited", "anew"), [(f"{LINE}  # a comment", []), (f"{LINE}\n    shares = shares * 2", ["dp_merf"])]
)
def test_an_edited_defense_is_linted_anew(
    results: Path, tmp_path: Path, shipped: Store, linted: list[str], edited: str, anew: list[str]
) -> None:
    plugin = tmp_path / "dp_merf.py"
    assert SOURCE.count(LINE) == 1
    plugin.write_text(SOURCE.replace(LINE, edited))
    assert not lint(results, plugin, "dp_merf")
    assert linted == anew


def test_what_decides_a_verdict_counts_for_its_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[frozenset[Path]] = []
    monkeypatch.setattr(freshness, "code_digest", lambda roots, also=(): taken.append(reached(roots, also)) or "")
    defense = components().defenses["dp_sgd"]
    freshness.verdict_digest(Choice(defense), [components().data["digits"]])
    [files] = taken
    assert defense.source in files
    counted = {path.relative_to(BENCH).as_posix() for path in files if path.is_relative_to(BENCH)}
    assert {"dp/optimizer.py", "dp/accounting.py", "lint/probe_data.py", "lint/short_options.py"} <= counted
    assert {f"lint/{path.name}" for path in (BENCH / "lint").glob("[a-z]*_*.py")} <= counted
    assert "lint/verdicts.py" not in counted, "it keeps books"


def test_a_shipped_finding_is_told(
    results: Path, shipped: Store, linted: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    clean = shipped.find_label(LintVerdict, "dp_merf")
    assert clean
    shipped.save(replace(clean, findings=(LintFinding("noise", "too little: add some"),)))
    assert lint(results, None, "dp_merf")
    assert "dp_merf: noise: too little: add some." in capsys.readouterr().err
    assert linted == []


def test_the_command_lints_what_changed_and_deletes_what_is_gone(
    shipped: Store, linted: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    one = shipped.find_label(LintVerdict, "dp_merf")
    assert one
    shipped.save(replace(one, digest="of other code"))
    gone = shipped.save(replace(one, defense="gone"))
    verdicts.main()
    assert linted == ["dp_merf"]
    assert shipped.find_label(LintVerdict, "dp_merf") == one
    assert not gone.exists()
    assert capsys.readouterr().out.splitlines() == [str(shipped.root / "probes" / "dp_merf.json")]
