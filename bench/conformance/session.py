"""One test session: the named components, and the verdict of each check of each of them, as it ends."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.conformance.check import Check, Verdict, run_check
from bench.core.component import Choice, Kind
from bench.core.dataset import DataLocation
from bench.core.errors import UserError, suggest
from bench.core.progress import Progress
from bench.runner.registry import Registry, add, discover
from bench.runner.selection import choose

KINDS: tuple[Kind, ...] = ("defense", "attack")


def named(words: Sequence[str]) -> tuple[Registry, list[Choice]]:
    """The components of files and names, with options after them; and the registry with all others.

    Raises UserError for a file that does not exist, cannot be loaded or declares nothing, and for an unknown name.
    """
    registry, selected = discover(), []
    for word in words:
        name, comma, options = (word, "", "") if Path(word).is_file() else word.partition(",")
        if name.endswith(".py") or Path(name).is_file():
            declared = [one for one in add(registry, Path(name)) if one.kind in KINDS]
            for one in declared:
                selected += choose(registry, one.kind, f"{one.name}{comma}{options}")
        else:
            selected += _registered(registry, word)
    return registry, selected


def _registered(registry: Registry, words: str) -> list[Choice]:
    name = words.partition(",")[0].strip()
    kinds = [kind for kind in KINDS if name in registry.of(kind)]
    if not kinds:
        for line in registry.broken:
            if f"/{name}.py " in line:
                raise UserError(f"{name!r} cannot be tested, because {line}")
        known = [name for kind in KINDS for name in registry.of(kind)]
        raise UserError(f"there is no component {name!r} and no such file: {suggest(name, known)}")
    return [choice for kind in kinds for choice in choose(registry, kind, words)]


def checks(
    choice: Choice, registry: Registry, where: DataLocation, on_progress: Callable[[str], None]
) -> tuple[Any, list[Check[Any]]]:
    """The runs of a component, and its checks, the long ones last."""
    from bench.conformance import attack_checks, defense_checks, dp_checks, end_to_end
    from bench.conformance.short_runs import ShortRuns

    if choice.component.kind == "attack":
        return attack_checks.AttackRuns(choice, registry, where, on_progress), [
            *attack_checks.CHECKS,
            end_to_end.passes_its_controls,
        ]
    return ShortRuns(choice, registry), [
        *defense_checks.CHECKS,
        *dp_checks.CHECKS,
        end_to_end.appears_on_leaderboard,
    ]


def verdicts(
    choice: Choice, registry: Registry, where: DataLocation, progress: Progress, *, controls: bool = True
) -> Iterator[Verdict]:
    """The verdicts of one component, as each check ends; a failure for the same reason as an earlier one is skipped."""
    from bench.dp import train
    from bench.dp.weights_cache import WeightsCache

    name, attack = choice.component.name, choice.component.kind == "attack"
    first_check: dict[str, str] = {}
    runs, every = checks(choice, registry, where, progress.print)
    for done, one in enumerate(every):
        if not controls and one.title == "passes its controls":
            yield Verdict(name, one.title, "skipped", "--no-controls.")
            continue

        def on_step(what: str, step: int, steps: int, done: int = done, check: str = one.title) -> None:
            progress.step(f"{name}: {check}: {what}, step {step} of {steps}", done, len(every))

        progress.step(f"{name}: {one.title}", done, len(every))
        with tempfile.TemporaryDirectory() as folder:
            # A defense is trained again each time: cached weights would hide that a training does not repeat itself.
            cache = WeightsCache(Path(folder)) if attack else None
            with train.caching(cache, on_step):
                for verdict in run_check(one, runs, choice.component):
                    failed = verdict.outcome == "FAILED"
                    first = first_check.setdefault(verdict.why, one.title) if failed else one.title
                    again = f"it fails for the same reason as above ({first})."
                    yield verdict if first == one.title else replace(verdict, outcome="skipped", why=again)
