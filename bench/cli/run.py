"""`bench run`: measures what is not yet measured, then prints the leaderboard; and what other commands measure with."""

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
from bench.cli.table import publish
from bench.cli.worker_options import add_workers
from bench.core.errors import UserError, warn_user

if TYPE_CHECKING:
    from bench.runner.registry import Registry
    from bench.runner.request import Request
    from bench.runner.run import Outcome
    from bench.store.store import Store


def add(commands: Commands) -> argparse.ArgumentParser:
    """The parser of `run`."""
    parser = new_parser(
        commands, "run", execute, "measure what is not yet measured, then print the leaderboard",
        "Measure each selected defense against each attack that can be played; without a selection, all of them.",
    )  # fmt: skip
    parser.add_argument(
        "--budget", metavar="TIME", help="as in 90s, 20m or 2h: what narrows intervals most in that time"
    )
    add_grid(parser)
    add_reuse(parser)
    add_reference(parser)
    add_workers(parser)
    return parser


def execute(arguments: argparse.Namespace) -> int:
    """Lint, measure, print; the exit code."""
    request, registry = requested(arguments, references=True)
    check_playable(request)

    from bench.runner import cell as cells

    refuted = lint_claims(request, registry)
    store, outcome = measure(request, registry)
    games = ((cell.data.label, cell.attack.component.game) for cell in cells.playable(request.grids))
    played = {(data, game.name) for data, game in games if game}
    violated = publish(store, registry, outcome.failed, played)
    return max(report_failures(outcome), 3 * (refuted or violated))


def lint_claims(request: Request, registry: Registry) -> bool:
    """Lint each defense that claims DP and has no verdict of today's code; whether any verdict of all is bad."""
    from bench.core.progress import Progress
    from bench.lint import verdicts
    from bench.report import reproduce
    from bench.runner import cell as cells
    from bench.store.store import Store, uncollected

    store, defenses = Store(request.results), [defense for grid in request.grids for defense in grid.defenses]
    with uncollected():
        stale = verdicts.stale(store, registry, defenses)
    if stale:
        store.check_writable()
    unknown = verdicts.copy_shipped(store, registry, stale)  # the linter takes minutes
    if unknown and (lacking := reproduce.lacking(cells.playable(request.grids), request.where)):
        raise UserError(" ".join(lacking.values()))
    with Progress() as progress:
        for done, defense in enumerate(unknown):
            progress.step(f"linting {defense.label}", done, len(unknown))
            store.save(verdicts.measure(defense, registry))
    caveats = {defense.label: verdicts.caveat(store, registry, defense.label) for defense in defenses}
    for label, caveat in caveats.items():
        if caveat:
            warn_user(f"{label}: {caveat}")
    return any(caveats.values())


def measure(request: Request, registry: Registry) -> tuple[Store, Outcome]:
    """Measure the cells of a request that are not stored."""
    from bench.core.progress import Progress
    from bench.report import cost_estimate
    from bench.report.budget import Budget
    from bench.runner import cell as cells
    from bench.runner import run as runner
    from bench.store.freshness import freshness
    from bench.store.store import Store, uncollected

    for line in registry.broken:
        warn_user(f"note: {line}")
    store = Store(request.results)
    with uncollected():  # the runner reads each again, from what this leaves in memory
        for cell in cells.playable(request.grids):
            store.load(*cell.name)
    budget = None if request.budget is None else Budget(request.budget, store, freshness(registry.find))
    with Progress() as progress:
        return store, runner.run(request, registry, store, progress, budget, cost_estimate.seconds(store))


def report_failures(outcome: Outcome) -> int:
    """Report which cells failed and why, and which the budget left; the exit code of that."""
    for reason in dict.fromkeys(outcome.failed.values()):
        cells = ["/".join(map(str, cell)) for cell, why in outcome.failed.items() if why == reason]
        more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
        warn_user(f"failed: {cells[0]}{more}: {reason}")
    if outcome.left:
        some = ", ".join("/".join(map(str, cell)) for cell in outcome.left[:3]) + ", ..." * (len(outcome.left) > 3)
        warn_user(f"note: the budget left {len(outcome.left)} to measure ({some}); `bench plan` estimates their cost.")
    return 1 if outcome.failed else 0
