"""How often the linter flags each planted bug, and correct code, as a Markdown table.

Every run has another split of breast_cancer and another seed. Bugs in the optimizer are tested by the probes of
trainings alone, with --whole by the whole linter; correct code is always tested by the whole linter.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path


def row(name: str, first: int, runs: int, whole: bool) -> str:
    """One line of the table: of so many runs how many were flagged, and by what first."""
    sys.path.insert(0, str(Path(__file__).parents[2]))  # of `conftest`
    from conftest import split

    from . import GROUPS

    [bug] = [bug for group in GROUPS.values() for bug in group if bug.name == name]
    right, said = bug in GROUPS["right"], Counter[str]()
    for seed in range(first, first + runs):
        found = bug.found(split("breast_cancer", seed), seed, whole=whole or right, most=100 if right else 1)
        said[found[0].probe if found else ""] += 1
    flagged = runs - said.pop("", 0)
    by = ", ".join(f"{probe} {times}" for probe, times in said.most_common())
    return f"| {name} | {'nothing' if right else 'a bug'} | {flagged} of {runs} | {by} |"


def main() -> None:
    """Read the words, print the table."""
    from . import GROUPS

    words = argparse.ArgumentParser(prog="python -m tests.lint.planted", description=__doc__)
    words.add_argument("names", nargs="*", help="these rows alone")
    words.add_argument("--runs", type=int, default=100)
    words.add_argument("--first", type=int, default=0, help="the first seed")
    words.add_argument("--jobs", type=int, default=1)
    words.add_argument("--whole", action="store_true", help="the whole linter for every bug")
    words.add_argument("--only", choices=tuple(GROUPS), help="one group of rows")
    given = words.parse_args()
    names = [bug.name for group, bugs in GROUPS.items() if given.only in (None, group) for bug in bugs]
    if unknown := set(given.names) - set(names):
        words.error(f"no row is called {', '.join(sorted(unknown))}")
    names = [name for name in names if not given.names or name in given.names]
    print("| | planted | flagged | first by |\n|---|---|---|---|", flush=True)
    # A process a row: what TensorFlow keeps of the programs of one goes with it.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.jobs, spawn, max_tasks_per_child=1) as pool:
        for line in pool.map(row, names, repeat(given.first), repeat(given.runs), repeat(given.whole)):
            print(line, flush=True)
