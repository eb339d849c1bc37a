"""`bench audit`: attacks what the defenses here claim."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bench.cli import completion
from bench.cli.options import Commands, add_locations, add_rows, new_parser, requested
from bench.cli.worker_options import add_workers
from bench.core.errors import UserError, suggest, warn_user

if TYPE_CHECKING:
    from bench.core.component import Choice
    from bench.runner.registry import Registry
    from bench.runner.request import Grid
    from bench.store.records import AuditedRow
    from bench.store.store import Store

TRIALS = {"one_step": 20_000, "whole": 500, "black_box": 200}
MOST = 10_000_000


def add(commands: Commands) -> argparse.ArgumentParser:
    """The parser of `audit`."""
    parser = new_parser(
        commands, "audit", execute, "attack what the defenses claim: how much of epsilon is proved",
        "Audit each selected defense that claims an epsilon, and write results/audit.md.",
    )  # fmt: skip
    add_rows(parser)
    kind = parser.add_argument("--kind", default="one_step", help=f"{', '.join(TRIALS)} (default: one_step)")
    completion.attach(kind, completion.fixed(*TRIALS))
    default = ", ".join(f"{count} of {kind}" for kind, count in TRIALS.items())
    parser.add_argument("--trials", type=int, help=f"half of them with the canary (default: {default})")
    add_locations(parser)
    add_workers(parser)
    return parser


def execute(arguments: argparse.Namespace) -> int:
    """Audit row by row; 3 where one is refuted, 1 where one failed."""
    kind, trials = _trials(arguments)
    request, registry = requested(arguments)
    rows = _rows(request.grids)

    from bench.audit.job import Audit
    from bench.core.progress import Progress
    from bench.data import user_file
    from bench.report import audit_page
    from bench.runner import engine
    from bench.runner.job import Setup
    from bench.runner.messages import Failed, Finished
    from bench.runner.meter import Meter
    from bench.store.store import Store

    store = Store(request.results)
    store.check_writable()
    files = {name: content for _, data in rows for name, content in user_file.sent_files(data).items()}
    setup = Setup(request.where, store.weights, plugins=registry.plugins, files=files)
    jobs = [Audit(defense, data, kind, trials) for defense, data in rows]
    codes = []
    with Progress() as progress:
        meter = Meter(progress, len(jobs))
        for message in engine.results(jobs, setup, request.workers, meter, count=len(jobs)):
            if isinstance(message, Finished):
                codes.append(_save(store, registry, message.record))  # type: ignore[arg-type]
            elif isinstance(message, Failed) and not message.mistake:
                warn_user(f"failed: {' on '.join(map(str, message.names[0]))}: {message.reason}")
                codes.append(1)
            elif isinstance(message, Failed):
                if len(rows) == 1:
                    raise UserError(message.reason)
                warn_user(f"left out: {message.reason}")
    print(audit_page.write(store, registry))
    return max(codes, default=0)


def _trials(arguments: argparse.Namespace) -> tuple[str, int]:
    """The kind of audit and its number of trials. Raises UserError for what cannot be."""
    kind = arguments.kind.replace("-", "_")
    if kind not in TRIALS:
        raise UserError(f"there is no audit of the kind {arguments.kind!r}: {suggest(arguments.kind, TRIALS)}")
    trials = TRIALS[kind] if arguments.trials is None else arguments.trials
    if not 2 <= trials <= MOST or trials % 2:
        raise UserError(f"trials must be an even number from 2 to {MOST}, not {trials}: half have the canary in.")
    return kind, trials


def _save(store: Store, registry: Registry, row: AuditedRow) -> int:
    """Store and print the finding of a row; 3 where the row is refuted."""
    from bench.report import epsilon_column
    from bench.store import audit_findings

    [finding] = row.findings.values()
    audit_findings.save(store, row.defense, row.data, finding)
    known = epsilon_column.known(store, registry)(row.data, row.defense)
    alone = epsilon_column.claim([finding]).audited
    words = f"{row.defense} on {row.data}: claims {float(finding.epsilon):.3g}, audited {alone}"
    print(f"{words}; {finding.seconds / 60:.1f} minutes", flush=True)
    return 3 if known.violated else 0


def _rows(grids: tuple[Grid, ...]) -> list[tuple[Choice, Choice]]:
    """Each selected row that claims an epsilon, once. Raises UserError where none does."""
    from bench.lint.short_options import claims_privacy

    every = {
        (defense.label, data.label): (defense, data)
        for grid in grids
        for data in grid.data
        for defense in grid.defenses
    }
    rows = [row for row in every.values() if claims_privacy(row[0])]
    if not rows:
        names = ", ".join(dict.fromkeys(defense for defense, _ in every))
        raise UserError(f"none of {names} claims an epsilon: choose a defense that does (`bench list defenses`).")
    return rows
