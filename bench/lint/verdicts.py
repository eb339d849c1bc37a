"""Decides which defenses have no fresh lint verdict and measures verdicts; `bench.store.lint_verdicts` stores them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bench.core.component import Choice
from bench.core.dataset import DataLocation, Split
from bench.core.errors import UserError
from bench.core.randomness import stream
from bench.lint.short_options import SIZES, claims_privacy, verdict_choice
from bench.runner.selection import choose
from bench.store.freshness import verdict_digest
from bench.store.lint_verdicts import Damaged, LintFinding, LintVerdict, load, read

if TYPE_CHECKING:
    from bench.runner.registry import Registry
    from bench.store.store import Store

PROBE_DATA = ("digits", "breast_cancer")  # the second for a defense that rejects images
SEED = 0


def stale(store: Store, registry: Registry, choices: Iterable[Choice]) -> list[Choice]:
    """The `verdict_choice` of each choice that claims privacy and has no verdict measured with the present code."""
    requested = {one.label: one for one in map(verdict_choice, filter(claims_privacy, choices))}
    return [one for label, one in requested.items() if not _fresh(load(store, label), one, registry)]


def measure(choice: Choice, registry: Registry) -> LintVerdict:
    """Lint a choice that `stale` returned, on the first of PROBE_DATA that it accepts."""
    from bench.lint.linter import lint

    for name in PROBE_DATA:
        try:
            found = lint(choice, _probe_data(name, registry), SEED)
            break
        except UserError as error:
            found = (
                LintFinding("run", f"it accepts neither images nor plain features, so it was not tested ({error})"),
            )
    return LintVerdict(choice.label, _digest(choice, registry), found)


def _probe_data(name: str, registry: Registry) -> Split:
    found: Split = registry.data[name].function(DataLocation(), stream(SEED, "split", name), **SIZES)
    return found


def caveat(store: Store, registry: Registry, label: str) -> str | None:
    """The caveat of a defense's row: its findings, or that it was not linted; None where the verdict is clean."""
    try:
        [choice] = choose(registry, "defense", label)
    except UserError as error:
        return str(error)
    if not claims_privacy(choice):
        return None
    one = verdict_choice(choice)
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
    return verdict_digest(choice, [registry.data[name] for name in PROBE_DATA])
