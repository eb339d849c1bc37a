"""What a run would do and cost, told from past cells; and what it takes first where time is short."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells import cell as made
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.cli.main import main
from bench.core.component import Choice, Kind
from bench.core.dataset import DataLocation
from bench.core.errors import UserError
from bench.report import budget as budgets
from bench.report import cost_estimate
from bench.report.budget import Budget, within
from bench.runner import engine
from bench.runner.cell import Cell, playable
from bench.runner.registry import Registry, discover
from bench.runner.request import Grid, Request, Workers
from bench.runner.selection import choose, duration
from bench.store import code_release
from bench.store.freshness import freshness, versions
from bench.store.records import CellResult
from bench.store.store import Store

PLUGIN = '''
from bench.games import MEMBERSHIP
from bench.core.component import attack, defense

@defense("shield", publishes={"predict"})
def shield(private, public, *, seed, strength=1.0):
    """A shield."""

@defense("wall", publishes={"predict"})
def wall(private, public, *, seed):
    """A wall."""

@defense("mute", publishes={"encode"})
def mute(private, public, *, seed):
    """Publishes nothing that can be attacked here."""

@attack("spear", game=MEMBERSHIP, needs={"predict"})
def spear(release, targets, public, *, seed):
    """A spear."""

@attack("sling", game=MEMBERSHIP, needs={"predict"})
def sling(release, targets, public, *, seed):
    """A sling."""
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "plugin.py"
    path.write_text(PLUGIN)
    return path


@pytest.fixture
def registry(plugin: Path) -> Registry:
    return discover([plugin])


@pytest.fixture
def store(results: Path) -> Store:
    return Store(results)


def grid(registry: Registry, defenses: str, attacks: str, data: str = "digits", seeds: Iterable[int] = (0,)) -> Grid:
    def chosen(kind: Kind, words: str) -> tuple[Choice, ...]:
        return tuple(choice for word in words.split() for choice in choose(registry, kind, word))

    return Grid(chosen("defense", defenses), chosen("attack", attacks), chosen("data", data), tuple(seeds))


def past(store: Store, cell: Cell, defense: float, attack: float, *, fresh: bool = False, **changed: Any) -> CellResult:
    """Store what a cell cost once; `fresh` as if it had been measured just now."""
    own: dict[str, Any] = {"options": cell.options, "seconds": {"defense": defense, "attack": attack}}
    if fresh:
        components = cell.data.component, cell.defense.component, cell.attack.component
        own |= {
            "digest": cell.digest(),
            "code": code_release.keep(store, components),
            "versions": versions(),
            "machine": store.machine,
        }
    data, defended, attacked, seed = cell.name
    result = made(defended, attacked, seed, data=data, **{**own, **changed})
    store.save(result)
    return result


def planned(store: Store, *grids: Grid) -> list[cost_estimate.Row]:
    return cost_estimate.make(Request(grids, store.root, DataLocation()), store)


# The plan


def test_a_plan_counts_what_is_asked_stored_and_left_and_leaves_out_what_cannot_be_played(
    store: Store, registry: Registry
) -> None:
    cells = playable([grid(registry, "shield wall mute", "spear sling", seeds=(0, 1))])
    for cell in cells:
        if cell.defense.name == "shield" and cell.seed == 0:
            past(store, cell, 3.0, 1.0, fresh=True)
    shield, wall = planned(store, grid(registry, "shield wall mute", "spear sling", seeds=(0, 1)))
    assert (shield.data, shield.defense, shield.requested, shield.stored) == ("digits", "shield", 4, 2)
    assert [[cell.name for cell in group.cells] for group in shield.groups] == [
        [("digits", "shield", "spear", 1), ("digits", "shield", "sling", 1)]
    ]
    assert (wall.requested, wall.stored, len(wall.groups)) == (4, 0, 2)
    said = cost_estimate.lines([shield, wall])
    assert said[1].split() == ["digits", "shield", "4", "2", "2", "1", "0.1", "512"]
    assert said[2].split() == ["digits", "wall", "4", "0", "4", "2", "unknown", "unknown"]
    assert said[3].split() == ["total", "8", "2", "6", "3", "at", "least", "0.1", "512"]
    assert "2 by another seed, 4 by no stored cell" in said[4]


def test_what_another_machine_measured_is_left_unless_it_is_accepted(store: Store, registry: Registry) -> None:
    one = grid(registry, "shield", "spear")
    past(store, *playable([one]), 3.0, 1.0, fresh=True, machine="f" * 32)
    for accept, stored in ((False, 0), (True, 1)):
        [row] = cost_estimate.make(Request((one,), store.root, DataLocation(), accept), store)
        assert row.stored == stored
        assert len(row.groups) == 1 - stored


def test_a_training_counts_once_however_many_attacks_follow(store: Store, registry: Registry) -> None:
    one = grid(registry, "shield", "spear sling")
    for cell, attack in zip(playable([one]), (1.0, 5.0), strict=True):
        past(store, cell, 30.0, attack)
    [row] = planned(store, one)
    [group] = row.groups
    assert group.seconds == pytest.approx(36.0)
    assert [cost.basis for cost in group.costs] == [cost_estimate.ITSELF, cost_estimate.ITSELF]
    assert "1.0" not in cost_estimate.lines([row])[1]
    assert "0.6" in cost_estimate.lines([row])[1]


def test_the_nearest_past_cell_tells_the_cost(store: Store, registry: Registry) -> None:
    def cost(words: str, data: str = "digits", seed: int = 0) -> tuple[str, float | None, float | None]:
        [row] = planned(store, grid(registry, words, "spear", data, (seed,)))
        [group] = row.groups
        return group.costs[0].basis, group.training.seconds, group.costs[0].seconds

    [big, other, seed, own] = playable(
        [
            grid(registry, "shield", "spear", "digits,private=500", (7,)),
            grid(registry, "shield,strength=2", "spear", seeds=(7,)),
            grid(registry, "shield", "spear", seeds=(7,)),
            grid(registry, "shield", "spear"),
        ]
    )
    assert cost("shield") == (cost_estimate.UNKNOWN, None, None)
    past(store, big, 10.0, 1.0)
    assert cost("shield") == (cost_estimate.DATA, 20.0, 2.0)  # 1,000 private records by default
    past(store, other, 30.0, 3.0)
    assert cost("shield") == (cost_estimate.OPTIONS, 30.0, 3.0)
    past(store, seed, 40.0, 4.0)
    assert cost("shield") == (cost_estimate.SEED, 40.0, 4.0)
    past(store, own, 50.0, 5.0)
    assert cost("shield") == (cost_estimate.ITSELF, 50.0, 5.0)
    assert cost("shield", seed=6) == (cost_estimate.SEED, 40.0, 4.0)
    assert cost("wall") == (cost_estimate.UNKNOWN, None, None)


def test_what_was_measured_here_is_nearer_than_what_another_machine_measured(store: Store, registry: Registry) -> None:
    near, far = playable([grid(registry, "shield", "spear", seeds=(1, 5))])
    past(store, near, 10.0, 1.0)
    past(store, far, 20.0, 2.0, machine=store.machine)
    [row] = planned(store, grid(registry, "shield", "spear"))
    assert row.groups[0].training.seconds == 20.0
    assert "another machine" not in " ".join(cost_estimate.lines([row]))
    store.path(*far.name).unlink()
    [row] = planned(store, grid(registry, "shield", "spear"))
    assert row.groups[0].training.seconds == 10.0
    assert "1 of these stored cells come from another machine" in " ".join(cost_estimate.lines([row]))


def test_attacks_pay_once_for_the_shadow_models_that_they_share(store: Store, registry: Registry) -> None:
    one = grid(registry, "shield", "spear sling")
    for cell, digest in zip(playable([one]), ("a" * 32, "b" * 32), strict=True):
        past(store, cell, 1.0, 60.0, digest=digest)
    [row] = planned(store, one)
    assert row.groups[0].seconds == pytest.approx(121.0)
    assert row.groups[0].fits == 0
    store.save_asked("a" * 32, {"shadows": 50.0})
    store.save_asked("b" * 32, {"shadows": 50.0, "more": 8.0})
    [row] = planned(store, one)
    assert row.groups[0].seconds == pytest.approx(71.0)
    assert row.groups[0].fits == 2
    assert "Attacks need 2 more trainings" in " ".join(cost_estimate.lines([row]))


def test_a_training_is_cached_where_its_note_and_all_its_fits_are_there(store: Store, registry: Registry) -> None:
    one = grid(registry, "shield", "spear")
    [cell] = playable([one])
    past(store, cell, 60.0, 6.0)

    def left() -> tuple[bool, float]:
        [row] = planned(store, one)
        return row.groups[0].cached, row.groups[0].seconds

    assert left() == (False, 66.0)
    store.save_asked(cell.training_digest(), {"one": 40.0, "two": 15.0})
    store.weights.save("one", {"seconds": np.float64(40.0)})
    assert left() == (False, 26.0)
    store.weights.save("two", {"seconds": np.float64(15.0)})
    assert left() == (True, 11.0)
    [row] = planned(store, one)
    assert cost_estimate.lines([row])[1].split()[5] == "0"
    assert "1 more trainings are cached" in " ".join(cost_estimate.lines([row]))
    [other] = playable([grid(registry, "shield", "spear", seeds=(1,))])
    assert other.training_digest() != cell.training_digest()
    [other] = playable([grid(registry, "shield", "sling")])
    assert other.training_digest() == cell.training_digest()


def test_what_trains_nothing_is_never_cached(store: Store, registry: Registry) -> None:
    [cell] = playable([grid(registry, "shield", "spear")])
    past(store, cell, 60.0, 6.0)
    store.save_asked(cell.training_digest(), {})
    [row] = planned(store, grid(registry, "shield", "spear"))
    assert not row.groups[0].cached
    assert row.groups[0].seconds == 66.0


def test_a_broken_note_is_no_note(store: Store) -> None:
    store.save_asked("k", {"a": 1.0})
    [path] = (store.root / ".local" / "asked").iterdir()
    assert store.load_asked("k") == {"a": 1.0}
    for broken in (b"", b"[1]", b'{"a": "soon"}', b"\xff"):
        path.write_bytes(broken)
        assert store.load_asked("k") is None


def test_plan_and_why_import_nothing_heavy_and_read_configurations(
    store: Store, registry: Registry, plugin: Path, tmp_path: Path
) -> None:
    for cell in playable([grid(registry, "shield", "spear")]):
        past(store, cell, 60.0, 6.0)
    board = tmp_path / "board.yaml"
    board.write_text(
        f"plugin: {plugin}\nresults: {store.root}\ndefense: shield\nattack: spear\nbudget: 1h\nreference: false\n"
    )
    script = f"""
