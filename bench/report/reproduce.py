"""Whether stored cells can be reproduced: each is measured again in another folder, and the two are compared.

Reading and comparing import no TensorFlow; `bench.cli.reproduce` has the runner measure in between.
"""

from __future__ import annotations

import random
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.errors import Caveat, UserError
from bench.core.markdown import item, table
from bench.core.notices import SEEDED
from bench.core.randomness import stream
from bench.core.text import interval
from bench.report.reproduction_verdict import headline, judge, utility
from bench.runner.cell import Cell, is_stored, playable
from bench.runner.request import Grid
from bench.store import staleness
from bench.store.records import CellResult
from bench.store.store import Key, Store

if TYPE_CHECKING:
    from bench.core.dataset import DataLocation
    from bench.runner.registry import Registry
    from bench.runner.request import Request

DRIFT = 4  # the exit code
VERDICTS = ("equal", "inside", "drift", "failed")
UNRECORDED = "nothing that is recorded (the instruction set of the processor is, its caches are not)"
NAMED = 4  # changes named in a row of the table
HEAD = ("data", "defense", "attack", "seed", "stored", "now", "utility", "verdict", "what differs")


@dataclass(frozen=True)
class Selection:
    """Stored cells to reproduce.

    results: what is stored of them, by cell. missing: the number of requested cells that are not stored; of: the number
    of those that are; seed: of the sample, None where all are taken.
    """

    cells: tuple[Cell, ...]
    results: Mapping[Key, CellResult]
    missing: int
    of: int
    seed: int | None = None


@dataclass(frozen=True)
class Compared:
    """One stored cell beside the new one (None where measuring failed), and what changed since it was measured.

    reasons: the error of a failure, or what is wrong besides the estimates.
    """

    old: CellResult
    new: CellResult | None
    verdict: str
    differs: tuple[str, ...]
    reasons: tuple[str, ...] = ()

    @property
    def caveats(self) -> tuple[list[str], list[str]]:
        """Those that are new, and those that are gone."""
        old, new = list(self.old.caveats), list(self.new.caveats) if self.new else list(self.old.caveats)
        return [one for one in new if one not in old], [one for one in old if one not in new]


@dataclass(frozen=True)
class Report:
    """All that was compared, and notes on what was not."""

    compared: tuple[Compared, ...]
    notes: tuple[str, ...]

    @property
    def code(self) -> int:
        """The exit code: that of drift where there is any, else 1 where a cell failed."""
        found = {one.verdict for one in self.compared}
        return DRIFT if "drift" in found else int("failed" in found)


def choose(request: Request, store: Store, sample: int | None, seed: int | None) -> Selection:
    """The requested cells that are stored, or a sample of so many of them.

    Raises UserError where none is stored, where one cannot be read, for a sample below 1, for a seed without a sample.
    """
    if sample is not None and sample < 1:
        raise UserError(f"--sample must be at least 1, not {sample}.")
    if sample is None and seed is not None:
        raise UserError("--sample-seed draws a sample: say with --sample N how large.")
    every = playable(request.grids)
    results = {cell.name: result for cell in every if (result := store.load(*cell.name))}
    for cell in every:
        if cell.name not in results and (path := store.path(*cell.name)).exists():
            raise UserError(f"{path} cannot be read, so nothing can be compared with it: restore or delete it.")
    found = [cell for cell in every if cell.name in results]
    if not found:
        raise UserError(
            f"of the {len(every)} requested cells none is stored in {store.root}: name others, or correct --results."
        )
    if sample is None:
        return Selection(tuple(found), results, len(every) - len(found), len(found))
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    return Selection(tuple(spread(found, sample, seed)), results, len(every) - len(found), len(found), seed)


def spread(cells: Sequence[Cell], n: int, seed: int) -> list[Cell]:
    """At most n random cells, each time one whose row and attack were drawn least often so far."""
    order = stream(seed, "check").permutation(len(cells))
    left, taken = [cells[i] for i in order], Counter[tuple[str, ...]]()
    found: list[Cell] = []
    while left and len(found) < n:
        cell = min(left, key=lambda cell: sum(taken[group] for group in _groups(cell)))
        left.remove(cell)
        taken.update(_groups(cell))
        found.append(cell)
    return found


def _groups(cell: Cell) -> tuple[tuple[str, ...], ...]:
    return ("row", cell.data.label, cell.defense.label), ("attack", cell.data.label, cell.attack.label)


def grids(cells: Sequence[Cell]) -> tuple[Grid, ...]:
    """A request to the runner for these cells and no other."""
    return tuple(Grid((cell.defense,), (cell.attack,), (cell.data,), (cell.seed,)) for cell in cells)


@contextmanager
def folder(into: Path | None, store: Store) -> Iterator[Store]:
    """Where cells are measured again: a temporary folder, or `into`, where an earlier check is resumed.

    Raises UserError for a folder in which stored cells or weights would be read instead of measured again.
    """
    if into is None:
        with tempfile.TemporaryDirectory(prefix="bench-reproduce-") as temporary:
            yield Store(Path(temporary))
        return
    here, there = into.resolve(), store.root.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise UserError(f"--into {into} and {store.root} share files: give a folder apart from the stored cells.")
    again = Store(into)
    if again.known_machine and again.known_machine == store.known_machine:  # random ids: equal ones were copied
        raise UserError(f"--into {into} is a copy of {store.root}, and would be compared with itself: name another.")
    yield again


