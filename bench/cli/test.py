"""`bench test`: runs the conformance checks (`bench.conformance`) on anybody's component."""

from __future__ import annotations

import argparse
import time
from collections import Counter

from bench.cli.read_commands import Verbs


def add_test(verbs: Verbs) -> argparse.ArgumentParser:
    """The parser of `test`."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "test", allow_abbrev=False, help="put defenses and attacks through what every one of them owes",
        description="Check contracts, probe privacy, play controls: a line a check, and what to do where one fails.",
    )  # fmt: skip
    what = "a Python file with components, or the name of one, as in dp_vaegm,epsilon=1"
    parser.add_argument("component", nargs="+", metavar="FILE|NAME", help=what)
    parser.add_argument("--no-controls", action="store_true", help="leave out an attack's controls, which take minutes")
    parser.add_argument("--data-dir", metavar="DIR", help="as of `run`: some controls are played on a larger data set")
    parser.set_defaults(does=_test)
    return parser


def _test(arguments: argparse.Namespace) -> int:
    from bench.cli.options import data_dir
    from bench.conformance import session
    from bench.core.dataset import Where
    from bench.core.progress import Progress

    start, where = time.monotonic(), Where(data_dir(arguments.data_dir))
    registry, chosen = session.named(arguments.component)
    counts: Counter[str] = Counter()
    with Progress() as progress:
        for choice in chosen:
            for verdict in session.verdicts(choice, registry, where, progress, controls=not arguments.no_controls):
                print(verdict, flush=True)
                counts[verdict.outcome] += 1
    said = ", ".join(f"{counts[outcome]} {outcome.lower()}" for outcome in ("passed", "FAILED", "skipped"))
    print(f"{said} in {time.monotonic() - start:.0f} s")
    return 1 if counts["FAILED"] else 0
