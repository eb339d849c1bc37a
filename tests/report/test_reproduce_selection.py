"""Which stored cells `bench reproduce` measures again: requested, sampled, within the budget, of available data."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from quick_components import PLUGIN  # noqa: F401 - the fixture `plugin` writes PLUGIN
from reproductions import Check, counts, only

from bench.cli.main import main
from bench.report import reproduce
from bench.runner.cell import Cell, playable
from bench.runner.registry import discover
from bench.runner.request import Grid
from bench.runner.selection import choose
from bench.store.store import Store


def test_missing_cells_are_counted_and_a_selection_without_stored_cells_is_an_error(
    check: Check, kept: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check("--seeds", "0-2") == 0
    out, _ = capsys.readouterr()
    assert counts(out) == only(equal=4)
    assert "- 2 requested cells are not stored" in out
    assert check("--seeds", "7") == 2
    assert "of the 2 requested cells none is stored" in capsys.readouterr().err
    kept.path("made", "says", "honest", 0).write_text("{")
    with pytest.warns(UserWarning, match="is left out"):
        Store(kept.root).results()
    assert check() == 2
    assert "cannot be read, so nothing can be compared" in capsys.readouterr().err
    assert check("--sample", "0") == 2
    assert "--sample must be at least 1" in capsys.readouterr().err
    assert check("--sample-seed", "3") == 2
    assert "say with --sample N how large" in capsys.readouterr().err
    assert check("--reuse-committed") == 2, "accepted cells are not measured again"


def test_cells_beyond_the_budget_are_counted_and_an_empty_check_fails(
    check: Check, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench.report.budget import Budget

    monkeypatch.setattr(Budget, "allows", lambda self, cell: cell.attack.name == "honest")
    assert check("--budget", "1h") == 0
    out = capsys.readouterr().out
    assert counts(out) == only(equal=2)
    assert "- the budget left 2 cells, which are not compared" in out
    monkeypatch.setattr(Budget, "batches", lambda self, cells: iter(()))
    assert check("--budget", "1h") == 2
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


def test_the_seed_of_a_sample_is_printed_and_draws_it_again(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("--sample", "2") == 0
    out = capsys.readouterr().out
    assert counts(out) == only(equal=2)
    assert "a sample of 2 of 4 stored cells: --sample 2 --sample-seed " in out
    again = next(line for line in out.splitlines() if "--sample-seed" in line).split(": ")[1].split()[:4]
    assert check(*again) == 0
    assert capsys.readouterr().out == out


def test_unavailable_data_is_skipped_with_a_note(
    check: Check, kept: Store, plugin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "came").touch()
    selection = ("--data", "afar", "--defense", "says", "--attack", "honest", "--seeds", "0")
    assert main(["run", "--no-reference", "--results", str(kept.root), "--plugin", str(plugin), *selection]) == 0
    (tmp_path / "came").unlink()
    capsys.readouterr()
    assert check(*selection, "--data", "made") == 0
    out = capsys.readouterr().out
    assert counts(out) == only(equal=1)
    assert "- 1 cells of afar skipped: afar is not on this machine: connect to the network." in out
    assert check(*selection) == 2
    assert "nothing can be measured again: afar is not on this machine" in capsys.readouterr().err