def reachable(cells: Sequence[Cell], into: Store, where: DataLocation) -> tuple[list[Cell], list[str]]:
    """The cells whose data set is available, or which are measured already; a note on each data set that is not."""
    ahead = {cell.name for cell in cells if not is_stored(cell, into, into.machine)}
    gone = lacking([cell for cell in cells if cell.name in ahead], where)
    skipped = [cell for cell in cells if cell.name in ahead and cell.data.label in gone]
    counts = Counter(cell.data.label for cell in skipped)
    notes = [f"{n} cells of {label} skipped: {gone[label]}" for label, n in counts.items()]
    if len(skipped) == len(cells):
        raise UserError(f"nothing can be measured again: {' '.join(gone.values())}")
    names = {cell.name for cell in skipped}
    return [cell for cell in cells if cell.name not in names], notes


def lacking(cells: Sequence[Cell], where: DataLocation) -> dict[str, str]:
    """By label of each data set that cannot be loaded, why not."""
    found: dict[str, str] = {}
    for data in {cell.data.label: cell.data for cell in cells}.values():
        # any other error will occur again in the runner, which reports the cells that it fails
        with warnings.catch_warnings(), suppress(Exception):
            warnings.simplefilter("ignore", Caveat)
            try:
                data.component.function(where, stream(0, "split", data.name), **data.settings)
            except UserError as error:
                found[data.label] = str(error)
    return found


def compare(
    selection: Selection,
    into: Store,
    failed: Mapping[Key, str],
    registry: Registry,
    store: Store,
    notes: Sequence[str] = (),
) -> Report:
    """The selected cells beside the new ones; those neither measured nor failed were left by a budget or lack data.

    Raises UserError where that is all of them: a check of nothing must not pass.
    """
    compared = []
    for cell in selection.cells:
        old, new = selection.results[cell.name], into.load(*cell.name)
        differs = tuple(_since(store, old, registry, store.known_machine))
        if cell.name in failed:
            compared.append(Compared(old, None, "failed", differs, (failed[cell.name],)))
        elif new and new.digest == cell.digest():  # else older code left it in a folder that is resumed
            if old.instruction_set and old.instruction_set != new.instruction_set:
                differs += (f"instruction set changed: {old.instruction_set} -> {new.instruction_set}",)
            verdict, reasons = judge(old, new)
            compared.append(Compared(old, new, verdict, differs, reasons))
    if not compared:
        raise UserError(f"not one of {len(selection.cells)} cells was measured again: give a larger --budget.")
    left_out, n = list(notes), len(selection.cells)
    if selection.seed is not None:
        sample = f"a sample of {n} of {selection.of} stored cells"
        left_out.append(f"{sample}: --sample {n} --sample-seed {selection.seed} draws it again")
    if selection.missing:
        left_out.append(f"{selection.missing} requested cells are not stored, so there is nothing to compare them with")
    return Report(tuple(compared), tuple(left_out))


def _since(store: Store, old: CellResult, registry: Registry, machine: str) -> list[str]:
    """What changed since a cell was measured, the machine included; empty where nothing did."""
    changes = staleness.changes(store, old, registry.find, machine)
    elsewhere = [staleness.ELSEWHERE] if old.machine != machine and staleness.ELSEWHERE not in changes else []
    return [*changes, *elsewhere]


def markdown(report: Report) -> str:
    """The verdicts counted, a row for each cell that is not equal, and caveats that are new or gone."""
    count = Counter(one.verdict for one in report.compared)
    lines = [
        "# Stored cells, measured again",
        "",
        *table(VERDICTS, [[str(count[verdict]) for verdict in VERDICTS]]),
        "",
    ]
    rows = [_row(one) for one in report.compared if one.verdict != "equal"]
    lines += [*table(HEAD, rows), ""] if rows else []
    for one in report.compared:
        name = "/".join(map(str, _name(one.old)))
        for kind, caveats in zip(("New", "Gone"), one.caveats, strict=True):
            lines += [item(f"{kind} caveat, {name}: {caveat}") for caveat in caveats]
    lines += map(item, report.notes)
    lines += [
        "- Equal: every metric and the utility are the same numbers. Inside: the headline estimate and the utility lie "
        "in the stored 95 % intervals. Drift: they do not, or the claim differs.",
        f"- {SEEDED}",
    ]
    return "\n".join([*lines, ""])


def _row(one: Compared) -> list[str]:
    old, new = _shown(headline(one.old), with_interval=True), _shown(headline(one.new)) if one.new else "-"
    accuracy = _shown(utility(one.old)) + (f" -> {_shown(utility(one.new))}" if one.new else "")
    more = len(one.differs) - NAMED
    differs = [*one.reasons, *one.differs[:NAMED], *([f"and {more} more: `bench why`"] if more > 0 else [])]
    return [*map(str, _name(one.old)), old, new, accuracy, one.verdict, "; ".join(differs) or UNRECORDED]


def _name(result: CellResult) -> Key:
    return result.data, result.defense, result.attack, result.seed


def _shown(estimate: Mapping[str, Any], *, with_interval: bool = False) -> str:
    if "value" not in estimate:
        return "not measurable"
    if with_interval:
        return interval(estimate["value"], estimate["low"], estimate["high"])
    return f"{estimate['value']:.3f}"
