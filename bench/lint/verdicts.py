"""Which defenses have a fresh lint verdict, in the results or shipped with the package, and the verdicts of others.

`python -m bench.lint.verdicts` rewrites the shipped verdicts, `bench/lint/shipped/`. A shipped verdict counts, as a
stored one, only while its digest is that of the code, options and versions at hand: after an edit of a defense, or of
what it runs on, it is linted again.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core.component import Choice
from bench.core.errors import UserError
from bench.lint.probe_data import PROBE_DATA, findings
from bench.lint.short_options import claims_privacy, verdict_choice
from bench.runner.selection import choose
from bench.store.freshness import verdict_digest
from bench.store.read_write import Damaged
from bench.store.records import LintVerdict
from bench.store.store import Store

if TYPE_CHECKING:
    from bench.runner.registry import Registry

SHIPPED = Store(Path(__file__).parent / "shipped")


def stale(store: Store, registry: Registry, choices: Iterable[Choice]) -> list[Choice]:
    """The `verdict_choice` of each choice that claims privacy and has no verdict of the present code in the store."""
    requested = {one.label: one for one in map(verdict_choice, filter(claims_privacy, choices))}
    return [one for one in requested.values() if not _is_fresh(store.find_label(LintVerdict, one.label), one, registry)]


def copy_shipped(store: Store, registry: Registry, choices: Iterable[Choice]) -> list[Choice]:
    """Store the shipped verdict of each choice that `stale` returned, where it is of the present code; the others."""
    others = []
    for one in choices:
        verdict = SHIPPED.find_label(LintVerdict, one.label)
        if verdict is not None and _is_fresh(verdict, one, registry):
            store.save(verdict)
        else:
            others.append(one)
    return others


def measure(choice: Choice, registry: Registry) -> LintVerdict:
    """Lint a choice that `stale` returned."""
    return LintVerdict(choice.label, _digest(choice, registry), findings(choice, registry.data))


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
        verdict = store.read_label(LintVerdict, one.label)
    except Damaged as error:
        return f"its lint verdict is damaged ({error}); `bench run` with this defense lints it again."
    if verdict is None or not _is_fresh(verdict, one, registry):
        return (
            f"it was {'probed with other code' if verdict else 'not probed'}; `bench run` with this defense probes it."
        )
    return " ".join(f"{found.probe}: {found.what}." for found in verdict.findings) or None


def _is_fresh(verdict: LintVerdict | None, choice: Choice, registry: Registry) -> bool:
    return verdict is not None and verdict.digest == _digest(choice, registry)


def _digest(choice: Choice, registry: Registry) -> str:
    return verdict_digest(choice, [registry.data[name] for name in PROBE_DATA])


def of_package(registry: Registry) -> list[Choice]:
    """Each defense of the package that claims privacy, with its default options: those whose verdicts are shipped."""
    ours = [one for one in registry.defenses.values() if one.function.__module__.startswith("defenses.")]
    return [choice for one in ours if claims_privacy(choice := Choice(one))]


def main() -> None:
    """Lint each defense of the package whose shipped verdict is of other code; delete verdicts on what is gone."""
    from bench.runner.registry import discover

    registry = discover()
    choices = of_package(registry)
    for choice in stale(SHIPPED, registry, choices):
        print(SHIPPED.save(measure(choice, registry)), flush=True)
    kept = {SHIPPED.root.joinpath(*LintVerdict(choice.label, "", ()).place) for choice in choices}
    for path in set(SHIPPED.root.rglob("*.json")) - kept:
        path.unlink()


if __name__ == "__main__":
    main()
