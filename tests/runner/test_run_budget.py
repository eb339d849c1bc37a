"""A run under a time budget, and the costs that a run stores for later estimates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cells import cell as made
from toy_runs import DATA, Run, cells, files

from bench.cli.main import main
from bench.core.dataset import DataLocation
from bench.report import cost_estimate
from bench.runner import play
from bench.runner.registry import discover
from bench.runner.request import Grid, Request
from bench.runner.selection import choose
from bench.store.store import Store


def test_a_cached_training_is_stored_with_its_original_seconds(run: Run, results: Path) -> None:
    assert run("none,steps=200", "against", "honest") == 0
    store = Store(results)
    [first] = store.results()
    store.path(first.data, first.defense, first.attack, first.seed).unlink()
    assert run("none,steps=200", "against", "honest") == 0
    [again] = store.results()
    assert again.metrics == first.metrics
    [fit] = (np.load(path) for path in (results / ".local" / "fits").glob("*.npz") if "seconds" in np.load(path))
    assert again.seconds["defense"] >= float(fit["seconds"]) - 0.001


def test_a_run_stores_which_fits_a_training_and_an_attack_requested(results: Path) -> None:
    words = ["--defense", "none,steps=4", "--attack", "confidence", "--attack", "lira,shadows=4", "--data", DATA]
    assert main(["run", *words, "--seeds", "0", "--results", str(results)]) == 0
    store, registry = Store(results), discover()
    notes = {result.attack: store.load_asked(result.digest) for result in store.results()}
    assert notes["confidence"] == {}
    assert notes["lira,shadows=4"]
    [data], [defense] = choose(registry, "data", DATA), choose(registry, "defense", "none,steps=4")
    grid = Grid((defense,), tuple(choose(registry, "attack", "rmia")), (data,), (0,))
    [row] = cost_estimate.make(Request((grid,), results, DataLocation()), store)
    assert row.groups[0].cached
    for path in (results / ".local" / "fits").glob("*.npz"):
        path.unlink()
    [row] = cost_estimate.make(Request((grid,), results, DataLocation()), store)
    assert not row.groups[0].cached


def stale(folder: Path, data: str, defense: str, attack: str, seconds: tuple[float, float]) -> None:
    """Store a stale cell with these seconds of defense and attack."""
    costs = dict(zip(("defense", "attack"), seconds, strict=True))
    Store(folder).save(made(defense, attack, 0, data=data, seconds=costs))


def test_a_budget_measures_the_cells_that_fit_and_names_the_others(
    run: Run, results: Path, capsys: pytest.CaptureFixture[str], trainings: list[str]
) -> None:
    stale(results, DATA, "none,steps=4", "confidence", (1.0, 0.1))
    stale(results, DATA, "none,steps=4", "honest", (1.0, 0.1))
    stale(results, DATA, "none,steps=4", "slow", (1.0, 36_000.0))
    stale(results, DATA, "says", "honest", (36_000.0, 0.1))
    selection = ("none,steps=4", "says", "against", "slow", "honest", "confidence")
    more = ("--budget", "1h")
    before = cells(results)
    assert run(*selection, more=more) == 0
    changed = {name[1:] for name, cell in cells(results).items() if before.get(name) != cell}
    assert changed == {("none,steps=4", "confidence", 0), ("none,steps=4", "honest", 0)}
    assert "the budget left 4 to measure" in capsys.readouterr().err
    assert len(trainings) == 1, "a cached training is not repeated"


def test_a_budget_too_small_for_any_cell_measures_nothing(
    run: Run, results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(play, "split", lambda *given: pytest.fail("loaded although nothing is measured"))
    stale(results, DATA, "says", "honest", (60.0, 1.0))
    before = files(results)
    assert run("says", "against", "honest", more=("--budget", "60s")) == 0
    assert files(results) == before
    out, err = capsys.readouterr()
    assert f"the budget left 1 to measure ({DATA}/says/honest/0)" in err
    assert "stale" in out
