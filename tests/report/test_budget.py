"""Which cells a time budget measures, and in which order."""

from __future__ import annotations

from pathlib import Path

import pytest
from priced_cells import PLUGIN, grid, past  # noqa: F401 - the fixture `plugin` writes PLUGIN

from bench.cli.main import main
from bench.core.dataset import DataLocation
from bench.core.errors import UserError
from bench.report import budget as budgets
from bench.report import cost_estimate
from bench.report.budget import Budget, within
from bench.runner.cell import Cell, playable
from bench.runner.registry import Registry, discover
from bench.runner.request import Request
from bench.runner.selection import duration
from bench.store.freshness import freshness
from bench.store.store import Store


@pytest.fixture
def registry(plugin: Path) -> Registry:
    return discover([plugin])


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def batches(
    store: Store, registry: Registry, cells: list[Cell], seconds: float, actual: dict[str, float] | None = None
) -> list[list[str]]:
    """The batches within a budget; each takes its estimated time, or `actual` seconds per attack."""
    clock = Clock()
    budget = Budget(seconds, store, freshness(registry.find), clock)
    past_cells = cost_estimate.Past(store)
    taken = []
    for batch in budget.batches(cells):
        taken.append([f"{cell.defense.label}/{cell.attack.label}/{cell.seed}" for cell in batch])
        group = past_cells.group(batch)
        clock.now += group.training.seconds or 0.0
        for cell, cost in zip(batch, group.costs, strict=True):
            clock.now += (actual or {}).get(cell.attack.name, cost.seconds or 0.0)
    return taken


def stale_cells(store: Store, registry: Registry, costs: dict[str, float], attacks: dict[str, float]) -> list[Cell]:
    """Defenses and attacks with known costs over two seeds; all stored cells are stale."""
    cells = playable([grid(registry, " ".join(costs), " ".join(attacks), seeds=(0, 1))])
    for cell in cells:
        past(store, cell, costs[cell.defense.name], attacks[cell.attack.name])
    return cells


def test_first_one_seed_of_every_pair_baselines_and_undefended_rows_before_others_and_cheap_before_dear(
    store: Store, registry: Registry
) -> None:
    cells = stale_cells(
        store, registry, {"shield": 20.0, "wall": 5.0, "none": 30.0}, {"sling": 3.0, "confidence": 1.0, "spear": 2.0}
    )
    taken = batches(store, registry, cells, 1e6)
    assert taken[:6] == [
        ["none/confidence/0"],
        ["wall/confidence/0"],
        ["shield/confidence/0"],
        ["none/spear/0", "none/sling/0"],
        ["wall/spear/0", "wall/sling/0"],
        ["shield/spear/0", "shield/sling/0"],
    ]
    names = ("none", "shield", "wall")
    attacks = ("confidence", "spear", "sling")
    assert sorted(taken[6:]) == [[f"{name}/{attack}/1" for attack in attacks] for name in names]
    assert sum(map(len, taken)) == len(cells)


def test_a_budget_takes_cells_that_end_in_time_and_skips_the_others(store: Store, registry: Registry) -> None:
    cells = stale_cells(
        store, registry, {"none": 10.0, "wall": 5.0, "shield": 500.0}, {"confidence": 1.0, "spear": 300.0}
    )
    assert batches(store, registry, cells, 11.5) == [["none/confidence/0"]]
    assert batches(store, registry, cells, 18.0) == [["none/confidence/0"], ["wall/confidence/0"]]
    # the remaining time then suffices only for a second seed of the cheapest row
    assert batches(store, registry, cells, 24.0)[2:] == [["wall/confidence/1"]]
    assert batches(store, registry, cells, 10.5) == [["wall/confidence/0"]]
    assert batches(store, registry, cells, 5.5) == []


def test_a_cell_slower_than_estimated_leaves_less_time_for_the_next(store: Store, registry: Registry) -> None:
    cells = stale_cells(store, registry, {"none": 10.0, "wall": 5.0}, {"confidence": 1.0})
    assert len(batches(store, registry, cells, 40.0)) == 4
    assert len(batches(store, registry, cells, 40.0, actual={"confidence": 15.0})) == 2


def test_cells_of_unknown_cost_come_last_and_may_start(store: Store, registry: Registry) -> None:
    cells = stale_cells(store, registry, {"wall": 5.0}, {"spear": 1.0})
    cells += playable([grid(registry, "shield", "spear")])
    assert batches(store, registry, cells, 100.0)[:2] == [["wall/spear/0"], ["shield/spear/0"]]
    assert batches(store, registry, cells, 1.0) == [["shield/spear/0"]]


