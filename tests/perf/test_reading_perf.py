"""What a board of thousands of cells costs to read: beside the reading of the JSON alone, both sides in one run.

Run with `pytest tests/perf --benchmark-enable -s`; without it, it is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import pytest
from cells import cell as made

from bench.core.dataset import Where
from bench.report import cost_estimate
from bench.report.publish import publish
from bench.runner.cell import Cell, playable
from bench.runner.registry import Registry, discover
from bench.runner.request import Grid, Request
from bench.runner.selection import choose_all
from bench.store.freshness import code, freshness, versions
from bench.store.store import Store

SEEDS = tuple(range(24))


@pytest.fixture(autouse=True)
def _on_demand(request: pytest.FixtureRequest) -> None:
    if not (request.config.getoption("benchmark_enable") or request.config.getoption("benchmark_only")):
        pytest.skip("a timing: pytest tests/perf --benchmark-enable")


def grid(registry: Registry) -> Grid:
    defenses, attacks = choose_all(registry, "defense", ["all"]), choose_all(registry, "attack", ["membership"])
    return Grid(tuple(defenses), tuple(attacks), tuple(choose_all(registry, "data", ["digits", "mnist"])), SEEDS)


def fill(store: Store, cells: list[Cell]) -> None:
    for cell in cells:
        data, defense, attack, seed = cell.name
        parts = cell.data.component, cell.defense.component, cell.attack.component
        own = {"options": cell.options, "code": code(*parts), "versions": versions(), "machine": store.machine}
        path = store.path(*cell.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made(defense, attack, seed, data=data, digest=cell.digest(), **own).to_json())


def seconds(run: Callable[[], object]) -> float:
    start = process_time()
    run()
    return process_time() - start


@pytest.mark.parametrize(
    ("what", "bar"), [("results", 4.0), ("again", 2.0), ("fresh", 4.5), ("plan", 5.5), ("board", 10.0)]
)
def test_reading_cells_over_parsing_their_json(benchmark: Any, tmp_path: Path, what: str, bar: float) -> None:
    registry = discover()
    one = grid(registry)
    cells = playable([one])
    fill(Store(tmp_path), cells)

    def work() -> None:
        store = Store(tmp_path)  # a new one has read nothing yet
        if what == "plan":
            rows = cost_estimate.make(Request((one,), tmp_path, Where()), store)
            assert sum(row.stored for row in rows) == len(cells)
            return
        if what == "board":
            publish(store, registry, {})
            return
        found, fresh = store.results(), freshness(registry.find)
        assert len(found) == len(cells)
        assert what in ("results", "again") or all(map(fresh, found))

    def parse() -> None:
        for path in tmp_path.rglob("[0-9]*.json"):
            json.loads(path.read_bytes())

    if what == "again":
        before = Store(tmp_path)
        before.results()
        before.keep_read()
    if what == "board":
        work()  # warm: what the comparisons are made of was looked for, and the files are as they will be
    pairs: list[tuple[float, float]] = []
    benchmark.pedantic(lambda: pairs.append((seconds(work), seconds(parse))), rounds=5, iterations=1)
    ratio = median(a / b for a, b in pairs)
    print(f"\n{what} of {len(cells)} cells ÷ parsing them: {ratio:.2f} ({pairs[-1][0]:.2f} ÷ {pairs[-1][1]:.2f} s)")
    assert ratio <= bar
