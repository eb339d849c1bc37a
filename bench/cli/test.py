"""`bench test`: runs the conformance checks (`bench.conformance`) on components of anybody."""

from __future__ import annotations

import argparse
import time
from collections import Counter

from bench.cli import completion
from bench.cli.options import Commands, add_data_dir, data_dir, new_parser


def add(commands: Commands) -> argparse.ArgumentParser:
    """The parser of `test`."""
    parser = new_parser(
        commands, "test", execute, "run the conformance checks on defenses and attacks",
        "Check contracts, lint claims of privacy, play controls: one line per check, with what to do where one fails.",
    )  # fmt: skip
    what = "a Python file with components, or the name of one, as in dp_vaegm,epsilon=1"
    component = parser.add_argument("component", nargs="+", metavar="FILE|NAME", help=what)
    completion.attach(component, completion.components("defense", "attack"))
    parser.add_argument("--no-controls", action="store_true", help="leave out an attack's controls, which take minutes")
    add_data_dir(parser)
    return parser


def execute(arguments: argparse.Namespace) -> int:
    """Run and print the checks; 1 where one fails."""
    from bench.conformance import session
    from bench.core.dataset import DataLocation
    from bench.core.progress import Progress

    start, where = time.monotonic(), DataLocation(data_dir(arguments.data_dir))
    registry, chosen = session.named(arguments.component)
    counts: Counter[str] = Counter()
    with Progress() as progress:
        for choice in chosen:
            for verdict in session.verdicts(choice, registry, where, progress, controls=not arguments.no_controls):
                print(verdict, flush=True)
                counts[verdict.outcome] += 1
    total = ", ".join(f"{counts[outcome]} {outcome.lower()}" for outcome in ("passed", "FAILED", "skipped"))
    print(f"{total} in {time.monotonic() - start:.0f} s")
    return 1 if counts["FAILED"] else 0
