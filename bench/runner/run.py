"""The grid: every selected defense against every attack that can be played, each cell saved once it is judged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from bench.core.dataset import DataLocation, Split
from bench.core.environment import instruction_set
from bench.core.errors import UserError
from bench.core.game import Challenge
from bench.core.progress import Progress
from bench.runner import play
from bench.runner.cell import Cell, is_stored, playable
from bench.runner.registry import Registry
from bench.runner.request import Request
from bench.store import code_release
from bench.store.freshness import versions
from bench.store.read_write import plain_line
from bench.store.records import CellResult
from bench.store.store import Store, samples_of


@dataclass
class Outcome:
    """What a run did: cells measured now, stored already, failed with the reason, and left by a budget.

    mistakes: reasons that the user can correct; those cells are among the failed ones.
    """

    failed: dict[tuple[str, str, str, int], str] = field(default_factory=dict)
    measured: int = 0
    stored: int = 0
    left: list[tuple[str, str, str, int]] = field(default_factory=list)
    mistakes: dict[tuple[str, str, str, int], str] = field(default_factory=dict)


class Budget(Protocol):
    """Which cells to measure in a limited time, and in which order (`bench.report.budget`)."""

    def batches(self, cells: Sequence[Cell], /) -> Iterable[list[Cell]]:
        """The cells to measure next, until the time is spent."""
        ...

    def allows(self, cell: Cell, /) -> bool:
        """Whether there is time left for a cell."""
        ...


def run(
    request: Request, registry: Registry, store: Store, progress: Progress, budget: Budget | None = None
) -> Outcome:
    """Measure the requested cells that are not stored; a cell that fails is reported, and the others are measured.

    Raises UserError where the disk refuses, and where every requested cell failed by a mistake of the user.
    """
    outcome = Outcome()
    groups = _unstored(request, store, outcome)
    if groups:
        store.check_writable()
        code = code_release.keep(
            store, [*registry.defenses.values(), *registry.attacks.values(), *registry.data.values()]
        )
        _Run(request.where, store, code, progress, budget, outcome, sum(map(len, groups))).measure(groups)
    if len(outcome.mistakes) == len(outcome.failed) > 0 == outcome.measured + outcome.stored:
        raise UserError(" ".join(dict.fromkeys(outcome.mistakes.values())))
    return outcome


@dataclass(frozen=True)
class _Run:
    """The state of one run. code: digest of the list of files that decide numbers (`bench.store.code_release`)."""

    where: DataLocation
    store: Store
    code: str
    progress: Progress
    budget: Budget | None
    outcome: Outcome
    total: int

    def measure(self, groups: Sequence[list[Cell]]) -> None:
        """Measure all groups, or those that the budget allows, in its order."""
        from bench.dp.train import caching

        cells = [cell for group in groups for cell in group]
        ordered: Iterable[list[Cell]] = self.budget.batches(cells) if self.budget else groups
        splits: dict[tuple[str, int], tuple[Split, tuple[str, ...]]] = {}

        def on_training_step(what: str, done: int, steps: int) -> None:
            self._report(f"{what}, step {done} of {steps}")

        with caching(self.store.weights, on_training_step):
            for group in ordered:
                data, defense, seed = group[0].data, group[0].defense, group[0].seed
                self._report(f"{defense.label} on {data.label}, seed {seed}")
                with self._failing(group, "the data set failed"):
                    if (data.label, seed) not in splits:  # one at a time: they can be large
                        splits = {(data.label, seed): play.split(data, self.where, seed)}
                    self._measure_group(*splits[data.label, seed], group)
        if self.budget:
            unmeasured = (cell for cell in cells if not is_stored(cell, self.store, self.store.machine))
            self.outcome.left = [cell.name for cell in unmeasured if cell.name not in self.outcome.failed]
        self.progress.step("done", self.total - len(self.outcome.left), self.total)

    def _report(self, what: str) -> None:
        self.progress.step(what, self.outcome.measured + len(self.outcome.failed), self.total)

    def _measure_group(self, data: Split, caveats: tuple[str, ...], cells: Sequence[Cell]) -> None:
        """Train one defense, then play the attacks of its cells that the budget still allows."""
        trained = None
        _reset_peak()
        challenges = self._challenges(data, cells)
        cells = [cell for cell in cells if play.question(cell) in challenges]
        if not cells:
            return
        with self._failing(cells, "training failed"):
            trained = play.train(data, cells[0].defense, cells[0].seed)
            trained = replace(trained, caveats=(*caveats, *trained.caveats))
            if pictures := play.samples(cells[0], trained.release):
                self.store.save_sheet(samples_of(cells[0].name), pictures)
            self.store.save_asked(cells[0].training_digest(), trained.fits)
        for cell in cells if trained else ():
            if self.budget and not self.budget.allows(cell):
                continue
            self._report(f"{cell.defense.label} on {cell.data.label}, seed {cell.seed}, against {cell.attack.label}")
            with self._failing([cell], "the attack failed"):
                played = play.measure(data, cell, trained, challenges[play.question(cell)], self.store.weights)
                self._save(cell, trained, played)
                self.outcome.measured += 1

    def _challenges(self, data: Split, cells: Sequence[Cell]) -> dict[tuple[str, str], Challenge]:
        """The challenge of each game, drawn before training: a game that needs more records costs no training."""
        challenges = {}
        for question in dict.fromkeys(map(play.question, cells)):
            group = [cell for cell in cells if play.question(cell) == question]
            with self._failing(group, "the challenge failed"):
                challenges[question] = play.challenge(data, group[0])
        return challenges

    @contextmanager
    def _failing(self, cells: Sequence[Cell], what: str) -> Iterator[None]:
        """Record an error of a component as failed cells, so that the other cells are measured.

        Raises UserError where the disk refuses: then no other cell could be stored either.
        """
        try:
            yield
        except UserError as error:
            self.store.check_writable()
            reason = " ".join(str(error).split())
            self.outcome.mistakes |= {cell.name: reason for cell in cells}
        except Exception as error:  # noqa: BLE001
            reason = " ".join(f"{what}, {type(error).__name__}: {error}".split())
        else:
            return
        self.outcome.failed |= {cell.name: reason for cell in cells}

    def _save(self, cell: Cell, trained: play.Trained, played: play.Played) -> None:
        """Store the cell last, so that whatever belongs to a stored cell is stored too."""
        from bench.dp.train import device

        self.store.save_answers(cell.name, played.answers)
        if played.contact_sheet:
            self.store.save_sheet(cell.name, played.contact_sheet)
        self.store.save_asked(cell.digest(), played.fits)
        result = CellResult(
            data=cell.data.label,
            defense=cell.defense.label,
            attack=cell.attack.label,
            game=play.question(cell)[0],
            seed=cell.seed,
            options=cell.options,
            digest=cell.digest(),
            code=self.code,
            versions=versions(),
            machine=self.store.machine,
            device=device(),
            instruction_set=instruction_set(),
            utility=trained.utility,
            privacy=trained.privacy,
            metrics=played.metrics,
            seconds={"defense": round(trained.seconds, 3), "attack": round(played.seconds, 3)},
            peak_memory_mib=_peak(),
            caveats=list(dict.fromkeys(map(plain_line, (*trained.caveats, *played.caveats)))),
        )
        self.store.save(result)


def _unstored(request: Request, store: Store, outcome: Outcome) -> list[list[Cell]]:
    """The playable cells without a fresh result, grouped by training."""
    groups: dict[tuple[str, int], dict[str, list[Cell]]] = {}  # by split first, as one is in memory at a time
    machine = None if request.reuse_committed else store.machine
    for cell in playable(request.grids):
        if is_stored(cell, store, machine):
            outcome.stored += 1
        else:
            split = groups.setdefault((cell.data.label, cell.seed), {})
            split.setdefault(cell.defense.label, []).append(cell)
    return [cells for split in groups.values() for cells in split.values()]


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
