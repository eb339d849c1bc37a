"""What the probes found of each defense, kept with the results as long as neither code nor packages change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bench.core.component import Choice
from bench.core.dataset import Data, Where
from bench.core.errors import UserError
from bench.core.randomness import stream
from bench.lint.short_options import SIZES, claims, probed
from bench.runner.selection import choose
from bench.store.freshness import verdict_digest
from bench.store.lint_verdicts import Damaged, LintFinding, LintVerdict, load, read

if TYPE_CHECKING:
    from bench.runner.registry import Registry
    from bench.store.store import Store

GROUNDS = ("digits", "breast_cancer")  # the second for a defense that takes no pictures
SEED = 0


def stale(store: Store, registry: Registry, choices: Iterable[Choice]) -> list[Choice]:
    """Of the choices, as they are probed, each that claims DP and has no verdict by today's code."""
    wanted = {one.label: one for one in map(probed, filter(claims, choices))}
    return [one for label, one in wanted.items() if not _fresh(load(store, label), one, registry)]


def measure(choice: Choice, registry: Registry) -> LintVerdict:
    """Probe what `probed` gave."""
    from bench.lint.linter import lint

    for name in GROUNDS:
        try:
            found = lint(choice, _ground(name, registry), SEED)
            break
        except UserError as error:
            found = (
                LintFinding("trial", f"it takes neither pictures nor plain features, so nothing was probed ({error})"),
            )
    return LintVerdict(choice.label, _digest(choice, registry), found)


def _ground(name: str, registry: Registry) -> Data:
    found: Data = registry.data[name].function(Where(), stream(SEED, "split", name), **SIZES)
    return found


def caveat(store: Store, registry: Registry, label: str) -> str | None:
    """What a reader of a defense's row must know of its probes; None where they are fresh and clean, or not needed."""
    try:
        [choice] = choose(registry, "defense", label)
    except UserError as error:
        return str(error)
    if not claims(choice):
        return None
    one = probed(choice)
    try:
        verdict = read(store, one.label)
    except Damaged as error:
        return f"its lint verdict is damaged ({error}); `bench run` with this defense lints it again."
    if not _fresh(verdict, one, registry):
        return (
            f"it was {'probed with other code' if verdict else 'not probed'}; `bench run` with this defense probes it."
        )
    assert verdict
    return " ".join(f"{found.probe}: {found.what}." for found in verdict.findings) or None


def _fresh(verdict: LintVerdict | None, choice: Choice, registry: Registry) -> bool:
    return verdict is not None and verdict.digest == _digest(choice, registry)


def _digest(choice: Choice, registry: Registry) -> str:
    return verdict_digest(choice, [registry.data[name] for name in GROUNDS])
