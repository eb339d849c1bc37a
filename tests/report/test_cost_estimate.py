"""The cost of a run, estimated from the timings of stored cells."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from priced_cells import PLUGIN, grid, past, planned  # noqa: F401 - the fixture `plugin` writes PLUGIN

from bench.cli.main import main
from bench.core.dataset import DataLocation
from bench.report import cost_estimate
from bench.runner import engine
from bench.runner.cell import playable
from bench.runner.registry import Registry, discover
from bench.runner.request import Request, Workers
from bench.store.store import Store


@pytest.fixture
def registry(plugin: Path) -> Registry:
    return discover([plugin])


def test_a_plan_counts_requested_stored_and_remaining_cells_without_unplayable_ones(
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
    lines = cost_estimate.lines([shield, wall])
    assert lines[1].split() == ["digits", "shield", "4", "2", "2", "1", "0.1", "512"]
    assert lines[2].split() == ["digits", "wall", "4", "0", "4", "2", "unknown", "unknown"]
    assert lines[3].split() == ["total", "8", "2", "6", "3", "at", "least", "0.1", "512"]
    assert "2 by another seed, 4 by no stored cell" in lines[4]


def test_cells_of_another_machine_remain_to_measure_unless_accepted(store: Store, registry: Registry) -> None:
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


def test_the_most_similar_stored_cell_gives_the_cost(store: Store, registry: Registry) -> None:
    def cost(words: str, data: str = "digits", seed: int = 0) -> tuple[str, float | None, float | None]:
        [row] = planned(store, grid(registry, words, "spear", data, (seed,)))
        [group] = row.groups
        return group.costs[0].basis, group.training.seconds, group.costs[0].seconds

    [big, other, seed, same] = playable(
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
    past(store, same, 50.0, 5.0)
    assert cost("shield") == (cost_estimate.ITSELF, 50.0, 5.0)
    assert cost("shield", seed=6) == (cost_estimate.SEED, 40.0, 4.0)
    assert cost("wall") == (cost_estimate.UNKNOWN, None, None)


def test_cells_of_this_machine_take_precedence_over_those_of_another(store: Store, registry: Registry) -> None:
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


def test_a_training_is_cached_if_its_note_and_all_its_fits_exist(store: Store, registry: Registry) -> None:
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


def test_a_row_without_trainings_is_never_cached(store: Store, registry: Registry) -> None:
    [cell] = playable([grid(registry, "shield", "spear")])
    past(store, cell, 60.0, 6.0)
    store.save_asked(cell.training_digest(), {})
    [row] = planned(store, grid(registry, "shield", "spear"))
    assert not row.groups[0].cached
    assert row.groups[0].seconds == 66.0


def test_a_damaged_note_counts_as_absent(store: Store) -> None:
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
    configuration = tmp_path / "board.yaml"
    configuration.write_text(
        f"plugin: {plugin}\nresults: {store.root}\ndefense: shield\nattack: spear\nbudget: 1h\nreference: false\n"
    )
    script = f"""
import sys
from bench.cli.main import main
assert main(["plan", "--config", {str(configuration)!r}]) == 0
assert main(["why", "--results", {str(store.root)!r}, "digits/shield/spear/0"]) == 0
heavy = {{"tensorflow", "keras", "tensorflow_privacy", "art", "sklearn", "scipy", "pandas", "matplotlib"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "at least" not in done.stdout
    assert "3.1" not in done.stdout
    assert " 3 " in done.stdout


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
    plain = ["plan", "--no-reference", f"--plugin={plugin}", f"--results={store.root}"]
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
