"""One test session: the components that were named, and the verdict of each check on each of them, as it ends."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.conformance.check import Check, Verdict, judge
from bench.core.component import Choice, Kind
from bench.core.dataset import Where
from bench.core.errors import UserError, suggest
from bench.core.progress import Progress
from bench.runner.registry import Registry, add, discover
from bench.runner.selection import choose

KINDS: tuple[Kind, ...] = ("defense", "attack")


def named(words: Sequence[str]) -> tuple[Registry, list[Choice]]:
    """The components of files and those of names, with options after them; and all others, which they may meet.

    Raises UserError for a file that is not there, fails to load or declares nothing, and for an unknown name.
    """
    registry, chosen = discover(), []
    for word in words:
        name, comma, options = (word, "", "") if Path(word).is_file() else word.partition(",")
        if name.endswith(".py") or Path(name).is_file():
            declared = [one for one in add(registry, Path(name)) if one.kind in KINDS]
            chosen += [found for one in declared for found in choose(registry, one.kind, f"{one.name}{comma}{options}")]
        else:
            chosen += _registered(registry, word)
    return registry, chosen


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
    choice: Choice, registry: Registry, where: Where, say: Callable[[str], None]
) -> tuple[Any, list[Check[Any]]]:
    """What is tried, and every check of it, the long ones last."""
    from bench.conformance import attack_checks, defense_checks, dp_checks, end_to_end
    from bench.conformance.short_runs import Tried

    if choice.component.kind == "attack":
        return attack_checks.Player(choice, registry, where, say), [
            *attack_checks.CHECKS,
            end_to_end.passes_its_controls,
        ]
    return Tried(choice, registry), [*defense_checks.CHECKS, *dp_checks.CHECKS, end_to_end.gets_into_a_board]


def verdicts(
    choice: Choice, registry: Registry, where: Where, progress: Progress, *, controls: bool = True
) -> Iterator[Verdict]:
    """Of each check of one component, as it ends; what failed once fails no second time for the same reason."""
    from bench.dp import train
    from bench.dp.weights_cache import WeightsCache

    name, attack = choice.component.name, choice.component.kind == "attack"
    said: dict[str, str] = {}
    tried, every = checks(choice, registry, where, progress.print)
    for done, one in enumerate(every):
        if not controls and one.says == "passes its controls":
            yield Verdict(name, one.says, "skipped", "--no-controls.")
            continue

        def says(what: str, step: int, steps: int, done: int = done, check: str = one.says) -> None:
            progress.step(f"{name}: {check}: {what}, step {step} of {steps}", done, len(every))

        progress.step(f"{name}: {one.says}", done, len(every))
        with tempfile.TemporaryDirectory() as folder:
            memory = (
                WeightsCache(Path(folder)) if attack else None
            )  # recalling a training would say nothing of repeating it
            with train.caching(memory, says):
                for verdict in judge(one, tried, choice.component):
                    first = said.setdefault(verdict.why, one.says) if verdict.outcome == "FAILED" else one.says
                    again = f"it fails there as it does above ({first})."
                    yield verdict if first == one.says else replace(verdict, outcome="skipped", why=again)
