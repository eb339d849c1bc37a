"""`bench audit`: attacks what the defenses here claim."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bench.cli import completion
from bench.cli.options import Commands, add_locations, add_rows, new_parser, requested
from bench.core.errors import UserError, suggest, warn_user

if TYPE_CHECKING:
    from bench.core.component import Choice
    from bench.runner.registry import Registry
    from bench.runner.request import Grid
    from bench.store.records import AuditFinding
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
    return parser


def execute(arguments: argparse.Namespace) -> int:
    """Audit row by row; 3 where one is refuted, 1 where one failed."""
    kind, trials = _trials(arguments)
    request, registry = requested(arguments)
    rows = _rows(request.grids)

    from bench.audit import audit
    from bench.core.progress import Progress
    from bench.report import audit_page
    from bench.store.store import Store

    store = Store(request.results)
    store.check_writable()
    codes = []
    with Progress() as progress:
        for done, (defense, data) in enumerate(rows):

            def on_progress(what: str, at: int, of: int, done: int = done, name: str = defense.label) -> None:
                progress.step(f"{name}: {what}, {at} of {of}", done, len(rows))

            try:
                finding = audit.audit(defense, data, kind, trials, request.where, on_progress)
            except UserError as error:
                if len(rows) == 1:
                    raise
                warn_user(f"left out: {error}")
            except Exception as error:  # noqa: BLE001 - a defense that fails must not stop the other rows
                warn_user(f"failed: {defense.label} on {data.label}: {type(error).__name__}: {error}")
                codes.append(1)
            else:
                codes.append(_save(store, registry, defense, data, finding))
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


def _save(store: Store, registry: Registry, defense: Choice, data: Choice, finding: AuditFinding) -> int:
    """Store and print a finding; 3 where the row is refuted."""
    from bench.report import epsilon_column
    from bench.store import audit_findings

    audit_findings.save(store, defense.label, data.label, finding)
    known = epsilon_column.known(store, registry)(data.label, defense.label)
    alone = epsilon_column.claim([finding]).audited
    row = f"{defense.label} on {data.label}: claims {float(finding.epsilon):.3g}, audited {alone}"
    print(f"{row}; {finding.seconds / 60:.1f} minutes", flush=True)
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
