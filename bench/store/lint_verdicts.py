"""What the linter found of each defense, kept with the results."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.core.files import file_name, write
from bench.store.store import PROBES, Store


@dataclass(frozen=True)
class LintFinding:
    """One thing wrong with a defense. what: a sentence that says what is wrong and what to do."""

    probe: str
    what: str


@dataclass(frozen=True)
class LintVerdict:
    """Of a defense with its options (as a label) and a digest of all that it depends on; no findings: it is clean."""

    defense: str
    digest: str
    findings: tuple[LintFinding, ...]


def path(store: Store, defense: str) -> Path:
    """Where the verdict of a defense is or will be."""
    return store.root / PROBES / f"{file_name(defense)}.json"


def save(store: Store, verdict: LintVerdict) -> None:
    """Write what was found."""
    text = json.dumps(asdict(verdict), indent=1, sort_keys=True, allow_nan=False)
    write(path(store, verdict.defense), text.encode() + b"\n")


def load(store: Store, defense: str) -> LintVerdict | None:
    """What is stored of a defense, or None where there is nothing that can be read."""
    try:
        values = json.loads(path(store, defense).read_bytes())
        found = tuple(LintFinding(str(one["probe"]), str(one["what"])) for one in values["findings"])
        return LintVerdict(str(values["defense"]), str(values["digest"]), found)
    except (OSError, ValueError, TypeError, KeyError):
        return None
