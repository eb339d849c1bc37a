"""The cost of reading thousands of cells, relative to parsing their JSON in the same run.

Run with `pytest tests/perf --benchmark-enable -s`; without it, it is skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import pytest
from cells import cell as sample_cell
from on_demand import on_demand  # noqa: F401 - an autouse fixture

from bench.cli.table import publish
from bench.core.dataset import DataLocation
from bench.report import cost_estimate
from bench.runner.cell import Cell, playable
from bench.runner.registry import Registry, discover
from bench.runner.request import Grid, Request
from bench.runner.selection import choose_all
from bench.store.freshness import freshness, versions
from bench.store.read_write import encode
from bench.store.store import Store

SEEDS = tuple(range(24))


def grid(registry: Registry) -> Grid:
    defenses, attacks = choose_all(registry, "defense", ["all"]), choose_all(registry, "attack", ["membership"])
    return Grid(tuple(defenses), tuple(attacks), tuple(choose_all(registry, "data", ["digits", "mnist"])), SEEDS)


def fill(store: Store, cells: list[Cell]) -> None:
    for cell in cells:
        data, defense, attack, seed = cell.name
        fields = {"options": cell.options, "code": "c" * 32, "versions": versions(), "machine": store.machine}
        path = store.path(*cell.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(sample_cell(defense, attack, seed, data=data, digest=cell.digest(), **fields)))


def seconds(run: Callable[[], object]) -> float:
    start = process_time()
    run()
    return process_time() - start


@pytest.mark.parametrize(("what", "limit"), [("results", 2.0), ("fresh", 4.0), ("plan", 5.0), ("leaderboard", 9.0)])
def test_reading_cells_over_parsing_their_json(benchmark: Any, tmp_path: Path, what: str, limit: float) -> None:
    registry = discover()
    one = grid(registry)
    cells = playable([one])
    fill(Store(tmp_path), cells)

    def work() -> None:
        store = Store(tmp_path)  # a new one has no cached cells
        if what == "plan":
            rows = cost_estimate.make(Request((one,), tmp_path, DataLocation()), store)
            assert sum(row.stored for row in rows) == len(cells)
            return
        if what == "leaderboard":
            publish(store, registry, {})
            return
        found, fresh = store.results(), freshness(registry.find)
        assert len(found) == len(cells)
        assert what == "results" or all(map(fresh, found))

    def parse() -> None:
        for path in tmp_path.rglob("[0-9]*.json"):
            json.loads(path.read_bytes())

    if what == "leaderboard":
        work()  # warm up: comparisons are computed and files written once
    pairs: list[tuple[float, float]] = []
    benchmark.pedantic(lambda: pairs.append((seconds(work), seconds(parse))), rounds=5, iterations=1)
    ratio = median(a / b for a, b in pairs)
    print(f"\n{what} of {len(cells)} cells ÷ parsing them: {ratio:.2f} ({pairs[-1][0]:.2f} ÷ {pairs[-1][1]:.2f} s)")
    assert ratio <= limit


def test_time_and_memory_are_linear_in_the_number_of_cells(benchmark: Any, tmp_path: Path) -> None:
    """Cells on 12 and on 48 seeds, each in a new process: at most 4.6 times the cost for 4 times the cells."""
    registry = discover()
    data = tuple(choose_all(registry, "data", ["digits", "mnist"]))
    defenses, attacks = choose_all(registry, "defense", ["all"]), choose_all(registry, "attack", ["membership"])
    counts = {}
    for seeds in (12, 48):
        cells = playable([Grid(tuple(defenses), tuple(attacks), data, tuple(range(seeds)))])
        fill(Store(tmp_path / str(seeds)), cells)
        (tmp_path / str(seeds) / "nothing").mkdir()
        counts[seeds] = len(cells)
    (tmp_path / "empty").mkdir()
    costs: dict[str, list[tuple[float, float]]] = {}

    def measure() -> None:
        for name in ("empty", "12", "48"):
            command = [sys.executable, "-m", "bench", "table", "--results", str(tmp_path / name)]
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            _, status, used = os.wait4(child.pid, 0)
            child.returncode = status
            assert status == 0
            costs.setdefault(name, []).append((used.ru_utime + used.ru_stime, used.ru_maxrss / 1024))

    measure()
    costs.clear()
    benchmark.pedantic(measure, rounds=3, iterations=1)
    none, few, many = (tuple(map(median, zip(*costs[name], strict=True))) for name in ("empty", "12", "48"))
    thousands = (counts[48] - counts[12]) / 1000
    print(f"\n{(many[0] - few[0]) / thousands:.2f} s and {(many[1] - few[1]) / thousands:.1f} MiB per 1,000 more cells")
    assert (many[0] - none[0]) / (few[0] - none[0]) <= 4.6
    assert (many[1] - few[1]) / thousands <= 25