import sys
from bench.cli.main import main
assert main(["plan", "--config", {str(board)!r}]) == 0
assert main(["why", "--results", {str(store.root)!r}, "digits/shield/spear/0"]) == 0
heavy = {{"tensorflow", "keras", "tensorflow_privacy", "art", "sklearn", "scipy", "pandas", "matplotlib"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "at least" not in done.stdout
    assert "3.1" not in done.stdout
    assert " 3 " in done.stdout


# The budget


class Clock:
    """Time passes only when somebody says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def batches(
    store: Store, registry: Registry, cells: list[Cell], seconds: float, actual: dict[str, float] | None = None
) -> list[list[str]]:
    """What a budget takes, where each batch lasts as long as estimated or as `actual` says of an attack."""
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


def by_hand(store: Store, registry: Registry, costs: dict[str, float], attacks: dict[str, float]) -> list[Cell]:
    """Defenses and attacks with known costs over two seeds; all that is stored is stale."""
    cells = playable([grid(registry, " ".join(costs), " ".join(attacks), seeds=(0, 1))])
    for cell in cells:
        past(store, cell, costs[cell.defense.name], attacks[cell.attack.name])
    return cells


def test_first_one_seed_of_every_pair_baselines_and_undefended_rows_before_others_and_cheap_before_dear(
    store: Store, registry: Registry
) -> None:
    cells = by_hand(
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


def test_a_budget_takes_what_ends_in_time_and_passes_over_what_does_not(store: Store, registry: Registry) -> None:
    cells = by_hand(store, registry, {"none": 10.0, "wall": 5.0, "shield": 500.0}, {"confidence": 1.0, "spear": 300.0})
    assert batches(store, registry, cells, 11.5) == [["none/confidence/0"]]
    assert batches(store, registry, cells, 18.0) == [["none/confidence/0"], ["wall/confidence/0"]]
    # what is left of the time then suffices for a second seed of the cheap row, and for nothing else
    assert batches(store, registry, cells, 24.0)[2:] == [["wall/confidence/1"]]
    assert batches(store, registry, cells, 10.5) == [["wall/confidence/0"]]
    assert batches(store, registry, cells, 5.5) == []


def test_a_cell_that_took_longer_than_told_costs_the_next_ones_their_time(store: Store, registry: Registry) -> None:
    cells = by_hand(store, registry, {"none": 10.0, "wall": 5.0}, {"confidence": 1.0})
    assert len(batches(store, registry, cells, 40.0)) == 4
    assert len(batches(store, registry, cells, 40.0, actual={"confidence": 15.0})) == 2


def test_what_no_past_cell_tells_of_comes_after_what_is_known_and_may_begin(store: Store, registry: Registry) -> None:
    cells = by_hand(store, registry, {"wall": 5.0}, {"spear": 1.0})
    cells += playable([grid(registry, "shield", "spear")])
    assert batches(store, registry, cells, 100.0)[:2] == [["wall/spear/0"], ["shield/spear/0"]]
    assert batches(store, registry, cells, 1.0) == [["shield/spear/0"]]


def test_a_running_batch_ends_with_the_cell_that_the_time_still_allows(store: Store, registry: Registry) -> None:
    cells = by_hand(store, registry, {"none": 10.0}, {"spear": 2.0, "sling": 8.0})
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
def test_a_plan_with_a_budget_lists_what_a_run_takes(store: Store, registry: Registry, seconds: float) -> None:
    costs = {"none": 10.0, "wall": 5.0, "shield": 500.0}
    cells = by_hand(store, registry, costs, {"confidence": 1.0, "spear": 300.0})
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
    by_hand(store, registry, {"shield": 20.0, "wall": 5.0}, {"spear": 2.0})
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
def test_the_board_is_looked_at_again_only_when_it_has_changed(
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
def test_a_time_is_read(words: str, seconds: float) -> None:
    assert duration(words) == seconds


@pytest.mark.parametrize("words", ["", "20", "m", "-1m", "0s", "1e3s", "20 minutes", "1d", "9" * 400 + "h"])
def test_what_is_no_time_is_one_sentence(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="write a time above 0"):
        duration(words)
    assert main(["run", f"--budget={words}"]) == 2


# Several workers


def first_free(groups: list[float], workers: int) -> float:
    """When the last of these ends, by looking at every worker at each step."""
    free = [0.0] * workers
    left = list(groups)
    while left:
        longest = max(left)
        left.remove(longest)
        free[free.index(min(free))] += longest
    return max(free)


@settings(deadline=None)
@given(st.lists(st.integers(0, 60).map(float), max_size=6), st.integers(1, 3))
def test_the_time_of_several_workers_is_that_of_the_longest_groups_first(groups: list[float], workers: int) -> None:
    """And by Graham (1969) at most 4/3 - 1/(3 workers) times the shortest that any order could reach."""
    found = cost_estimate.wall_time(groups, workers)
    assert found == first_free(groups, workers)
    best = min(
        max(sum(one for one, at in zip(groups, where, strict=True) if at == worker) for worker in range(workers))
        for where in itertools.product(range(workers), repeat=len(groups))
    )
    assert best <= found <= best * (4 / 3 - 1 / (3 * workers)) + 1e-9


def test_a_plan_tells_when_several_workers_end(
    store: Store, registry: Registry, plugin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for cell, seconds in zip(
        playable([grid(registry, "shield", "spear", seeds=(0, 1, 2))]), (600.0, 300.0, 240.0), strict=True
    ):
        past(store, cell, seconds - 1.0, 1.0)
    Path(store.root / "board.yaml").write_text("defense: shield\nattack: spear\nseeds: 0-2\n")
    plain = ["plan", f"--plugin={plugin}", f"--results={store.root}"]
    flags = [*plain, "--defense=shield", "--attack=spear", "--seeds=0-2"]
    config = [*plain, f"--config={store.root / 'board.yaml'}"]
    start = engine.STARTING / 60
    for argv in (flags, config):
        for workers, minutes in ((2, 10 + start), (3, 10 + start), (8, 10 + start)):
            assert main([*argv, f"--workers={workers}"]) == 0
            last = capsys.readouterr().out.splitlines()[-1]
            assert last.startswith(f"{min(workers, 3)} workers end after {minutes:.1f} minutes, "), last
        assert main([*argv, "--workers=1"]) == 0
        assert "workers end" not in capsys.readouterr().out
        assert main([*argv, "--workers=2", "--budget=1h"]) == 0
        assert "what one worker measures in that time; 2 measure more" in capsys.readouterr().out
        assert main([*argv, "--scheduler=tcp://a:1"]) == 0
        assert "The workers of tcp://a:1 share these minutes" in capsys.readouterr().out


def test_a_plan_does_not_tell_of_workers_that_would_not_start(store: Store, registry: Registry) -> None:
    """What takes less than they take to start runs in this process; of what is unknown nothing can be told."""
    one = grid(registry, "shield", "spear", seeds=(0, 1))
    said = {}
    for seconds in (None, 1.0, 100.0):
        for cell in playable([one]) if seconds else ():
            past(store, cell, seconds, 1.0)  # type: ignore[arg-type]
        said[seconds] = cost_estimate.in_parallel(planned(store, one), Workers(2))
    assert (said[None], said[1.0]) == ("", "")
    assert said[100.0].startswith("2 workers end after ")
    more = grid(registry, "shield wall", "spear", seeds=(0, 1))
    assert cost_estimate.in_parallel(planned(store, more), Workers(2)).startswith("2 workers end after at least ")


def test_the_seconds_of_a_group_are_known_only_where_all_of_it_is(store: Store, registry: Registry) -> None:
    spear, sling = playable([grid(registry, "shield", "spear sling")])
    assert cost_estimate.seconds(store)([spear]) is None
    past(store, spear, 30.0, 2.0)
    estimate = cost_estimate.seconds(store)
    assert estimate([spear]) == 32.0
    assert estimate([spear, sling]) is None
    past(store, sling, 30.0, 5.0)
    assert cost_estimate.seconds(store)([spear, sling]) == 37.0
    assert estimate([spear, sling]) is None, "read once"
