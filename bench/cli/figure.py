"""`bench figure`: measures what a figure of the paper needs, then draws it."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench.cli import completion
from bench.cli.options import (
    PART_SETTINGS,
    SETTINGS,
    Commands,
    add_locations,
    add_reuse,
    add_seeds,
    flags,
    load_registry,
    new_parser,
    open_store,
    request,
)
from bench.cli.run import measure, report_failures
from bench.cli.table import publish
from bench.cli.worker_options import add_workers
from bench.core.errors import UserError

if TYPE_CHECKING:
    from bench.report.figures import Plan
    from bench.runner.registry import Registry
    from bench.runner.request import Request


def add(commands: Commands) -> argparse.ArgumentParser:
    """The parser of `figure`."""
    parser = new_parser(
        commands, "figure", execute, "measure what a figure of the paper needs, then draw it",
        "Measure the cells of a figure that are not yet measured, then draw it below results/figures/.",
    )  # fmt: skip
    name = parser.add_argument("name", nargs="+", metavar="NAME", help="a figure (`bench list figures`), or all")
    completion.attach(name, completion.figures)
    parser.add_argument("--draw-only", action="store_true", help="measure nothing: draw what is stored")
    add_seeds(parser, "as of `run` (default: those of the figure)")
    add_locations(parser)
    add_reuse(parser)
    add_workers(parser)
    return parser


def execute(arguments: argparse.Namespace) -> int:
    """Measure and draw; 1 where a cell failed."""
    from bench.report import figures
    from bench.runner import cell
    from bench.store.freshness import freshness

    plans = figures.choose(arguments.name)
    by_flag = flags(arguments)
    registry = load_registry(by_flag["plugin"])
    requests = [planned(registry, plan, by_flag) for plan in plans]
    if arguments.draw_only:
        store, code = open_store(by_flag["results"]), 0
    else:
        grids = tuple(grid for one in requests for grid in one.grids)
        store, outcome = measure(replace(requests[0], grids=grids), registry)
        publish(store, registry, outcome.failed, ())
        code = report_failures(outcome)
    cells = {plan: cell.playable(one.grids) for plan, one in zip(plans, requests, strict=True)}
    repeated = [f" --seeds {by_flag['seeds']}"] if by_flag["seeds"] else []
    repeated += [f" --plugin {plugin}" for plugin in by_flag["plugin"] or ()]
    for path in figures.draw(cells, figures.FIGURES, store, freshness(registry.find), "".join(repeated)):
        print(path)
    return code


def planned(registry: Registry, plan: Plan, by_flag: dict[str, Any]) -> Request:
    """What `bench run --config` would request with the parts of a plan. Raises UserError that names the figure."""
    from bench.runner import config_file

    stated = {name: value for name, value in by_flag.items() if value is not None}
    types = {name: SETTINGS[name] for name in PART_SETTINGS}
    try:
        parts = [config_file.typed(plan.name, part, types) for part in plan.parts]
        return request(registry, by_flag, [{**by_flag, **part, **stated} for part in parts])
    except UserError as error:
        raise UserError(f"the figure {plan.name} cannot be planned: {error}") from error
