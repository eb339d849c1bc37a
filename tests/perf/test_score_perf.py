"""What a million scores cost to judge: beside one sort of them with its order, both sides in one run.

Run with `pytest tests/perf --benchmark-enable -s`; without it, it is skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np
import pytest

from bench.audit import score_audit
from bench.audit.score_file import load

MILLION = 1_000_000


@pytest.fixture(autouse=True)
def _on_demand(request: pytest.FixtureRequest) -> None:
    if not (request.config.getoption("benchmark_enable") or request.config.getoption("benchmark_only")):
        pytest.skip("a timing: pytest tests/perf --benchmark-enable")


@pytest.mark.parametrize("truth", ["member", "included"])
def test_judging_a_million_scores_over_sorting_them(benchmark: Any, tmp_path: Path, truth: str) -> None:
    rng = np.random.default_rng(0)
    coins = rng.random(MILLION) < 0.5
    scores = rng.normal(0, 1, MILLION) + 0.27 * coins
    path = tmp_path / "scores.npz"
    np.savez(path, **{"scores": scores, truth: coins})
    pairs: list[tuple[float, float]] = []

    def both() -> None:
        start = process_time()
        score_audit.audit(load(path))
        middle = process_time()
        np.argsort(scores, kind="stable")
        pairs.append((middle - start, process_time() - middle))

    both()  # the first one imports SciPy
    pairs.clear()
    benchmark.pedantic(both, rounds=5, iterations=1)
    ratio = median(a / b for a, b in pairs)
    start = perf_counter()
    command = [sys.executable, "-m", "bench", "score", str(path), "--results", str(tmp_path)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)  # of this child alone: RUSAGE_CHILDREN is that of the largest ever
    assert status == 0
    child.returncode = 0
    seconds, peak = perf_counter() - start, used.ru_maxrss / 1024
    print(f"\na million scores ({truth}) ÷ one argsort: {ratio:.1f}; the whole command {seconds:.2f} s, {peak:.0f} MiB")
    assert ratio <= 6
    assert peak <= 500
