"""The time of LiRA: trains and queries 64 shadows of the undefended classifier on `digits`.

Run with `pytest tests/perf --benchmark-enable -s`; without it, it is skipped. The limit is for two idle cores.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from on_demand import on_demand  # noqa: F401 - an autouse fixture

from bench.core.component import Choice
from bench.core.dataset import DataLocation
from bench.games import MEMBERSHIP
from bench.runner import play
from bench.runner.registry import discover


def test_lira_with_64_shadows_on_digits(benchmark: Any) -> None:
    found = discover()
    data, _ = play.split(Choice(found.data["digits"]), DataLocation(), 0)
    release = play.release(data, Choice(found.defenses["none"]), 0)
    challenge = MEMBERSHIP.challenge(data, np.random.default_rng(0))
    lira = found.attacks["lira"].function
    benchmark.pedantic(lambda: lira(release, challenge.targets, challenge.public, seed=0, shadows=64), rounds=1)
    print(f"\nLiRA, 64 shadows, digits: {benchmark.stats.stats.mean:.1f} s")
    assert benchmark.stats.stats.mean <= 60
