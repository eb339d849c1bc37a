"""The crossing: every chosen defense against every attack that can be played, each cell saved once it is judged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from bench.core.dataset import Data, Where
from bench.core.errors import UserError
from bench.core.progress import Progress
from bench.runner import play
from bench.runner.cell import Cell, asked, stored
from bench.runner.registry import Registry
from bench.runner.request import Request
from bench.store import code_release
from bench.store.freshness import versions
from bench.store.read_write import plain_line
from bench.store.records import CellResult
from bench.store.store import Store, samples_of


@dataclass
class Outcome:
    """What a run did: cells measured now, stored already, failed with the reason, and left by a budget."""

    failed: dict[tuple[str, str, str, int], str] = field(default_factory=dict)
    measured: int = 0
    stored: int = 0
    left: list[tuple[str, str, str, int]] = field(default_factory=list)


class Budget(Protocol):
    """Which cells to measure in a limited time, and in which order (`bench.report.budget`)."""

    def turns(self, cells: Sequence[Cell], /) -> Iterable[list[Cell]]:
        """The cells to measure next, until the time is spent."""
        ...

    def allows(self, cell: Cell, /) -> bool:
        """Whether there is time left for a cell."""
        ...


def run(
    request: Request, registry: Registry, store: Store, progress: Progress, budget: Budget | None = None
) -> Outcome:
    """Measure what is asked for and not stored; a cell that fails is reported and the rest goes on."""
    outcome = Outcome()
    groups = _todo(request, store, outcome)
    if groups:
        store.check_writable()
        code = code_release.keep(
            store, [*registry.defenses.values(), *registry.attacks.values(), *registry.data.values()]
        )
        _Run(request.where, store, code, progress, budget, outcome, sum(map(len, groups))).measure(groups)
    return outcome


@dataclass(frozen=True)
class _Run:
    """What the groups of one run share. code: digest of the list of files that measure (`bench.store.code_release`)."""

    where: Where
    store: Store
    code: str
    progress: Progress
    budget: Budget | None
    outcome: Outcome
    total: int

    def measure(self, groups: Sequence[list[Cell]]) -> None:
        """Play all groups, or those that the budget allows, in its order."""
        from bench.dp.train import caching

        cells = [cell for group in groups for cell in group]
        turns: Iterable[list[Cell]] = self.budget.turns(cells) if self.budget else groups
        splits: dict[tuple[str, int], tuple[Data, tuple[str, ...]]] = {}

        def training_says(what: str, done: int, steps: int) -> None:
            self._say(f"{what}, step {done} of {steps}")

        with caching(self.store.weights, training_says):
            for group in turns:
                data, defense, seed = group[0].data, group[0].defense, group[0].seed
                self._say(f"{defense.label} on {data.label}, seed {seed}")
                with _failing(self.outcome, group, "the data set failed"):
                    if (data.label, seed) not in splits:  # one at a time: they can be large
                        splits = {(data.label, seed): play.split(data, self.where, seed)}
                    self._group(*splits[data.label, seed], group)
        if self.budget:
            undone = (cell for cell in cells if not stored(cell, self.store, self.store.machine))
            self.outcome.left = [cell.name for cell in undone if cell.name not in self.outcome.failed]
        self.progress.step("done", self.total - len(self.outcome.left), self.total)

    def _say(self, what: str) -> None:
        self.progress.step(what, self.outcome.measured + len(self.outcome.failed), self.total)

    def _group(self, data: Data, caveats: tuple[str, ...], cells: Sequence[Cell]) -> None:
        """Train one defense, then play every attack of its cells, those that the budget still allows by then."""
        trained = None
        _reset_peak()
        # Drawn before training: what is too small to ask about should not be trained for.
        challenges = {
            play.question(cell): play.challenge(data, cell)
            for cell in {play.question(cell): cell for cell in cells}.values()
        }
        with _failing(self.outcome, cells, "training failed"):
            trained = play.train(data, cells[0].defense, cells[0].seed)
            trained = replace(trained, caveats=(*caveats, *trained.caveats))
            if pictures := play.samples(cells[0], trained.release):
                self.store.save_sheet(samples_of(cells[0].name), pictures)
            self.store.save_asked(cells[0].training_digest(), trained.fits)
        for cell in cells if trained else ():
            if self.budget and not self.budget.allows(cell):
                continue
            self._say(f"{cell.defense.label} on {cell.data.label}, seed {cell.seed}, against {cell.attack.label}")
            with _failing(self.outcome, [cell], "the attack failed"):
                played = play.measure(data, cell, trained, challenges[play.question(cell)], self.store.weights)
                self._save(cell, trained, played)
                self.outcome.measured += 1

    def _save(self, cell: Cell, trained: play.Trained, played: play.Played) -> None:
        """The cell last: what stands beside it is there when it is."""
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
            utility=trained.utility,
            privacy=trained.privacy,
            metrics=played.metrics,
            seconds={"defense": round(trained.seconds, 3), "attack": round(played.seconds, 3)},
            peak_memory_mib=_peak(),
            caveats=list(dict.fromkeys(map(plain_line, (*trained.caveats, *played.caveats)))),
        )
        self.store.save(result)


def _todo(request: Request, store: Store, outcome: Outcome) -> list[list[Cell]]:
    """The playable cells without a fresh result, grouped by what is trained for them."""
    groups: dict[tuple[str, int], dict[str, list[Cell]]] = {}  # by split first, as one is in memory at a time
    machine = None if request.accept_published else store.machine
    for cell in asked(request.grids):
        if stored(cell, store, machine):
            outcome.stored += 1
        else:
            split = groups.setdefault((cell.data.label, cell.seed), {})
            split.setdefault(cell.defense.label, []).append(cell)
    return [cells for split in groups.values() for cells in split.values()]


@contextmanager
def _failing(outcome: Outcome, cells: Sequence[Cell], what: str) -> Iterator[None]:
    """Turn a component's own bug into failed cells, so that it does not stop the others; a UserError stops the run."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001
        reason = " ".join(f"{what}, {type(error).__name__}: {error}".split())
        outcome.failed |= {cell.name: reason for cell in cells}


def _reset_peak() -> None:
    """Start the kernel's peak of resident memory anew, where it lets us."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
    """Peak resident memory in MiB, since the last reset on Linux, else since the start of the process."""
    with suppress(OSError):
        if found := re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text()):
            return round(int(found[1]) / 1024, 1)
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
