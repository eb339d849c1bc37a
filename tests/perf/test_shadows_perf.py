"""What LiRA costs: 64 shadows of the undefended classifier on `digits`, trained and asked.

Run with `pytest tests/perf --benchmark-enable -s`; without it, it is skipped. The bar is that of two idle cores.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.core.component import Choice
from bench.core.dataset import DataLocation
from bench.games import MEMBERSHIP
from bench.runner.registry import discover
from bench.runner.run import run


def test_lira_with_64_shadows_on_digits(benchmark: Any, request: pytest.FixtureRequest) -> None:
    if not (request.config.getoption("benchmark_enable") or request.config.getoption("benchmark_only")):
        pytest.skip("a timing: pytest tests/perf --benchmark-enable")
    found = discover()
    data = found.data["digits"].function(DataLocation(), np.random.default_rng(0))
    release = run.release(data, Choice(found.defenses["none"]), 0)
    challenge = MEMBERSHIP.challenge(data, np.random.default_rng(0))
    lira = found.attacks["lira"].function
    benchmark.pedantic(lambda: lira(release, challenge.targets, challenge.public, seed=0, shadows=64), rounds=1)
    print(f"\nLiRA, 64 shadows, digits: {benchmark.stats.stats.mean:.1f} s")
    assert benchmark.stats.stats.mean <= 60
