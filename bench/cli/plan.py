"""`bench plan`: estimates what `bench run` with the same settings would do and cost."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bench.cli.options import (
    Commands,
    add_grid,
    add_reference,
    add_reuse,
    check_playable,
    new_parser,
    requested,
)
from bench.cli.worker_options import add_workers

if TYPE_CHECKING:
    from bench.runner.cell import Cell


def add(commands: Commands) -> argparse.ArgumentParser:
    """The parser of `plan`."""
    parser = new_parser(commands, "plan", execute, "estimate what `run` with the same settings would do and cost")
    parser.add_argument("--budget", metavar="TIME", help="as of `run`: only what it would reach by these estimates")
    add_grid(parser)
    add_reuse(parser)
    add_reference(parser)
    add_workers(parser)
    return parser


def execute(arguments: argparse.Namespace) -> int:
    """Print the estimate."""
    request, registry = requested(arguments, references=True)
    check_playable(request)

    from bench.report import budget, cost_estimate
    from bench.store.freshness import freshness
    from bench.store.store import Store

    store = Store(request.results)

    def within(cells: list[Cell]) -> list[Cell]:
        if request.budget is None:
            return cells
        return budget.within(request.budget, cells, store, freshness(registry.find))

    rows = cost_estimate.make(request, store, within)
    workers = cost_estimate.in_parallel(rows, request.workers, budget=request.budget is not None)
    print("\n".join(cost_estimate.lines(rows, workers)))
    return 0
