"""Stored cells are measured again and compared: what comes back, what drifts; nothing that is stored helps."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from cells import cell as made
from cells import interval
from msgspec import structs
from quick_components import PLUGIN

from bench.cli.main import main
from bench.core import source_code
from bench.core.dataset import DataLocation
from bench.core.digest import digest
from bench.core.errors import UserError
from bench.dp.weights_cache import WeightsCache
from bench.report import reproduce, reproduction_verdict
from bench.runner.cell import Cell, playable
from bench.runner.registry import discover
from bench.runner.request import Grid, Request
from bench.runner.selection import choose
from bench.store import code_release, read_write
from bench.store.records import CellResult
from bench.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
WORDS = ("--data", "made", "--defense", "says", "--attack", "honest", "--attack", "moody")
Check = Callable[..., int]


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "plugin.py"
    path.write_text(PLUGIN)
    return path


@pytest.fixture
def kept(results: Path, plugin: Path) -> Store:
    """Four cells: two attacks, two seeds."""
    words = ["run", "--no-reference", "--results", str(results), "--plugin", str(plugin), "--seeds", "0-1", *WORDS]
    assert main(words) == 0
    return Store(results)


def words(plugin: Path, kept: Store, *more: str) -> list[str]:
    seeds = () if "--seeds" in more else ("--seeds", "0-1")
    chosen = () if "--data" in more else WORDS
    return ["reproduce", "--results", str(kept.root), "--plugin", str(plugin), *seeds, *chosen, *more]


@pytest.fixture
def run(kept: Store, plugin: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """`bench reproduce` in this process; what the run before it printed is gone."""
    capsys.readouterr()
    return lambda *more: main(words(plugin, kept, *more))


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def edit(kept: Store, change: Callable[[dict[str, Any]], object], attack: str = "honest", seed: int = 0) -> None:
    path = kept.path("made", "says", attack, seed)
    values = json.loads(path.read_bytes())
    change(values)
    path.write_bytes(read_write.sealed(values))


def older_code(kept: Store, name: str) -> str:
    """A list of files like this one, but with another version of one that the cells reach."""
    files = dict(code_release.load(kept, name) or {})
    files["bench/games/membership.py"] = "0" * 32, files["bench/games/membership.py"][1]
    (kept.root / "code" / f"{digest(files)}.json").write_text(json.dumps(files))
    return digest(files)


def counts(text: str) -> Mapping[str, int]:
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return dict(zip(lines[0], map(int, lines[1]), strict=True))


def rows(text: str) -> list[dict[str, str]]:
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def only(**found: int) -> Mapping[str, int]:
    return {verdict: found.get(verdict, 0) for verdict in reproduce.VERDICTS}


# Verdicts


def test_what_did_not_change_comes_back_equal_and_nothing_stored_is_read_or_touched(
    run: Check, kept: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, looked, load = files(kept.root), [], WeightsCache.load

    def load_weights(self: WeightsCache, key: str) -> Any:
        looked.append(self.folder)
        return load(self, key)

    monkeypatch.setattr(WeightsCache, "load", load_weights)
    trained = (tmp_path / "trained").stat().st_size
    assert run("--write", str(tmp_path / "found" / "difference.md")) == 0
    text = capsys.readouterr().out
    assert counts(text) == only(equal=4)
    assert rows_or_none(text) == []
    assert (tmp_path / "found" / "difference.md").read_text() == text
    assert (tmp_path / "trained").stat().st_size == trained + 2, "both seeds must be trained anew"
    assert looked, "the release-free baseline is cached"
    assert not any(folder.is_relative_to(kept.root) for folder in looked)
    assert files(kept.root) == before


def rows_or_none(text: str) -> list[dict[str, str]]:
    return rows(text) if "| data |" in text else []


def test_another_number_inside_the_stored_interval(run: Check, kept: Store, capsys: pytest.CaptureFixture[str]) -> None:
    def elsewhere(values: dict[str, Any]) -> None:
        values["metrics"]["auc"]["value"] += 0.01
        values["machine"] = "f" * 32
        values["versions"]["numpy"] = "1.0"
        values["code"] = older_code(kept, values["code"])
        values["digest"] = "0" * 32

    edit(kept, elsewhere)
    assert run() == 0
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


def shifted(figure: dict[str, Any], by: float) -> None:
    figure.update({key: figure[key] + by for key in ("value", "low", "high")})


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
    run: Check, kept: Store, capsys: pytest.CaptureFixture[str], change: Callable[[dict[str, Any]], object], why: str
) -> None:
    edit(kept, change)
    assert run() == reproduce.DRIFT == 4
    text = capsys.readouterr().out
    assert counts(text) == only(equal=3, drift=1)
    [row] = rows(text)
    assert row["verdict"] == "drift"
    assert why.replace("\\", "") in row["what differs"]


@pytest.mark.parametrize("part", [("metrics", "auc"), ("utility", "accuracy")])
def test_a_number_outside_of_its_interval_is_refused(
    run: Check, kept: Store, capsys: pytest.CaptureFixture[str], part: tuple[str, str]
) -> None:
    edit(kept, lambda values: values[part[0]][part[1]].update(value=0.99, low=0.1, high=0.2))
    assert run() == 2
    assert "cannot be read, so nothing can be compared" in capsys.readouterr().err


def test_the_stored_cells_are_only_read(run: Check, kept: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Who checks those of a folder that cannot be written must not find that out when all is measured."""
    shutil.rmtree(kept.root / ".local")
    assert run() == 0
    assert counts(capsys.readouterr().out) == only(equal=4)
    assert not (kept.root / ".local").exists()


