"""Skips timings unless benchmarks are enabled."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def on_demand(request: pytest.FixtureRequest) -> None:
    if not (request.config.getoption("benchmark_enable") or request.config.getoption("benchmark_only")):
        pytest.skip("a timing: pytest tests/perf --benchmark-enable")
