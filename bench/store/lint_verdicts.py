"""The linter's verdict on each defense, kept with the results: results/probes/<defense>.json."""

from __future__ import annotations

from pathlib import Path

from bench.core.files import file_name
from bench.store.read_write import Damaged
from bench.store.records import PROBES, LintFinding, LintVerdict
from bench.store.store import Store

__all__ = ["Damaged", "LintFinding", "LintVerdict", "load", "path", "read", "save"]


def path(store: Store, defense: str) -> Path:
    """Where the verdict of a defense is or will be."""
    return store.root.joinpath(PROBES, f"{file_name(defense)}.json")


def save(store: Store, verdict: LintVerdict) -> None:
    """Write what was found."""
    store.save(verdict)


def load(store: Store, defense: str) -> LintVerdict | None:
    """The verdict on a defense, or None where there is none or, with a Caveat, a damaged one."""
    return store.find(LintVerdict, PROBES, f"{file_name(defense)}.json")


def read(store: Store, defense: str) -> LintVerdict | None:
    """The verdict on a defense, or None where there is none. Raises Damaged where it cannot be read."""
    try:
        return store.read(LintVerdict, PROBES, f"{file_name(defense)}.json")
    except FileNotFoundError:
        return None
