"""The grid: every selected defense against every attack that can be played, each cell saved once it is judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from bench.core.errors import UserError
from bench.data import user_file
from bench.runner import engine
from bench.runner.cell import Cell, is_stored, playable
from bench.runner.group import Group
from bench.runner.job import Job, Setup
from bench.runner.messages import Finished, Message, Name, Trained
from bench.runner.meter import Meter
from bench.runner.registry import Registry
from bench.runner.request import Request
from bench.store import code_release
from bench.store.records import CellResult
from bench.store.store import Key, Store, samples_of

if TYPE_CHECKING:
    from bench.core.progress import Progress


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


Costs = Callable[[Sequence[Cell]], float | None]
"""The seconds that cells of one training take by estimate, None where nobody knows."""


def run(
    request: Request,
    registry: Registry,
    store: Store,
    progress: Progress,
    budget: Budget | None = None,
    costs: Costs = lambda cells: None,
) -> Outcome:
    """Measure the requested cells that are not stored; a cell that fails is reported, and the others are measured.

    Raises UserError where the disk refuses, and where every requested cell failed by a mistake of the user.
    """
    outcome = Outcome()
    groups = _unstored(request, store, outcome)
    if groups:
        store.check_writable()
        _measure(groups, request, registry, store, progress, budget, costs, outcome)
    if len(outcome.mistakes) == len(outcome.failed) > 0 == outcome.measured + outcome.stored:
        raise UserError(" ".join(dict.fromkeys(outcome.mistakes.values())))
    return outcome


def _measure(
    groups: Sequence[Group],
    request: Request,
    registry: Registry,
    store: Store,
    progress: Progress,
    budget: Budget | None,
    costs: Costs,
    outcome: Outcome,
) -> None:
    """Measure all groups, or those that the budget allows, in its order; store what comes."""
    cells = {cell.name: cell for group in groups for cell in group.cells}
    known = {group.names: seconds for group in groups if (seconds := costs(group.cells)) is not None}
    setup = Setup(
        request.where,
        store.weights,
        store.machine,
        code_release.keep(store, registry.components),
        registry.plugins,
        {name: data for group in groups for name, data in user_file.sent_files(group.cells[0].data).items()},
    )
    total = sum(known.values()) if len(known) == len(groups) and not budget else None
    jobs: Iterable[Job] = groups
    if budget:
        jobs = (Group(tuple(batch)) for batch in budget.batches(list(cells.values())))
    elif not engine.inline(request.workers, len(groups), total):  # inline by split: one of them is in memory at a time
        jobs = engine.longest_first(groups, lambda job: known.get(job.names))
    meter = Meter(progress, len(cells), {name: known[names] / len(names) for names in known for name in names})
    messages = engine.results(
        jobs,
        setup,
        request.workers,
        meter,
        count=len(groups),
        seconds=total,
        may_start=(lambda name: budget.allows(cells[name])) if budget else lambda name: True,  # type: ignore[index]
    )
    for message in messages:
        _keep(message, store, outcome)
    if budget:
        unmeasured = (cell for cell in cells.values() if not is_stored(cell, store, store.machine))
        outcome.left = [cell.name for cell in unmeasured if cell.name not in outcome.failed]
    progress.step("done", len(cells) - len(outcome.left), len(cells))


def _keep(message: Message, store: Store, outcome: Outcome) -> None:
    """Store what a message brings; of a cell the record last, so that whatever belongs to it is stored too."""
    if isinstance(message, Trained):
        if message.sheet:
            store.save_sheet(samples_of(_key(message.name)), message.sheet)
        store.save_asked(message.digest, message.fits)
    elif isinstance(message, Finished):
        try:
            store.save_answers(_key(message.name), message.answers)
            if message.sheet:
                store.save_sheet(_key(message.name), message.sheet)
            if isinstance(message.record, CellResult):
                store.save_asked(message.record.digest, message.fits)
            store.save(message.record)
        except ValueError as error:
            outcome.failed[_key(message.name)] = f"its result cannot be stored: {error}"
        else:
            outcome.measured += 1
    else:
        if message.mistake:
            store.check_writable()  # where the disk refuses, no other cell could be stored either
            outcome.mistakes |= {_key(name): message.reason for name in message.names}
        outcome.failed |= {_key(name): message.reason for name in message.names}


def _key(name: Name) -> Key:
    data, defense, attack, seed = name
    return str(data), str(defense), str(attack), int(seed)


def _unstored(request: Request, store: Store, outcome: Outcome) -> list[Group]:
    """The playable cells without a fresh result, grouped by training."""
    groups: dict[tuple[str, int], dict[str, list[Cell]]] = {}  # by split first, as one is in memory at a time
    machine = None if request.reuse_committed else store.machine
    for cell in playable(request.grids):
        if is_stored(cell, store, machine):
            outcome.stored += 1
        else:
            split = groups.setdefault((cell.data.label, cell.seed), {})
            split.setdefault(cell.defense.label, []).append(cell)
    return [Group(tuple(cells)) for split in groups.values() for cells in split.values()]
