"""`bench reproduce`: measures stored cells again, in a folder of their own, and compares."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from bench.cli.options import Commands, add_grid, new_parser, open_store, requested
from bench.cli.run import measure
from bench.cli.worker_options import add_workers
from bench.core.errors import warn_user


def add(commands: Commands) -> argparse.ArgumentParser:
    """The parser of `reproduce`."""
    parser = new_parser(
        commands, "reproduce", execute, "measure stored cells again, in a folder of their own, and compare",
        "Measure the stored cells of a run with the same settings again, in a folder of their own, and compare. Exit "
        "codes: 0 every cell came back, equal or inside its stored interval; 1 a cell failed; 2 a mistake in the "
        "command; 4 a cell drifted out of its interval, or its claim changed.",
    )  # fmt: skip
    parser.add_argument("--budget", metavar="TIME", help="as of `run`: what is not measured by then is not compared")
    parser.add_argument("--sample", type=int, metavar="N", help="only N of the cells, spread over rows and attacks")
    parser.add_argument("--sample-seed", type=int, metavar="SEED", help="draw the sample that another run printed")
    parser.add_argument("--into", metavar="DIR", help="measure in this folder, to resume (default: a temporary one)")
    parser.add_argument("--write", metavar="FILE", help="write the comparison, in Markdown, to a file too")
    add_grid(parser)
    add_workers(parser)
    return parser


def execute(arguments: argparse.Namespace) -> int:
    """Measure again, compare and print."""
    request, registry = requested(arguments)

    from bench.core.files import write
    from bench.report import reproduce

    kept = open_store(str(request.results))
    chosen = reproduce.choose(request, kept, arguments.sample, arguments.sample_seed)
    into = Path(arguments.into) if arguments.into else None
    try:
        with reproduce.folder(into, kept) as anew:
            cells, notes = reproduce.reachable(chosen.cells, anew, request.where)
            again = replace(request, results=anew.root, grids=reproduce.grids(cells), reuse_committed=False)
            _, outcome = measure(again, registry)
            if outcome.left:
                notes.append(f"the budget left {len(outcome.left)} cells, which are not compared")
            report = reproduce.compare(chosen, anew, outcome.failed, registry, kept, notes)
    except KeyboardInterrupt:
        if into:
            raise  # `main` says how to go on
        warn_user("stopped; nothing was kept: with --into DIR the same command goes on where it stopped.")
        return 130
    text = reproduce.markdown(report)
    print(text, end="")
    if arguments.write:
        write(Path(arguments.write), text.encode())
    return report.code
