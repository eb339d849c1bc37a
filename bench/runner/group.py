"""A group: one release, trained once, and all attacks on it that are to be measured. The unit that a worker runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.environment import instruction_set
from bench.data import user_file
from bench.runner import garbage, play
from bench.runner.cell import Cell
from bench.runner.messages import Failed, Finished, Message, Name, Trained, failed
from bench.runner.selection import choose, choose_data
from bench.store import read_write
from bench.store.freshness import versions
from bench.store.records import CellResult

if TYPE_CHECKING:
    from bench.core.dataset import DataLocation, Split
    from bench.core.game import Challenge
    from bench.dp.weights_cache import WeightsCache
    from bench.runner.registry import Registry


@dataclass
class Splits:
    """The last split that was made: one at a time, as they can be large."""

    name: tuple[str, int] | None = None
    split: tuple[Split, tuple[str, ...]] | None = None

    def get(self, cell: Cell, where: DataLocation) -> tuple[Split, tuple[str, ...]]:
        """The records of a cell, and the caveats about them."""
        name = cell.data.label, cell.seed
        if self.split is None or self.name != name:
            self.name, self.split = name, None
            self.split = play.split(cell.data, where, cell.seed)
        return self.split


@dataclass(frozen=True)
class Tools:
    """What a job finds where it runs.

    machine, code: of the records (`CellResult`). on_progress: hears what is being done. may_start: whether there is
    time left for a cell.
    """

    where: DataLocation
    weights: WeightsCache
    machine: str
    code: str
    on_progress: Callable[[str], None] = lambda what: None
    may_start: Callable[[Name], bool] = lambda name: True
    splits: Splits = field(default_factory=Splits)

    def on_training_step(self, what: str, done: int, steps: int) -> None:
        """Hear of the progress of one training."""
        garbage.collect()
        self.on_progress(f"{what}, step {done} of {steps}")


@dataclass(frozen=True)
class Group:
    """The job of one group: cells that share data set, seed and defense."""

    cells: tuple[Cell, ...]
    kind = "group"

    @property
    def label(self) -> str:
        """What readers of the progress see."""
        first = self.cells[0]
        return f"{first.defense.label} on {first.data.label}, seed {first.seed}"

    @property
    def names(self) -> tuple[Name, ...]:
        """Of what it measures."""
        return tuple(cell.name for cell in self.cells)

    def without(self, done: frozenset[Name]) -> Group | None:
        """What is left of it, None where that is nothing."""
        left = tuple(cell for cell in self.cells if cell.name not in done)
        return Group(left) if left else None

    def spec(self) -> dict[str, Any]:
        """The group in values that JSON holds, of which `from_spec` makes it again."""
        first = self.cells[0]
        attacks = [cell.attack.label for cell in self.cells]
        digests = [cell.digest() for cell in self.cells]
        chosen = {"data": first.data.label, "defense": first.defense.label, "attacks": attacks}
        return {**chosen, "seed": first.seed, "digests": digests, "file": user_file.sent_name(first.data)}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], registry: Registry, folder: Path) -> Group:
        """The group of a specification; folder: where the files of the user's records were written.

        Raises ValueError where the components of this process are not those of the sender.
        """
        data = choose_data(registry, spec["data"], spec["file"], folder)
        [defense] = choose(registry, "defense", spec["defense"])
        attacks = [attack for label in spec["attacks"] for attack in choose(registry, "attack", label)]
        cells = tuple(Cell(data, defense, attack, spec["seed"]) for attack in attacks)
        for cell, digest in zip(cells, spec["digests"], strict=True):
            if cell.digest() != digest:
                raise ValueError(f"{'/'.join(map(str, cell.name))} is not the same cell on this worker")
        return cls(cells)

    def messages(self, tools: Tools) -> Iterator[Message]:
        """Train the defense, then play the attacks for which there is time. Each error fails its cells alone."""
        tools.on_progress(self.label)
        first = self.cells[0]
        _reset_peak()
        try:
            data, caveats = tools.splits.get(first, tools.where)
        except Exception as error:  # noqa: BLE001 - a component that fails must not stop the other cells
            yield failed(self.names, "the data set failed", error)
            return
        challenges: dict[tuple[str, str], Challenge] = {}
        yield from self._draw(data, challenges)
        cells = [cell for cell in self.cells if play.question(cell) in challenges]
        if not cells:
            return
        try:
            trained, message = _train(data, first, tools)
        except Exception as error:  # noqa: BLE001
            yield failed(_names(cells), "training failed", error)
            return
        trained = replace(trained, caveats=(*caveats, *trained.caveats))
        yield message
        for cell in cells:
            if tools.may_start(cell.name):
                garbage.collect()
                try:
                    finished = _play(data, cell, trained, challenges[play.question(cell)], tools)
                except Exception as error:  # noqa: BLE001
                    yield failed([cell.name], "the attack failed", error)
                else:
                    yield finished

    def _draw(self, data: Split, challenges: dict[tuple[str, str], Challenge]) -> Iterator[Failed]:
        """Draw the challenge of each game before training: a game that needs more records costs no training."""
        for question in dict.fromkeys(map(play.question, self.cells)):
            cells = [cell for cell in self.cells if play.question(cell) == question]
            try:
                challenges[question] = play.challenge(data, cells[0])
            except Exception as error:  # noqa: BLE001
                yield failed(_names(cells), "the challenge failed", error)


def _names(cells: Sequence[Cell]) -> list[Name]:
    return [cell.name for cell in cells]


def _train(data: Split, cell: Cell, tools: Tools) -> tuple[play.Trained, Trained]:
    """Train the defense of a cell: the release, and what is reported of it."""
    from bench.dp.train import caching

    with caching(tools.weights, tools.on_training_step):
        trained = play.train(data, cell.defense, cell.seed)
        sheet = play.samples(cell, trained.release)
    return trained, Trained(cell.name, cell.training_digest(), sheet, trained.fits)


def _play(data: Split, cell: Cell, trained: play.Trained, challenge: Challenge, tools: Tools) -> Finished:
    """Play one attack: the record of the cell, and what belongs to it. Raises ValueError for a record that is none."""
    from bench.dp.train import caching, device

    tools.on_progress(f"{cell.defense.label} on {cell.data.label}, seed {cell.seed}, against {cell.attack.label}")
    with caching(tools.weights, tools.on_training_step):
        played = play.measure(data, cell, trained, challenge, tools.weights)
    result = CellResult(
        data=cell.data.label,
        defense=cell.defense.label,
        attack=cell.attack.label,
        game=play.question(cell)[0],
        seed=cell.seed,
        options=cell.options,
        digest=cell.digest(),
        code=tools.code,
        versions=versions(),
        machine=tools.machine,
        device=device(),
        instruction_set=instruction_set(),
        utility=trained.utility,
        privacy=trained.privacy,
        metrics=played.metrics,
        seconds={"defense": round(trained.seconds, 3), "attack": round(played.seconds, 3)},
        peak_memory_mib=_peak(),
        caveats=list(dict.fromkeys(map(read_write.plain_line, (*trained.caveats, *played.caveats)))),
    )
    read_write.encode(result)
    return Finished(cell.name, result, played.answers, played.contact_sheet, played.fits)


def _reset_peak() -> None:
    """Reset the kernel's peak of resident memory, where that is permitted."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
    """Peak resident memory in MiB, since the last reset on Linux, else since the start of the process."""
    with suppress(OSError):
        if found := re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text()):
            return round(int(found[1]) / 1024, 1)
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
