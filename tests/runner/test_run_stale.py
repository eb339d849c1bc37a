"""Which stored cells a run measures again, and which caveats it stores with a cell."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs
from toy_runs import PLUGIN, Run, cells, edited, files

from bench.cli.main import main
from bench.runner.registry import discover
from bench.store.freshness import freshness
from bench.store.store import Store


def test_cells_of_another_machine_are_measured_again_unless_reuse_committed(run: Run, results: Path) -> None:
    selection = ("says", "against", "honest", "slow")
    assert run(*selection) == 0
    store = Store(results)
    for cell in store.results():
        store.save(structs.replace(cell, machine="0" * 32))
    published = files(results)
    assert run(*selection, more=("--reuse-committed",)) == 0
    assert files(results) == published
    assert run(*selection) == 0
    assert {cell.machine for cell in store.results()} == {store.machine}


@pytest.mark.parametrize(
    ("old", "new", "stale"),
    [
        ("return noise(seed)", "return noise(seed + 1)", True),
        ("time.sleep(0.3)", "time.sleep(0)", True),
        ("bias=0.0", "bias=1.0", True),
        ('"""Random class scores."""', '"""Another docstring."""', False),
        ("    return noise(seed)", "    # a comment\n    return  noise(seed)", False),
    ],
)
def test_changed_code_makes_its_cells_stale(
    run: Run, results: Path, plugin: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, stale: bool
) -> None:
    assert run("says", "against", "honest") == 0
    [cell] = cells(results).values()
    before = files(results)
    code = edited(plugin, old, new)
    assert freshness(discover([code]).find)(cell) != stale
    capsys.readouterr()
    assert main(["table", "--results", str(results), "--plugin", str(code)]) == 0
    assert ("stale" in capsys.readouterr().out) == stale
    assert run("says", "against", "honest", code=code) == 0
    assert (files(results) != before) == stale


def test_a_changed_data_set_makes_its_cells_stale(run: Run, results: Path, plugin: Path) -> None:
    assert run("constant", "against", "confidence", data="made") == 0
    [cell] = cells(results).values()
    assert freshness(discover([plugin]).find)(cell)
    assert not freshness(discover([edited(plugin, "rng.random((size", "0.5 * rng.random((size")]).find)(cell)


def test_a_removed_component_makes_its_cells_stale(run: Run, results: Path) -> None:
    assert run("says", "against", "honest") == 0
    [cell] = cells(results).values()
    assert not freshness(discover().find)(cell)


def test_caveats_are_stored_with_the_cell(run: Run, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("says", "against", "honest", "doubtful") == 0
    caveats = {name[2]: cell.caveats for name, cell in cells(results).items()}
    assert "stopped after 1 of 2000 steps" in caveats["doubtful"]
    assert "stopped after 1 of 2000 steps" not in caveats["honest"]
    assert any("45 members and 45 non-members" in caveat for caveat in caveats["honest"])
    assert "stopped after 1 of 2000 steps" in (results / "leaderboard.md").read_text()
    assert "note:" not in capsys.readouterr().err


def test_an_epsilon_above_the_requested_one_is_a_caveat(run: Run, results: Path, plugin: Path) -> None:
    claim = 'publishes={"predict"}, private=True'
    plugin.write_text(PLUGIN.replace('publishes={"predict"}', claim, 1).replace("bias=0.0", "epsilon=2.0"))
    assert run("says", "says,epsilon=inf", "against", "honest") == 3, "the linter finds it, too"
    caveats = {name[1]: " ".join(cell.caveats) for name, cell in cells(results).items()}
    assert "spent epsilon inf, above the 2 asked for" in caveats["says"]
    assert "above" not in caveats["says,epsilon=inf"]
