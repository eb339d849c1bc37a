"""The rate at which the linter flags each planted bug and correct code, as a Markdown table.

Every run has another split of breast_cancer and another seed. Bugs in the optimizer are tested only by the probes of
trainings, or with --whole by the whole linter; correct code is always tested by the whole linter.
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
    """Returns a row of the table: how many of `runs` were flagged, and by which probe first."""
    sys.path.insert(0, str(Path(__file__).parents[2]))  # of `conftest`
    from conftest import split

    from . import GROUPS

    [bug] = [bug for group in GROUPS.values() for bug in group if bug.name == name]
    right, flagged_by = bug in GROUPS["right"], Counter[str]()
    for seed in range(first, first + runs):
        found = bug.found(split("breast_cancer", seed), seed, whole=whole or right, most=100 if right else 1)
        flagged_by[found[0].probe if found else ""] += 1
    flagged = runs - flagged_by.pop("", 0)
    by = ", ".join(f"{probe} {times}" for probe, times in flagged_by.most_common())
    return f"| {name} | {'nothing' if right else 'a bug'} | {flagged} of {runs} | {by} |"


def main() -> None:
    """Parses the arguments and prints the table."""
    from . import GROUPS

    parser = argparse.ArgumentParser(prog="python -m tests.lint.planted", description=__doc__)
    parser.add_argument("names", nargs="*", help="these rows only")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--whole", action="store_true", help="the whole linter for every bug")
    parser.add_argument("--only", choices=tuple(GROUPS), help="one group of rows")
    options = parser.parse_args()
    names = [bug.name for group, bugs in GROUPS.items() if options.only in (None, group) for bug in bugs]
    if unknown := set(options.names) - set(names):
        parser.error(f"no row is called {', '.join(sorted(unknown))}")
    names = [name for name in names if not options.names or name in options.names]
    print("| | planted | flagged | first by |\n|---|---|---|---|", flush=True)
    # One process per row, so that the programs that TensorFlow keeps are freed.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, spawn, max_tasks_per_child=1) as pool:
        for line in pool.map(row, names, repeat(options.first), repeat(options.runs), repeat(options.whole)):
            print(line, flush=True)
