"""The cost of auditing a million scores, relative to one argsort in the same run.

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
from on_demand import on_demand  # noqa: F401 - an autouse fixture

from bench.audit import score_audit
from bench.audit.score_file import load

MILLION = 1_000_000


@pytest.mark.parametrize("truth", ["member", "included"])
def test_auditing_a_million_scores_over_sorting_them(benchmark: Any, tmp_path: Path, truth: str) -> None:
    rng = np.random.default_rng(0)
    truths = rng.random(MILLION) < 0.5
    scores = rng.normal(0, 1, MILLION) + 0.27 * truths
    path = tmp_path / "scores.npz"
    np.savez(path, **{"scores": scores, truth: truths})
    pairs: list[tuple[float, float]] = []

    def both() -> None:
        start = process_time()
        score_audit.audit(load(path))
        middle = process_time()
        np.argsort(scores, kind="stable")
        pairs.append((middle - start, process_time() - middle))

    both()  # the first call imports SciPy
    pairs.clear()
    benchmark.pedantic(both, rounds=5, iterations=1)
    ratio = median(a / b for a, b in pairs)
    start = perf_counter()
    command = [sys.executable, "-m", "bench", "score", str(path), "--results", str(tmp_path)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)  # of this child only: RUSAGE_CHILDREN is the maximum over all children
    assert status == 0
    child.returncode = 0
    seconds, peak = perf_counter() - start, used.ru_maxrss / 1024
    print(f"\na million scores ({truth}) ÷ one argsort: {ratio:.1f}; the whole command {seconds:.2f} s, {peak:.0f} MiB")
    assert ratio <= 6
    assert peak <= 500
