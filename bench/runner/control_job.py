"""Runs the controls of attacks, those that are not stored, each as a job of the engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.core.errors import UserError
from bench.runner import engine
from bench.runner.controls import expected_digest, measure
from bench.runner.job import Setup
from bench.runner.messages import Failed, Finished, Message, Name, failed
from bench.runner.meter import Meter
from bench.runner.request import Workers
from bench.runner.selection import choose
from bench.store.records import ControlResult

if TYPE_CHECKING:
    from pathlib import Path

    from bench.core.component import Choice
    from bench.core.dataset import DataLocation
    from bench.core.progress import Progress
    from bench.runner.group import Tools
    from bench.runner.registry import Registry
    from bench.store.store import Store


@dataclass(frozen=True)
class Controls:
    """The job of one attack's controls (`bench.runner.job.Job`)."""

    attack: Choice
    registry: Registry
    kind = "controls"

    @property
    def label(self) -> str:
        """What readers of the progress see."""
        return f"controls of {self.attack.label}"

    @property
    def names(self) -> tuple[Name, ...]:
        """Of what it measures."""
        return ((self.attack.label,),)

    def without(self, done: frozenset[Name]) -> Controls | None:
        """What is left of it, None where that is nothing."""
        return None if self.names[0] in done else self

    def spec(self) -> dict[str, Any]:
        """The attack, as `from_spec` reads it."""
        return {"attack": self.attack.label}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], registry: Registry, folder: Path) -> Controls:
        """The job of a specification."""
        [attack] = choose(registry, "attack", spec["attack"])
        return cls(attack, registry)

    def messages(self, tools: Tools) -> Iterator[Message]:
        """Measure the controls; an error is reported as such."""
        from bench.dp.train import caching

        try:
            with caching(tools.weights, tools.on_training_step):
                found = measure(self.attack, self.registry, tools.weights, tools.where, tools.on_progress)
        except Exception as error:  # noqa: BLE001 - the controls of other attacks go on
            yield failed(self.names, "the controls failed", error)
        else:
            yield Finished(self.names[0], found)


def run(
    attacks: Sequence[Choice],
    registry: Registry,
    store: Store,
    where: DataLocation,
    progress: Progress,
    workers: Workers = Workers(),  # noqa: B008 - frozen
) -> list[ControlResult]:
    """The controls of each attack: those that are stored and fresh, and the others measured now.

    Raises UserError, when all others are stored, for those that failed.
    """
    store.check_writable()
    found: dict[str, ControlResult] = {}
    for attack in attacks:
        stored = store.find_label(ControlResult, attack.label)
        if stored is not None and stored.digest == expected_digest(attack, registry):
            found[attack.label] = stored
    jobs = [Controls(attack, registry) for attack in attacks if attack.label not in found]
    setup = Setup(where, store.weights, plugins=registry.plugins)
    failures = []
    for message in engine.results(jobs, setup, workers, Meter(progress, len(jobs)), count=len(jobs)):
        if isinstance(message, Finished) and isinstance(message.record, ControlResult):
            store.save(message.record)
            found[message.record.attack] = message.record
        elif isinstance(message, Failed):
            failures.append(f"{message.names[0][0]}: {message.reason}")
    progress.step("done", len(attacks), len(attacks))
    if failures:
        raise UserError(f"controls could not be measured: {'; '.join(failures)}")
    return [found[attack.label] for attack in attacks]