def test_a_running_batch_ends_with_the_cell_that_the_time_still_allows(store: Store, registry: Registry) -> None:
    cells = stale_cells(store, registry, {"none": 10.0}, {"spear": 2.0, "sling": 8.0})
    clock = Clock()
    budget = Budget(25.0, store, freshness(registry.find), clock)
    spear, sling = next(budget.batches(cells))
    clock.now += 20.0  # the training took twice as long
    assert budget.allows(spear)
    assert not budget.allows(sling)
    clock.now += 4.0
    assert not budget.allows(spear)


def test_further_seeds_go_to_rows_that_overlap_another_the_widest_interval_first(
    store: Store, registry: Registry
) -> None:
    cells = playable([grid(registry, "none shield wall constant", "confidence", seeds=(0, 1))])
    shown = {"none": (0.9, 0.001), "shield": (0.60, 0.02), "wall": (0.62, 0.04), "constant": (0.3, 0.05)}
    for cell in cells[::2] if cells[1].seed else cells[:4]:
        assert cell.seed == 0
        auc, se = shown[cell.defense.name]
        past(store, cell, 5.0, 1.0, fresh=True, auc=auc, se=se)
    left = [cell for cell in cells if cell.seed == 1]
    taken = [batch[0].split("/")[0] for batch in batches(store, registry, left, 1e6)]
    assert taken[:2] == ["wall", "shield"]
    assert sorted(taken[2:]) == ["constant", "none"]


@pytest.mark.parametrize("seconds", [5.5, 18.0, 24.0, 1e6])
def test_a_plan_with_a_budget_lists_the_cells_that_a_run_measures(
    store: Store, registry: Registry, seconds: float
) -> None:
    costs = {"none": 10.0, "wall": 5.0, "shield": 500.0}
    cells = stale_cells(store, registry, costs, {"confidence": 1.0, "spear": 300.0})
    taken = {name for batch in batches(store, registry, cells, seconds) for name in batch}
    found = within(seconds, cells, store, freshness(registry.find))
    assert {f"{cell.defense.label}/{cell.attack.label}/{cell.seed}" for cell in found} == taken
    one = grid(registry, " ".join(costs), "confidence spear", seeds=(0, 1))
    rows = cost_estimate.make(Request((one,), store.root, DataLocation()), store, lambda cells: found)
    assert sum(len(group.cells) for row in rows for group in row.groups) == len(found)
    assert {row.stored for row in rows} == {0}
    beyond = len(cells) - len(found)
    assert (f"The budget leaves {beyond} more cells" in " ".join(cost_estimate.lines(rows))) == (
        0 < beyond < len(cells)
    )
    assert (cost_estimate.lines(rows)[-1] == f"None of {beyond} cells ends within the budget.") == (not found)


def test_plan_takes_a_budget(
    store: Store, registry: Registry, plugin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stale_cells(store, registry, {"shield": 20.0, "wall": 5.0}, {"spear": 2.0})
    words = [
        "plan",
        "--no-reference",
        f"--plugin={plugin}",
        f"--results={store.root}",
        "--defense=shield",
        "--defense=wall",
    ]
    words += ["--attack=spear", "--seeds=0,1"]
    for budget, left in (([], 4), (["--budget=37s"], 3), (["--budget=1h"], 4)):
        assert main([*words, *budget]) == 0
        total = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("total"))
        assert total.split()[1:4] == ["4", "0", str(left)]


@pytest.mark.parametrize(("fresh", "looked"), [(False, 1), (True, 2)])
def test_the_leaderboard_is_read_again_only_when_it_has_changed(
    store: Store, registry: Registry, monkeypatch: pytest.MonkeyPatch, fresh: bool, looked: int
) -> None:
    cells = playable([grid(registry, "shield wall", "spear", seeds=(0, 1))])
    for cell in cells:
        past(store, cell, 5.0, 1.0, fresh=not cell.seed)
    count = []
    monkeypatch.setattr(budgets, "_overlapping", lambda *_: count.append(1) or {})
    for [cell] in Budget(1e6, store, freshness(registry.find), Clock()).batches([one for one in cells if one.seed]):
        past(store, cell, 5.0, 1.0, fresh=fresh)
    assert len(count) == looked


@pytest.mark.parametrize(("words", "seconds"), [("90s", 90), ("20m", 1200), ("1.5h", 5400), (" 2h ", 7200)])
def test_durations_are_parsed(words: str, seconds: float) -> None:
    assert duration(words) == seconds


@pytest.mark.parametrize("words", ["", "20", "m", "-1m", "0s", "1e3s", "20 minutes", "1d", "9" * 400 + "h"])
def test_an_invalid_duration_is_one_sentence(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="write a time above 0"):
        duration(words)
    assert main(["run", f"--budget={words}"]) == 2
