"""The same numbers to the bit on any number of cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
pytestmark = pytest.mark.skipif(len(CORES) < 2, reason="needs two cores that the process may use")


def computed(*ways: tuple[str, str]) -> list[dict[str, str]]:
    """What `on_cores.py` prints with these arguments, side by side."""
    script = Path(__file__).with_name("on_cores.py")
    unset = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    started = [
        subprocess.Popen([sys.executable, str(script), *way], stdout=subprocess.PIPE, text=True, env=unset)
        for way in ways
    ]
    printed = [process.communicate()[0] for process in started]
    assert not any(process.returncode for process in started)
    return [json.loads(text) for text in printed]


def test_a_cell_and_convolutions_are_the_same_on_one_core_and_on_all() -> None:
    few, many = computed((str(CORES[0]), "one"), (",".join(map(str, CORES)), "one"))
    assert few == many


@pytest.mark.slow
def test_nor_does_it_matter_that_numpy_was_there_first_but_threads_as_libraries_choose_them_do() -> None:
    """The mutant is what this benchmark did before: some of the numbers differ."""
    everywhere = ",".join(map(str, CORES))
    alone, late, chosen = computed((str(CORES[0]), "one"), (everywhere, "late"), (everywhere, "many"))
    assert alone == late
    assert alone != chosen