def test_a_cell_that_fails_is_named_with_its_reason_and_drift_outranks_it(
    run: Check, kept: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mood").write_text("broken")
    assert run() == 1
    text = capsys.readouterr().out
    assert counts(text) == only(equal=2, failed=2)
    assert all("the attack failed, RuntimeError: out of luck" in row["what differs"] for row in rows(text))
    edit(kept, lambda values: shifted(values["metrics"]["auc"], 0.3))
    assert run() == 4
    assert counts(capsys.readouterr().out) == only(equal=1, drift=1, failed=2)


def test_caveats_that_are_new_or_gone_are_listed(
    run: Check, kept: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mood").write_text("doubtful")
    edit(kept, lambda values: values["caveats"].append("40 non-members"))
    assert run() == 0
    text = capsys.readouterr().out
    assert "- New caveat, made/says/moody/0: stopped after 1 of 2000 steps" in text
    assert "- Gone caveat, made/says/honest/0: 40 non-members" in text
    assert (text.count("- New caveat"), text.count("- Gone caveat")) == (2, 1)


def judged(old: CellResult, **changed: Any) -> str:
    return reproduction_verdict.judge(old, structs.replace(old, **changed))[0]


def test_the_rules_of_a_verdict() -> None:
    old = made(auc=0.6, se=0.01, epsilon=8.0)
    ends = old.metrics["auc"]["low"], old.metrics["auc"]["high"]
    assert judged(old) == "equal"
    for value, by, verdict in ((0, 0, "inside"), (1, 0, "inside"), (0, -1e-6, "drift"), (1, 1e-6, "drift")):
        assert judged(old, metrics={**old.metrics, "auc": interval(ends[value] + by, 0.01)}) == verdict
    assert judged(old, metrics={**old.metrics, "baseline": interval(0.51, 0.01)}) == "inside", "another metric moved"
    assert judged(old, metrics={**old.metrics, "headline": "advantage"}) == "drift"
    accuracy = old.utility["accuracy"]
    for value, verdict in ((accuracy["high"], "inside"), (accuracy["high"] + 1e-6, "drift")):
        assert judged(old, utility={"accuracy": {**accuracy, "value": value}, "n": 500}) == verdict
    assert judged(old, privacy={**old.privacy, "epsilon": 8.0 * (1 + 1e-12)}) == "equal", "the last digits of a machine"
    assert judged(old, privacy={**old.privacy, "epsilon": 8.0 * (1 + 1e-6)}) == "drift"
    bare = {**old.metrics, "auc": {"not_measurable": "few"}}
    assert judged(structs.replace(old, metrics=bare)) == "equal"
    assert judged(structs.replace(old, metrics=bare), metrics={**bare, "baseline": interval(0.51, 0.01)}) == "inside"
    assert judged(structs.replace(old, metrics=bare), metrics=old.metrics) == "drift"
    flat = made(auc=0.5, se=0.0)
    assert judged(flat, metrics={**flat.metrics, "auc": interval(0.5 + 1e-12, 0.0)}) == "inside"


# Which cells


def test_what_is_not_stored_is_counted_and_nothing_at_all_is_a_mistake(
    run: Check, kept: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--seeds", "0-2") == 0
    out, _ = capsys.readouterr()
    assert counts(out) == only(equal=4)
    assert "- 2 requested cells are not stored" in out
    assert run("--seeds", "7") == 2
    assert "of the 2 requested cells none is stored" in capsys.readouterr().err
    kept.path("made", "says", "honest", 0).write_text("{")
    with pytest.warns(UserWarning, match="is left out"):
        Store(kept.root).results()
    assert run() == 2
    assert "cannot be read, so nothing can be compared" in capsys.readouterr().err
    assert run("--sample", "0") == 2
    assert "--sample must be at least 1" in capsys.readouterr().err
    assert run("--sample-seed", "3") == 2
    assert "say with --sample N how large" in capsys.readouterr().err
    assert run("--reuse-committed") == 2, "a cell that is taken as done was not measured again"


def test_what_a_budget_left_is_counted_and_a_check_of_nothing_does_not_pass(
    run: Check, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench.report.budget import Budget

    monkeypatch.setattr(Budget, "allows", lambda self, cell: cell.attack.name == "honest")
    assert run("--budget", "1h") == 0
    out = capsys.readouterr().out
    assert counts(out) == only(equal=2)
    assert "- the budget left 2 cells, which are not compared" in out
    monkeypatch.setattr(Budget, "batches", lambda self, cells: iter(()))
    assert run("--budget", "1h") == 2
    assert "not one of 4 cells was measured again: give a larger --budget" in capsys.readouterr().err


def many() -> list[Cell]:
    """Five rows, twelve attacks, three seeds."""
    registry = discover()
    defenses = tuple(
        choice
        for name in ("none", "constant", "dp_sgd", "top1", "dp_sgd,epsilon=1")
        for choice in choose(registry, "defense", name)
    )
    attacks = tuple(choose(registry, "attack", "membership"))
    return playable([Grid(defenses, attacks, tuple(choose(registry, "data", "digits")), (0, 1, 2))])


def test_a_sample_is_spread_over_rows_and_attacks_and_is_the_one_of_its_seed() -> None:
    cells = many()
    rows = {cell.defense.label for cell in cells}
    attacks = {cell.attack.label for cell in cells}
    drawn = reproduce.spread(cells, 2 * len(rows), 3)
    assert len({cell.name for cell in drawn}) == 2 * len(rows)
    per_row = Counter(cell.defense.label for cell in drawn)
    assert set(per_row.values()) == {2}
    assert max(Counter(cell.attack.label for cell in drawn).values()) <= -(-2 * len(rows) // len(attacks)) + 1
    assert reproduce.spread(cells, 10, 3) == drawn
    others = {tuple(cell.name for cell in reproduce.spread(cells, 10, seed)) for seed in range(5)}
    assert len(others) == 5
    assert sorted(cell.name for cell in reproduce.spread(cells, 10**6, 0)) == sorted(cell.name for cell in cells)


def test_the_seed_of_a_sample_is_printed_and_draws_it_again(run: Check, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--sample", "2") == 0
    out = capsys.readouterr().out
    assert counts(out) == only(equal=2)
    assert "a sample of 2 of 4 stored cells: --sample 2 --sample-seed " in out
    again = next(line for line in out.splitlines() if "--sample-seed" in line).split(": ")[1].split()[:4]
    assert run(*again) == 0
    assert capsys.readouterr().out == out


def test_records_that_are_not_at_hand_are_skipped_with_a_note(
    run: Check, kept: Store, plugin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "came").touch()
    chosen = ("--data", "afar", "--defense", "says", "--attack", "honest", "--seeds", "0")
    assert main(["run", "--no-reference", "--results", str(kept.root), "--plugin", str(plugin), *chosen]) == 0
    (tmp_path / "came").unlink()
    capsys.readouterr()
    assert run(*chosen, "--data", "made") == 0
    out = capsys.readouterr().out
    assert counts(out) == only(equal=1)
    assert "- 1 cells of afar skipped: afar is not on this machine: connect to the network." in out
    assert run(*chosen) == 2
    assert "nothing can be measured again: afar is not on this machine" in capsys.readouterr().err


# The folder of its own


def test_a_check_that_was_killed_goes_on_where_it_stopped(
    kept: Store, plugin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into, trained = tmp_path / "into", tmp_path / "trained"
    (tmp_path / "mood").write_text("killed")
    argv = words(plugin, kept, "--into", str(into))
    start = [sys.executable, "-c", f"import sys; from bench.cli.main import main; sys.exit(main({argv!r}))"]
    killed = subprocess.run(start, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert [cell.attack for cell in Store(into).results()] == ["honest"]
    (tmp_path / "mood").unlink()
    before = trained.stat().st_size
    assert main(argv) == 0
    assert counts(capsys.readouterr().out) == only(equal=4)
    assert trained.stat().st_size == before + 2
    assert main(argv) == 0
    assert trained.stat().st_size == before + 2, "all of it is there"


def test_a_cell_that_another_machine_left_there_is_not_taken_for_measured(
    run: Check, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even where a configuration of `run` accepts such cells."""
    (tmp_path / "board.yaml").write_text("reuse-committed: true")
    argv = ("--into", str(tmp_path / "into"), "--config", str(tmp_path / "board.yaml"))
    assert run(*argv) == 0

    def foreign(values: dict[str, Any]) -> None:
        shifted(values["metrics"]["auc"], 0.3)
        values["machine"] = "f" * 32

    edit(Store(tmp_path / "into"), foreign)
    capsys.readouterr()
    assert run(*argv) == 0
    assert counts(capsys.readouterr().out) == only(equal=4)


@pytest.mark.parametrize("into", [True, False])
def test_who_stops_it_is_told_what_was_kept(
    run: Check, tmp_path: Path, capsys: pytest.CaptureFixture[str], into: bool
) -> None:
    (tmp_path / "mood").write_text("stopped")
    assert run(*(["--into", str(tmp_path / "into")] if into else [])) == 130
    said = "what was measured is stored" if into else "nothing was kept: with --into DIR"
    assert said in capsys.readouterr().err


def test_a_folder_that_would_be_compared_with_itself_is_refused(
    run: Check, kept: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(kept.root, tmp_path / "copy")
    before = files(kept.root)
    for into, why in ((".", "share files"), ("in", "share files"), ("..", "share files"), ("../copy", "is a copy of")):
        assert run("--into", str(kept.root / into)) == 2
        assert why in capsys.readouterr().err
    assert files(kept.root) == before


def test_an_answer_of_older_code_in_a_resumed_folder_counts_for_nothing(
    kept: Store, plugin: Path, tmp_path: Path
) -> None:
    registry = discover([plugin])
    defenses, attacks = choose(registry, "defense", "says"), choose(registry, "attack", "honest")
    one = Grid(tuple(defenses), tuple(attacks), tuple(choose(registry, "data", "made")), (0,))
    request = Request((one,), kept.root, DataLocation())
    chosen = reproduce.choose(request, kept, None, None)
    [cell] = chosen.cells
    into = Store(tmp_path / "into")
    into.save(structs.replace(chosen.results[cell.name], digest="0" * 32))
    with pytest.raises(UserError, match="not one of 1 cells was measured again"):
        reproduce.compare(chosen, into, {}, registry, kept)
    into.save(chosen.results[cell.name])
    assert [one.verdict for one in reproduce.compare(chosen, into, {}, registry, kept).compared] == ["equal"]


def test_comparing_needs_neither_tensorflow_nor_a_network(
    run: Check, kept: Store, plugin: Path, tmp_path: Path
) -> None:
    into = tmp_path / "into"
    assert run("--into", str(into)) == 0
    code = f"""
import socket, sys
def refuse(*_):
    raise AssertionError("the network was asked")
socket.socket.connect = refuse
from bench.cli.main import main
assert main({words(plugin, kept, "--into", str(into))!r}) == 0
slow = {{"tensorflow", "keras", "tensorflow_privacy", "tensorflow_datasets", "art", "sklearn", "dp_accounting"}}
print(sorted(slow & set(sys.modules)))
"""
    ours = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=ours, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_code_that_changed_since_is_named(run: Check, plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin.write_text(PLUGIN.replace("x).max(1)", "x).max(1) * 2"))
    for function in vars(source_code).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()
    edited = run("--attack", "honest")
    text = capsys.readouterr().out
    assert edited == 0
    assert counts(text)["equal"] == 4, "twice the score is the same order"
    with pytest.raises(UserError, match="none is stored"):
        reproduce.choose(Request((), Path("."), DataLocation()), Store(Path("nowhere")), None, None)
