"""Whether stored cells come back: each is measured again in a folder of its own, and the two are compared.

Reading and comparing import no TensorFlow; `bench.cli.run_commands` has the runner measure in between.
"""

from __future__ import annotations

import math
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
from bench.core.markdown import table
from bench.core.notices import SEEDED
from bench.core.randomness import stream
from bench.runner.cell import Cell, is_stored, playable
from bench.runner.request import Grid
from bench.store import staleness as why
from bench.store.records import CellResult
from bench.store.store import Key, Store

if TYPE_CHECKING:
    from bench.core.dataset import Where
    from bench.runner.registry import Registry
    from bench.runner.request import Request

DRIFT = 4  # the exit code
VERDICTS = ("equal", "inside", "drift", "failed")
CLAIM = ("epsilon", "delta", "sampler", "relation", "public_knowledge")
UNRECORDED = "nothing that is recorded (how many cores the process may use, and their kind, is not)"
TOLD = 4  # changes named in a row of the table
LAST_DIGITS = 1e-9  # of an interval without width, or of an epsilon, another machine may round the last ones otherwise
HEAD = ("data", "defense", "attack", "seed", "stored", "now", "utility", "verdict", "what differs")


@dataclass(frozen=True)
class Chosen:
    """Cells to compare with what is stored of them.

    missing: cells asked for of which nothing is stored; of: those that are stored; seed: what a sample was drawn by.
    """

    cells: tuple[Cell, ...]
    results: Mapping[Key, CellResult]
    missing: int
    of: int
    seed: int | None = None


@dataclass(frozen=True)
class Compared:
    """One stored cell beside the new one (None where measuring failed) and what changed since it was measured.

    why: of a failure, and of what is wrong besides the figures.
    """

    old: CellResult
    new: CellResult | None
    verdict: str
    differs: tuple[str, ...]
    why: tuple[str, ...] = ()

    @property
    def caveats(self) -> tuple[list[str], list[str]]:
        """Those that came, and those that went."""
        was, now = list(self.old.caveats), list(self.new.caveats) if self.new else list(self.old.caveats)
        return [one for one in now if one not in was], [one for one in was if one not in now]


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


def choose(request: Request, store: Store, sample: int | None, seed: int | None) -> Chosen:
    """The stored ones of the cells asked for, or a sample of so many of them.

    Raises UserError where none is stored, where one cannot be read, and for a sample of nothing or of no size.
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
            f"of the {len(every)} cells asked for none is stored in {store.root}: name others, or correct --results."
        )
    if sample is None:
        return Chosen(tuple(found), results, len(every) - len(found), len(found))
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    return Chosen(tuple(spread(found, sample, seed)), results, len(every) - len(found), len(found), seed)


def spread(cells: Sequence[Cell], n: int, seed: int) -> list[Cell]:
    """At most n cells, at random, but always one whose row and attack were taken least often so far."""
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
    """What asks the runner for these cells and no other."""
    return tuple(Grid((cell.defense,), (cell.attack,), (cell.data,), (cell.seed,)) for cell in cells)


@contextmanager
def folder(into: Path | None, store: Store) -> Iterator[Store]:
    """Where cells are measured anew: a folder that goes away afterwards, or `into`, which is resumed.

    Raises UserError for a folder that would read what is stored, cells or weights, instead of measuring it.
    """
    if into is None:
        with tempfile.TemporaryDirectory(prefix="bench-check-") as temporary:
            yield Store(Path(temporary))
        return
    here, there = into.resolve(), store.root.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise UserError(f"--into {into} and {store.root} share files: give a folder apart from the stored cells.")
    made = Store(into)
    if made.known_machine and made.known_machine == store.known_machine:  # random ids: equal ones were copied
        raise UserError(f"--into {into} is a copy of {store.root}, and would be compared with itself: name another.")
    yield made


def reachable(cells: Sequence[Cell], into: Store, where: Where) -> tuple[list[Cell], list[str]]:
    """The cells whose records are at hand, or which are measured already, and a note on each data set that is not."""
    ahead = [cell for cell in cells if not is_stored(cell, into, into.machine)]
    gone = lacking(ahead, where)
    skipped = Counter(cell.data.label for cell in ahead if cell.data.label in gone)
    left = [cell for cell in cells if cell not in ahead or cell.data.label not in gone]
    notes = [f"{n} cells of {label} skipped: {gone[label]}" for label, n in skipped.items()]
    if not left:
        raise UserError(f"nothing can be measured again: {' '.join(gone.values())}")
    return left, notes


def lacking(cells: Sequence[Cell], where: Where) -> dict[str, str]:
    """Why, by label, the records of each data set that cannot be had are not there."""
    found: dict[str, str] = {}
    for data in {cell.data.label: cell.data for cell in cells}.values():
        # What fails otherwise the runner meets again, and says which cells it fails.
        with warnings.catch_warnings(), suppress(Exception):
            warnings.simplefilter("ignore", Caveat)
            try:
                data.component.function(where, stream(0, "split", data.name), **data.settings)
            except UserError as error:
                found[data.label] = str(error)
    return found


def compare(
    chosen: Chosen, into: Store, failed: Mapping[Key, str], registry: Registry, store: Store, notes: Sequence[str] = ()
) -> Report:
    """What came back of the chosen cells; those neither measured nor failed were left by a budget or lack records.

    Raises UserError where that is all of them: a check of nothing must not pass.
    """
    compared = []
    for cell in chosen.cells:
        old, new = chosen.results[cell.name], into.load(*cell.name)
        differs = tuple(_since(store, old, registry, store.known_machine))
        if cell.name in failed:
            compared.append(Compared(old, None, "failed", differs, (failed[cell.name],)))
        elif new and new.digest == cell.digest():  # what an older code left in a folder that is resumed is no answer
            verdict, reasons = judge(old, new)
            compared.append(Compared(old, new, verdict, differs, reasons))
    if not compared:
        raise UserError(f"not one of {len(chosen.cells)} cells was measured again: give a larger --budget.")
    said = list(notes)
    if chosen.seed is not None:
        drawn = f"a sample of {len(chosen.cells)} of {chosen.of} stored cells"
        said.append(f"{drawn}: --sample {len(chosen.cells)} --sample-seed {chosen.seed} draws it again")
    if chosen.missing:
        said.append(f"{chosen.missing} cells asked for are not stored, so there is nothing to compare them with")
    return Report(tuple(compared), tuple(said))


def judge(old: CellResult, new: CellResult) -> tuple[str, tuple[str, ...]]:
    """The verdict on a cell that was measured again, and what is wrong besides its figures.

    Equal: every metric and the utility are the same numbers. Inside: the headline figure and the utility lie in the
    stored ones' own intervals. Drift: they do not, or the claim is another one.
    """
    claims = [name for name in CLAIM if not _same(old.privacy[name], new.privacy[name])]
    if claims:
        return "drift", tuple(f"{name}: {old.privacy[name]} -> {new.privacy[name]}" for name in claims)
    edited = tuple(
        f"the stored {name} lies outside its own interval"
        for name, figure in (("figure", _headline(old)), ("utility", _utility(old)))
        if not _inside(figure, figure)
    )
    if edited:
        return "drift", edited
    if old.metrics == new.metrics and old.utility == new.utility:
        return "equal", ()
    same = old.metrics["headline"] == new.metrics["headline"]
    inside = same and _inside(_headline(old), _headline(new)) and _inside(_utility(old), _utility(new))
    return "inside" if inside else "drift", ()


def _same(old: Any, new: Any) -> bool:
    try:
        return math.isclose(float(old), float(new), rel_tol=LAST_DIGITS)
    except (TypeError, ValueError):  # words
        return bool(old == new)


def _inside(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a figure lies in the interval of the old one; of two that are not measurable there is none to leave."""
    if "value" not in old or "value" not in new:
        return ("value" in old) == ("value" in new)
    return bool(old["low"] - LAST_DIGITS <= new["value"] <= old["high"] + LAST_DIGITS)


