"""What the program takes before it does anything: CPU seconds beside the imports that it cannot do without, in one run.

Run with `pytest tests/perf --benchmark-enable -s`; without it, it is skipped.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

from tests.cli.test_the_same_again import WORDS, measured

LIBRARIES = "import numpy, msgspec, rich.console, rich.table, importlib.metadata"


@pytest.fixture(autouse=True)
def _on_demand(request: pytest.FixtureRequest) -> None:
    if not (request.config.getoption("benchmark_enable") or request.config.getoption("benchmark_only")):
        pytest.skip("a timing: pytest tests/perf --benchmark-enable")


def seconds(*words: str) -> float:
    """CPU seconds of a Python process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize(("what", "bar"), [("again", 3.0), ("help", 0.8)])
def test_a_command_with_nothing_to_measure_takes_little_more_than_its_imports(
    benchmark, tmp_path: Path, what: str, bar: float
) -> None:
    """The reference is Python with NumPy, msgspec and rich."""
    if what == "again":
        measured(tmp_path / "results")
    words = ("--help",) if what == "help" else (*WORDS, "--results", str(tmp_path / "results"))
    ours, theirs = [], []

    def turn() -> None:
        theirs.append(seconds("-c", LIBRARIES))
        ours.append(seconds("-m", "bench", *words))

    turn()  # compiles what is compiled once
    ours.clear(), theirs.clear()
    benchmark.pedantic(turn, rounds=7)
    found, reference = median(ours), median(theirs)
    benchmark.extra_info |= {"seconds": found, "reference": reference, "ratio": found / reference}
    print(f"\n{what}: {found:.2f} CPU seconds, {found / reference:.2f} times its imports ({reference:.2f} s)")
    assert found <= bar * reference
