"""What is known of a row's claim beside the claim itself: how much of its epsilon audits have proved.

The one place that the board asks. A caveat of a row goes into `Claim.caveats`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.audit.kept import KINDS, Audited, Finding, fingerprint, load
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.registry import Registry
    from bench.store import Store


@dataclass(frozen=True)
class Claim:
    """audited: the column; violated: whether more is proved than is claimed; caveats: sentences to stand by the row."""

    audited: str = "-"
    violated: bool = False
    caveats: tuple[str, ...] = ()


NOTHING = Claim()


def known(store: Store, registry: Registry) -> Callable[[str, str], Claim]:
    """What is known of a row, by the labels of its data set and its defense."""

    @functools.cache
    def of(data: str, defense: str) -> Claim:
        row = load(store, data, defense)
        if row is None or not row.findings:
            return NOTHING
        return claim(fresh(row, registry))

    return of


def fresh(row: Audited, registry: Registry) -> list[Finding]:
    """The findings of a row that today's code and packages would be asked for."""
    from bench.choosing import choose

    try:
        [defense], [data] = choose(registry, "defense", row.defense), choose(registry, "data", row.data)
    except UserError:  # its component, or an option of it, is gone
        return []
    found = row.findings.items()
    return [one for kind, one in found if one.digest == fingerprint(defense, data, kind)]


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
    return f"{math.floor(bound * 100) / 100:.2f}"
