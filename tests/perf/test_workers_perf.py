"""What a second worker is worth: 12 groups on one and on two, timed one after the other.

Run with `pytest tests/perf --benchmark-enable -s`; without it, it is skipped. The bar is that of two idle cores.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import pytest

BOARD = "--defense=none --attack=lira --data=digits --seeds=0-11 --no-reference"


def seconds(results: Path, workers: int) -> float:
    """What a run of 12 groups takes from start to end, that of its workers included."""
    command = [sys.executable, "-m", "bench", "run", *BOARD.split(), f"--results={results}", f"--workers={workers}"]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def test_two_workers_take_at_most_0_62_of_the_time_of_one(
    benchmark: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if not (request.config.getoption("benchmark_enable") or request.config.getoption("benchmark_only")):
        pytest.skip("a timing: pytest tests/perf --benchmark-enable")
    pairs: list[tuple[float, float]] = []

    def once() -> None:
        folder = tmp_path / str(len(pairs))
        pairs.append((seconds(folder / "one", 1), seconds(folder / "two", 2)))

    benchmark.pedantic(once, rounds=3, iterations=1)
    found = [two / one for one, two in pairs]
    benchmark.extra_info["ratio"] = median(found)
    one, two = (median(side) for side in zip(*pairs, strict=True))
    print(f"\n12 groups: {one:.1f} s by one worker, {two:.1f} s by two: {median(found):.2f}")
    assert median(found) <= 0.62
