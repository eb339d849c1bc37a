"""What is known of a row's claim beside the claim itself: how much audits have proved, what the probes found.

The one place that the board asks.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.core.errors import UserError
from bench.store.audit_findings import KINDS, Audited, Finding, load
from bench.store.freshness import finding_digest

if TYPE_CHECKING:
    from bench.runner.registry import Registry
    from bench.store.store import Store


@dataclass(frozen=True)
class Claim:
    """audited: the column; violated: whether more is proved than is claimed; caveat: what the probes say."""

    audited: str = "-"
    violated: bool = False
    caveat: str = ""


NOTHING = Claim()


def known(
    store: Store, registry: Registry, probed: Callable[[str], str | None] = lambda defense: None
) -> Callable[[str, str], Claim]:
    """What is known of a row, by the labels of its data set and its defense; probed: what the linter says of it."""
    probed = functools.cache(probed)

    @functools.cache
    def of(data: str, defense: str) -> Claim:
        row = load(store, data, defense)
        found = claim(fresh(row, registry)) if row and row.findings else NOTHING
        return replace(found, caveat=probed(defense) or "")

    return of


def fresh(row: Audited, registry: Registry) -> list[Finding]:
    """The findings of a row that today's code and packages would be asked for."""
    from bench.runner.selection import choose

    try:
        [defense], [data] = choose(registry, "defense", row.defense), choose(registry, "data", row.data)
    except UserError:  # its component, or an option of it, is gone
        return []
    found = row.findings.items()
    return [one for kind, one in found if one.digest == finding_digest(defense, data, kind)]


def claim(findings: Iterable[Finding]) -> Claim:
    """The largest bound of all fresh findings, each with its share of 5 %: so it holds at 95 %."""
    findings = list(findings)
    if not findings:
        return Claim("stale")
    shared = len(findings)
    best = max(findings, key=lambda one: one.lower[shared - 1])
    refuted = [one for one in findings if one.violated(shared)]
    shown = refuted[0] if refuted and best not in refuted else best
    words = f"{KINDS[shown.kind]}, {shown.trials} trials, at most {spell(shown.most[shared - 1])}"
    text = f"{spell(shown.lower[shared - 1])} ({words})"
    return Claim(f"**VIOLATION** {text}" if refuted else text, bool(refuted))


def spell(bound: float) -> str:
    """Two digits, rounded down: nothing that is shown was not proved."""
    return f"{math.floor(bound * 100) / 100:.2f}" if math.isfinite(bound) else "inf"
