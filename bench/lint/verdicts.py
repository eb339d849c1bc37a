"""What the probes found of each defense, kept with the results as long as neither code nor packages change."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core.component import Choice
from bench.core.dataset import Data, Where
from bench.core.errors import UserError
from bench.core.randomness import stream
from bench.lint.hypothesis_tests import Finding
from bench.lint.short_options import SIZES, claims, probed
from bench.runner.cell import code, versions
from bench.runner.selection import choose
from bench.store.store import PROBES, digest, source_digest, write

if TYPE_CHECKING:
    from bench.runner.registry import Registry
    from bench.store.store import Store

GROUNDS = ("digits", "breast_cancer")  # the second for a defense that takes no pictures
SEED = 0


@dataclass(frozen=True)
class Verdict:
    """Of a defense with its options (as a label) and a digest of all that it depends on; no findings: it is clean."""

    defense: str
    digest: str
    findings: tuple[Finding, ...]


def stale(store: Store, registry: Registry, choices: Iterable[Choice]) -> list[Choice]:
    """Of the choices, as they are probed, each that claims DP and has no verdict by today's code."""
    wanted = {one.label: one for one in map(probed, filter(claims, choices))}
    return [one for label, one in wanted.items() if not _fresh(load(store, label), one, registry)]


def measure(choice: Choice, registry: Registry) -> Verdict:
    """Probe what `probed` gave."""
    from bench.lint.linter import lint

    for name in GROUNDS:
        try:
            found = lint(choice, _ground(name, registry), SEED)
            break
        except UserError as error:
            found = (
                Finding("trial", f"it takes neither pictures nor plain features, so nothing was probed ({error})"),
            )
    return Verdict(choice.label, fingerprint(choice, registry), found)


def _ground(name: str, registry: Registry) -> Data:
    found: Data = registry.data[name].function(Where(), stream(SEED, "split", name), **SIZES)
    return found


def fingerprint(choice: Choice, registry: Registry) -> str:
    """Stands for all that a verdict depends on: the defense and its options, the records, the probes, the versions."""
    files = code(choice.component, *(registry.data[name] for name in GROUNDS))
    own = {path.name: source_digest(path) for path in sorted(Path(__file__).parent.glob("*.py"))}
    settings = {name: list(value) if isinstance(value, tuple) else value for name, value in choice.settings.items()}
    return digest((choice.name, settings, files, own, versions()))


def path(store: Store, defense: str) -> Path:
    """Where the verdict of a defense is or will be."""
    return store.root / PROBES / f"{store.path('-', defense, '-', 0).parent.parent.name}.json"


def save(store: Store, verdict: Verdict) -> None:
    """Write what was found."""
    text = json.dumps(asdict(verdict), indent=1, sort_keys=True, allow_nan=False)
    write(path(store, verdict.defense), text.encode() + b"\n")


def load(store: Store, defense: str) -> Verdict | None:
    """What is stored of a defense, or None where there is nothing that can be read."""
    try:
        values = json.loads(path(store, defense).read_bytes())
        found = tuple(Finding(str(one["probe"]), str(one["what"])) for one in values["findings"])
        return Verdict(str(values["defense"]), str(values["digest"]), found)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def caveat(store: Store, registry: Registry, label: str) -> str | None:
    """What a reader of a defense's row must know of its probes; None where they are fresh and clean, or not needed."""
    try:
        [choice] = choose(registry, "defense", label)
    except UserError as error:
        return str(error)
    if not claims(choice):
        return None
    one = probed(choice)
    verdict = load(store, one.label)
    if not _fresh(verdict, one, registry):
        return (
            f"it was {'probed with other code' if verdict else 'not probed'}; `bench run` with this defense probes it."
        )
    assert verdict
    return " ".join(f"{found.probe}: {found.what}." for found in verdict.findings) or None


def _fresh(verdict: Verdict | None, choice: Choice, registry: Registry) -> bool:
    return verdict is not None and verdict.digest == fingerprint(choice, registry)
