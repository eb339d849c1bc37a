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


def test_published_cells_are_measured_again_unless_accepted(run: Run, results: Path) -> None:
    asked = ("says", "against", "honest", "slow")
    assert run(*asked) == 0
    folder = Store(results)
    for cell in folder.results():
        folder.save(structs.replace(cell, machine="0" * 32))
    published = files(results)
    assert run(*asked, more=("--reuse-committed",)) == 0
    assert files(results) == published
    assert run(*asked) == 0
    assert {cell.machine for cell in folder.results()} == {folder.machine}


@pytest.mark.parametrize(
    ("old", "new", "stale"),
    [
        ("return noise(seed)", "return noise(seed + 1)", True),
        ("time.sleep(0.3)", "time.sleep(0)", True),
        ("bias=0.0", "bias=1.0", True),
        ('"""Says something."""', '"""Says something else."""', False),
        ("    return noise(seed)", "    # why not\n    return  noise(seed)", False),
    ],
)
def test_code_that_changed_makes_its_cells_stale(
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


def test_a_data_set_that_changed_makes_its_cells_stale(run: Run, results: Path, plugin: Path) -> None:
    assert run("constant", "against", "confidence", data="made") == 0
    [cell] = cells(results).values()
    assert freshness(discover([plugin]).find)(cell)
    assert not freshness(discover([edited(plugin, "rng.random((size", "0.5 * rng.random((size")]).find)(cell)


def test_a_component_that_is_gone_makes_its_cells_stale(run: Run, results: Path) -> None:
    assert run("says", "against", "honest") == 0
    [cell] = cells(results).values()
    assert not freshness(discover().find)(cell)


def test_doubts_are_stored_with_the_number(run: Run, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("says", "against", "honest", "doubtful") == 0
    kept = {name[2]: cell.caveats for name, cell in cells(results).items()}
    assert "stopped after 1 of 2000 steps" in kept["doubtful"]
    assert "stopped after 1 of 2000 steps" not in kept["honest"]
    assert any("45 members and 45 non-members" in caveat for caveat in kept["honest"])
    assert "stopped after 1 of 2000 steps" in (results / "leaderboard.md").read_text()
    assert "note:" not in capsys.readouterr().err


def test_a_guarantee_that_was_overspent_is_doubted(run: Run, results: Path, plugin: Path) -> None:
    promise = 'publishes={"predict"}, private=True'
    plugin.write_text(PLUGIN.replace('publishes={"predict"}', promise, 1).replace("bias=0.0", "epsilon=2.0"))
    assert run("says", "says,epsilon=inf", "against", "honest") == 3, "the probes say it too"
    caveats = {name[1]: " ".join(cell.caveats) for name, cell in cells(results).items()}
    assert "spent epsilon inf, above the 2 asked for" in caveats["says"]
    assert "above" not in caveats["says,epsilon=inf"]
