"""The verb that audits what the defenses here claim, `audit`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bench.cli.options import add_rows, add_where, request, settings
from bench.cli.read_commands import Verbs, discover
from bench.core.errors import UserError, suggest, warn_user

if TYPE_CHECKING:
    from bench.core.component import Choice
    from bench.runner.registry import Registry
    from bench.runner.request import Grid
    from bench.store.audit_findings import Finding
    from bench.store.store import Store

TRIALS = {"one_step": 20_000, "whole": 500, "black_box": 200}
MOST = 10_000_000


def add_audit(verbs: Verbs) -> argparse.ArgumentParser:
    """The parser of `audit`."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "audit", allow_abbrev=False, help="attack what the defenses claim: how much of epsilon is proved",
        description="Audit each chosen defense that claims an epsilon, and write results/audit.md.",
    )  # fmt: skip
    add_rows(parser)
    parser.add_argument("--kind", default="one_step", help=f"{', '.join(TRIALS)} (default: one_step)")
    default = ", ".join(f"{count} of {kind}" for kind, count in TRIALS.items())
    parser.add_argument("--trials", type=int, help=f"half of them with the canary in (default: {default})")
    add_where(parser)
    parser.set_defaults(does=_audit)
    return parser


def _audit(arguments: argparse.Namespace) -> int:
    kind = arguments.kind.replace("-", "_")
    if kind not in TRIALS:
        raise UserError(f"there is no audit of the kind {arguments.kind!r}: {suggest(arguments.kind, TRIALS)}")
    trials = TRIALS[kind] if arguments.trials is None else arguments.trials
    if not 2 <= trials <= MOST or trials % 2:
        raise UserError(f"trials must be an even number from 2 to {MOST}, not {trials}: half have the canary in.")
    given, parts = settings(arguments)
    registry = discover(given["plugin"])
    asked = request(registry, given, parts)
    rows = _rows(asked.grids)

    from bench.audit import audit as audits
    from bench.core.progress import Progress
    from bench.report import audit_page
    from bench.store.store import Store

    store = Store(asked.results)
    store.check_writable()
    codes = []
    with Progress() as progress:
        for done, (defense, data) in enumerate(rows):

            def say(what: str, at: int, of: int, done: int = done, name: str = defense.label) -> None:
                progress.step(f"{name}: {what}, {at} of {of}", done, len(rows))

            try:
                found = audits.audit(defense, data, kind, trials, asked.where, say)
            except UserError as error:
                if len(rows) == 1:
                    raise
                warn_user(f"left out: {error}")
            except Exception as error:  # noqa: BLE001 - somebody else's defense must not stop the other rows
                warn_user(f"failed: {defense.label} on {data.label}: {type(error).__name__}: {error}")
                codes.append(1)
            else:
                codes.append(_keep(store, registry, defense, data, found))
    print(audit_page.write(store, registry))
    return max(codes, default=0)


def _keep(store: Store, registry: Registry, defense: Choice, data: Choice, found: Finding) -> int:
    """Store and print a finding; 3 where the row is refuted."""
    from bench.report import epsilon_column
    from bench.store import audit_findings

    audit_findings.save(store, defense.label, data.label, found)
    known = epsilon_column.known(store, registry)(data.label, defense.label)
    alone = epsilon_column.claim([found]).audited
    row = f"{defense.label} on {data.label}: claims {float(found.epsilon):.3g}, audited {alone}"
    print(f"{row}; {found.seconds / 60:.1f} minutes", flush=True)
    return 3 if known.violated else 0


def _rows(grids: tuple[Grid, ...]) -> list[tuple[Choice, Choice]]:
    """Each chosen row that claims an epsilon, once. Raises UserError where none does."""
    from bench.audit.audit import claims

    every = {(d.label, s.label): (d, s) for one in grids for s in one.data for d in one.defenses}
    rows = [row for row in every.values() if claims(row[0])]
    if not rows:
        names = ", ".join(dict.fromkeys(defense for defense, _ in every))
        raise UserError(f"none of {names} claims an epsilon: choose a defense that does (`bench list defenses`).")
    return rows
