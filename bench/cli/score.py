"""`bench score`: what the scores of any model prove against its epsilon."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.cli.options import Commands, new_parser


def add(commands: Commands) -> argparse.ArgumentParser:
    """The parser of `score`."""
    parser = new_parser(commands, "score", execute, "audit the epsilon of any model by membership scores in a file")
    parser.add_argument("file", metavar="FILE", help="an .npz: `in` and `out`, `scores` and `member`, or `included`")
    parser.add_argument("--confidence", type=float, default=0.95, help="of each bound (default: 0.95)")
    parser.add_argument("--results", metavar="DIR", default="results", help="folder of the results (default: results)")
    return parser


def execute(arguments: argparse.Namespace) -> int:
    """Print the bounds and store them as a row; 3 where they refute a claim."""
    from bench.audit import score_audit, score_file
    from bench.report.score_rows import lines_of
    from bench.store import score_rows
    from bench.store.store import Store

    row = score_audit.audit(score_file.load(Path(arguments.file)), arguments.confidence)
    path = score_rows.save(row, Store(Path(arguments.results)))
    print(*lines_of(row), f"{path}: a row for `bench table`", sep="\n")
    return 3 if row.violated else 0
