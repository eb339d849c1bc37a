"""What audits of our own defenses found: results/audits/<data>/<defense>.json, one file per row."""

from __future__ import annotations

import math
from pathlib import Path

from msgspec.structs import replace

from bench.core.files import file_name
from bench.store.records import AUDITS, AuditedRow, AuditFinding
from bench.store.store import Store

ERROR = 0.05  # of all audits of a row together
RESTS_ON = {
    "one_step": "independent Gaussian noise of one size in every step, and sampling as it is accounted",
    "whole": "nothing but that trainings are independent",
    "black_box": "nothing but that releases are independent",
}


def path(store: Store, data: str, defense: str) -> Path:
    """Where the audits of a row are or will be."""
    return store.root.joinpath(*_place(data, defense))


def save(store: Store, defense: str, data: str, finding: AuditFinding) -> Path:
    """Keep a finding beside those of the other kinds, over an older one of its kind.

    Reads, merges and writes under the lock of the store: of audits that end together none is lost.
    """
    # A perfect attack on hundreds of uses may prove what the accountant calls infinite; JSON holds that as a word.
    most: list[float] = ["inf" if bound == math.inf else bound for bound in finding.most]  # type: ignore[misc]
    with store.lock():
        known = store.find(AuditedRow, *_place(data, defense))
        findings = {**(known.findings if known else {}), finding.kind: replace(finding, most=most)}
        return store.save(AuditedRow(defense, data, findings))


def load(store: Store, data: str, defense: str) -> AuditedRow | None:
    """What is stored of a row; None where there is nothing or, with a Caveat, something damaged."""
    found = store.find(AuditedRow, *_place(data, defense))
    return found and _numbers(found)


def every(store: Store) -> list[AuditedRow]:
    """Every row that was audited, by data set and defense."""
    return sorted(map(_numbers, store.every(AuditedRow, AUDITS, 1)), key=lambda row: (row.data, row.defense))


def _numbers(row: AuditedRow) -> AuditedRow:
    """With infinity as a number again."""
    found = {kind: replace(one, most=tuple(map(float, one.most))) for kind, one in row.findings.items()}
    return replace(row, findings=found)


def _place(data: str, defense: str) -> tuple[str, ...]:
    return AUDITS, file_name(data), f"{file_name(defense)}.json"