def _headline(result: CellResult) -> Mapping[str, Any]:
    figure: Mapping[str, Any] = result.metrics[str(result.metrics["headline"])]
    return figure


def _utility(result: CellResult) -> Mapping[str, Any]:
    figure: Mapping[str, Any] = result.utility.get("accuracy", result.utility)
    return figure


def _since(store: Store, old: CellResult, registry: Registry, machine: str) -> list[str]:
    """What changed since a cell was measured, the machine too; empty where all is as it was."""
    changes = why.changes(store, old, registry.find, machine)
    elsewhere = [why.ELSEWHERE] if old.machine != machine and why.ELSEWHERE not in changes else []
    return [*changes, *elsewhere]


def markdown(report: Report) -> str:
    """The difference: how many came back how, a row for each cell that is not equal, and doubts that came or went."""
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
        for word, caveats in zip(("came", "went"), one.caveats, strict=True):
            lines += [f"- Caveat that {word}, {'/'.join(map(str, _name(one.old)))}: {caveat}" for caveat in caveats]
    lines += [f"- {note}" for note in report.notes]
    lines += [
        "- Equal: every metric and the utility are the same numbers. Inside: the headline figure and the utility lie "
        "in the 95 % intervals that are stored. Drift: they do not, or the claim is another one.",
        f"- {SEEDED}",
    ]
    return "\n".join([*lines, ""])


def _row(one: Compared) -> list[str]:
    figures = _shown(_headline(one.old), interval=True), _shown(_headline(one.new)) if one.new else "-"
    utility = _shown(_utility(one.old)) + (f" -> {_shown(_utility(one.new))}" if one.new else "")
    more = len(one.differs) - TOLD
    told = [*one.why, *one.differs[:TOLD], *([f"and {more} more: `bench why`"] if more > 0 else [])]
    return [*map(str, _name(one.old)), *figures, utility, one.verdict, "; ".join(told) or UNRECORDED]


def _name(result: CellResult) -> Key:
    return result.data, result.defense, result.attack, result.seed


def _shown(figure: Mapping[str, Any], *, interval: bool = False) -> str:
    if "value" not in figure:
        return "not measurable"
    ends = f" [{figure['low']:.3f}, {figure['high']:.3f}]" if interval else ""
    return f"{figure['value']:.3f}{ends}"
