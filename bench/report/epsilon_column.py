"""What is known of a row's claim beside the claim itself: the largest bound that audits proved, what the probes found.

The leaderboard, `bench audit` and the pages ask for it here and nowhere else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.core.errors import UserError
from bench.core.text import proved_epsilon
from bench.store.audit_findings import load
from bench.store.freshness import finding_digest
from bench.store.records import AUDIT_KINDS, AuditedRow, AuditFinding

if TYPE_CHECKING:
    from bench.runner.registry import Registry
    from bench.store.store import Store

VIOLATION = "VIOLATION"


@dataclass(frozen=True)
class Claim:
    """bound: what audits proved; violated: whether that is more than is claimed; caveat: what the probes found."""

    bound: str = "-"
    violated: bool = False
    caveat: str = ""

    @property
    def audited(self) -> str:
        """The text of the column, where nothing can be bold."""
        return f"{VIOLATION} {self.bound}" if self.violated else self.bound


NOT_AUDITED = Claim()


def known(
    store: Store, registry: Registry, probed: Callable[[str], str | None] = lambda defense: None
) -> Callable[[str, str], Claim]:
    """What is known of a row, by the labels of its data set and its defense; probed: the linter's caveat on it."""
    probed = functools.cache(probed)

    @functools.cache
    def of(data: str, defense: str) -> Claim:
        row = load(store, data, defense)
        found = claim(fresh(row, registry)) if row and row.findings else NOT_AUDITED
        return replace(found, caveat=probed(defense) or "")

    return of


def fresh(row: AuditedRow, registry: Registry) -> list[AuditFinding]:
    """The findings of a row that were made with today's code and packages."""
    from bench.runner.selection import choose

    try:
        [defense], [data] = choose(registry, "defense", row.defense), choose(registry, "data", row.data)
    except UserError:  # its component, or an option of it, was removed
        return []
    return [one for kind, one in row.findings.items() if one.digest == finding_digest(defense, data, kind)]


def claim(findings: Iterable[AuditFinding]) -> Claim:
    """The largest bound of all fresh findings. They share an error of 5 %, so that it holds at 95 %."""
    findings = list(findings)
    if not findings:
        return Claim("stale")
    shared = len(findings)
    best = max(findings, key=lambda one: one.lower[shared - 1])
    refuted = [one for one in findings if one.violated(shared)]
    shown = refuted[0] if refuted and best not in refuted else best
    most = proved_epsilon(shown.most[shared - 1])
    bound = proved_epsilon(shown.lower[shared - 1])
    return Claim(f"{bound} ({AUDIT_KINDS[shown.kind]}, {shown.trials} trials, at most {most})", bool(refuted))
