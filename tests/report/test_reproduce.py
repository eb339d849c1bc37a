"""`bench reproduce` measures stored cells again, reads no stored result meanwhile, and reports every difference."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cells import cell as made
from cells import interval
from msgspec import structs
from quick_components import PLUGIN
from reproductions import Check, counts, edit, files, older_code, only, rows, shifted

from bench.core import source_code
from bench.core.dataset import DataLocation
from bench.core.errors import UserError
from bench.dp.weights_cache import WeightsCache
from bench.report import reproduce, reproduction_verdict
from bench.runner.request import Request
from bench.store.records import CellResult
from bench.store.store import Store


def test_unchanged_cells_are_equal_and_no_stored_weights_are_read(
    check: Check, kept: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, looked, load = files(kept.root), [], WeightsCache.load

    def load_weights(self: WeightsCache, key: str) -> Any:
        looked.append(self.folder)
        return load(self, key)

    monkeypatch.setattr(WeightsCache, "load", load_weights)
    trained = (tmp_path / "trained").stat().st_size
    assert check("--write", str(tmp_path / "found" / "difference.md")) == 0
    text = capsys.readouterr().out
    assert counts(text) == only(equal=4)
    assert rows_or_none(text) == []
    assert (tmp_path / "found" / "difference.md").read_text() == text
    assert (tmp_path / "trained").stat().st_size == trained + 2, "both seeds are trained again"
    assert looked, "the release-free baseline is cached"
    assert not any(folder.is_relative_to(kept.root) for folder in looked)
    assert files(kept.root) == before


def rows_or_none(text: str) -> list[dict[str, str]]:
    return rows(text) if "| data |" in text else []


def test_another_number_inside_the_stored_interval(
    check: Check, kept: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    def elsewhere(values: dict[str, Any]) -> None:
        values["metrics"]["auc"]["value"] += 0.01
        values["machine"] = "f" * 32
        values["versions"]["numpy"] = "1.0"
        values["code"] = older_code(kept, values["code"])
        values["digest"] = "0" * 32

    edit(kept, elsewhere)
    assert check() == 0
    text = capsys.readouterr().out
    assert counts(text) == only(equal=3, inside=1)
    [row] = rows(text)
    assert (row["data"], row["defense"], row["attack"], row["seed"]) == ("made", "says", "honest", "0")
    assert row["verdict"] == "inside"
    assert "[" in row["stored"]
    assert row["stored"].split()[0] != row["now"]
    assert "->" in row["utility"]
    for cause in (
        "code of bench/games/membership.py changed",
        "version of numpy changed: 1.0 -> ",
        "measured on another machine",
    ):
        assert cause in row["what differs"]


MUTANTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "the headline": (lambda v: shifted(v["metrics"]["auc"], 0.3), reproduce.UNRECORDED),
    "the utility": (lambda v: shifted(v["utility"]["accuracy"], 0.3), "nothing that is recorded"),
    "no utility": (lambda v: v.update(utility={"not_measurable": "?"}), "nothing that is recorded"),
    "epsilon": (lambda v: v["privacy"].update(epsilon=8.0), "epsilon: 8.0 -> inf"),
    "delta": (lambda v: v["privacy"].update(delta=1e-6), "delta: 1e-06 -> 1e-05"),
    "sampler": (lambda v: v["privacy"].update(sampler="Poisson"), "sampler: Poisson -> none"),
    "relation": (lambda v: v["privacy"].update(relation="replace one"), "relation: replace one -> add/remove"),
    "another processor": (
        lambda v: (shifted(v["metrics"]["auc"], 0.3), v.update(instruction_set="x86_64 sse9")),
        "instruction set changed: x86_64 sse9 -> ",
    ),
    "what is public": (lambda v: v["privacy"].update(public_knowledge=["n"]), "public_knowledge: \\['n'\\] -> \\[\\]"),
}


@pytest.mark.parametrize(("change", "why"), MUTANTS.values(), ids=MUTANTS)
def test_a_stored_number_that_was_edited_is_drift(
    check: Check, kept: Store, capsys: pytest.CaptureFixture[str], change: Callable[[dict[str, Any]], object], why: str
) -> None:
    edit(kept, change)
    assert check() == reproduce.DRIFT == 4
    text = capsys.readouterr().out
    assert counts(text) == only(equal=3, drift=1)
    [row] = rows(text)
    assert row["verdict"] == "drift"
    assert why.replace("\\", "") in row["what differs"]


@pytest.mark.parametrize("part", [("metrics", "auc"), ("utility", "accuracy")])
def test_a_number_outside_of_its_interval_is_refused(
    check: Check, kept: Store, capsys: pytest.CaptureFixture[str], part: tuple[str, str]
) -> None:
    edit(kept, lambda values: values[part[0]][part[1]].update(value=0.99, low=0.1, high=0.2))
    assert check() == 2
    assert "cannot be read, so nothing can be compared" in capsys.readouterr().err


def test_the_stored_cells_are_only_read(check: Check, kept: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """A read-only folder of stored cells is enough; an error after hours of measuring would be too late."""
    shutil.rmtree(kept.root / ".local")
    assert check() == 0
    assert counts(capsys.readouterr().out) == only(equal=4)
    assert not (kept.root / ".local").exists()


def test_a_cell_that_fails_is_named_with_its_reason_and_drift_outranks_it(
    check: Check, kept: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mood").write_text("broken")
    assert check() == 1
    text = capsys.readouterr().out
    assert counts(text) == only(equal=2, failed=2)
    assert all("the attack failed, RuntimeError: out of luck" in row["what differs"] for row in rows(text))
    edit(kept, lambda values: shifted(values["metrics"]["auc"], 0.3))
    assert check() == 4
    assert counts(capsys.readouterr().out) == only(equal=1, drift=1, failed=2)


def test_new_and_missing_caveats_are_listed(
    check: Check, kept: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mood").write_text("doubtful")
    edit(kept, lambda values: values["caveats"].append("40 non-members"))
    assert check() == 0
    text = capsys.readouterr().out
    assert "- New caveat, made/says/moody/0: stopped after 1 of 2000 steps" in text
    assert "- Gone caveat, made/says/honest/0: 40 non-members" in text
    assert (text.count("- New caveat"), text.count("- Gone caveat")) == (2, 1)


def verdict_of(old: CellResult, **changed: Any) -> str:
    return reproduction_verdict.judge(old, structs.replace(old, **changed))[0]


def test_the_rules_of_a_verdict() -> None:
    old = made(auc=0.6, se=0.01, epsilon=8.0)
    ends = old.metrics["auc"]["low"], old.metrics["auc"]["high"]
    assert verdict_of(old) == "equal"
    for value, by, verdict in ((0, 0, "inside"), (1, 0, "inside"), (0, -1e-6, "drift"), (1, 1e-6, "drift")):
        assert verdict_of(old, metrics={**old.metrics, "auc": interval(ends[value] + by, 0.01)}) == verdict
    assert verdict_of(old, metrics={**old.metrics, "baseline": interval(0.51, 0.01)}) == "inside", (
        "only another metric changed"
    )
    assert verdict_of(old, metrics={**old.metrics, "headline": "advantage"}) == "drift"
    accuracy = old.utility["accuracy"]
    for value, verdict in ((accuracy["high"], "inside"), (accuracy["high"] + 1e-6, "drift")):
        assert verdict_of(old, utility={"accuracy": {**accuracy, "value": value}, "n": 500}) == verdict
    assert verdict_of(old, privacy={**old.privacy, "epsilon": 8.0 * (1 + 1e-12)}) == "equal", "rounding error"
    assert verdict_of(old, privacy={**old.privacy, "epsilon": 8.0 * (1 + 1e-6)}) == "drift"
    bare = {**old.metrics, "auc": {"not_measurable": "few"}}
    assert verdict_of(structs.replace(old, metrics=bare)) == "equal"
    assert (
        verdict_of(structs.replace(old, metrics=bare), metrics={**bare, "baseline": interval(0.51, 0.01)}) == "inside"
    )
    assert verdict_of(structs.replace(old, metrics=bare), metrics=old.metrics) == "drift"
    flat = made(auc=0.5, se=0.0)
    assert verdict_of(flat, metrics={**flat.metrics, "auc": interval(0.5 + 1e-12, 0.0)}) == "inside"


def test_changed_code_is_named(check: Check, plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin.write_text(PLUGIN.replace("x).max(1)", "x).max(1) * 2"))
    for function in vars(source_code).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()
    edited = check("--attack", "honest")
    text = capsys.readouterr().out
    assert edited == 0
    assert counts(text)["equal"] == 4, "twice the scores have the same order"
    with pytest.raises(UserError, match="none is stored"):
        reproduce.choose(Request((), Path("."), DataLocation()), Store(Path("nowhere")), None, None)
