"""Which cells to measure first when time is limited."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from bench.report.aggregate import build
from bench.report.cost_estimate import Group, Past
from bench.report.leaderboard import Row

if TYPE_CHECKING:
    from bench.runner.cell import Cell
    from bench.store.records import CellResult
    from bench.store.store import Store

Pair = tuple[str, str, str]


class Budget:
    """Yields the cells to measure next, in order of expected reduction in uncertainty, until the time budget is spent.

    First comes one seed of every defense against every attack without a number: each game's reference attack before the
    others, undefended rows before the others, cheap before expensive. Then come further seeds of the rows whose
    intervals overlap another row's, the widest interval first, then those of the other rows. Cells that by estimate
    would not end in time are skipped; cells of unknown cost may start while there is time.
    """

    def __init__(
        self,
        seconds: float,
        store: Store,
        fresh: Callable[[CellResult], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._fresh, self._clock = store, fresh, clock
        self._end = clock() + seconds
        self._costs: dict[tuple[str, str, str, int], float] = {}
        self._overlapping: dict[tuple[str, str], float] | None = None  # of the leaderboard, until a cell is measured

    def batches(self, cells: Sequence[Cell]) -> Iterator[list[Cell]]:
        """Cells that share one training, each at most once; the results that are stored decide the next batch."""
        past = Past(self._store)
        stored = self._store.results()
        numbered = {(result.data, result.defense, result.attack) for result in stored if self._fresh(result)}
        left = list(cells)
        awaited: list[Cell] = []
        while left:
            awaited = [cell for cell in awaited if not self._arrived(cell, past)]
            ahead = itertools.chain(_first(left, numbered, past), self._further(left, past))
            batch = next((batch for group in ahead if (batch := self._in_time(group))), None)
            if batch is None:
                return
            yield batch
            measured = {cell.name for cell in batch}
            left = [cell for cell in left if cell.name not in measured]
            numbered |= {_pair(cell) for cell in batch}
            awaited += batch  # of several workers, others may be measuring still

    def _arrived(self, cell: Cell, past: Past) -> bool:
        """Whether a cell is stored by now; its cost then counts for the estimates of the others."""
        result = self._store.load(*cell.name)
        if result is None or not self._fresh(result):
            return False
        past.add(result)
        self._overlapping = None
        return True

    def allows(self, cell: Cell) -> bool:
        """Whether a cell of the last batch will still end in time, now that its model is trained."""
        return self._costs[cell.name] <= self._end - self._clock()

    def _in_time(self, group: Group) -> list[Cell]:
        """The cells of a group that will end in time, their training included."""
        time_left = self._end - self._clock() - (group.training.seconds or 0.0)
        batch = []
        for cell, cost in zip(group.cells, group.costs, strict=True):
            self._costs[cell.name] = cost.seconds or 0.0
            time_left -= self._costs[cell.name]
            if time_left > 0:
                batch.append(cell)
        return batch

    def _further(self, left: Sequence[Cell], past: Past) -> Iterator[Group]:
        """Groups of all cells that are left, those of rows that overlap another one first."""
        if self._overlapping is None:
            self._overlapping = _overlapping(self._store, self._fresh)
        width = self._overlapping
        groups = [_cheap_first(cells, past) for cells in _by(left, lambda cell: (*_pair(cell)[:2], cell.seed))]
        yield from sorted(
            groups, key=lambda group: (-width.get(_pair(group.cells[0])[:2], 0.0), bool(group.unknown), group.seconds)
        )


def within(seconds: float, cells: Sequence[Cell], store: Store, fresh: Callable[[CellResult], bool]) -> list[Cell]:
    """The cells that a run would measure in that time if all estimates were right; its results may change the order."""
    past, elapsed = Past(store), [0.0]
    found: list[Cell] = []
    for batch in Budget(seconds, store, fresh, lambda: sum(elapsed)).batches(cells):
        found += batch
        elapsed.append(past.group(batch).seconds)
    return found


def _first(left: Sequence[Cell], numbered: set[Pair], past: Past) -> list[Group]:
    """Groups of one seed of each pair (defense, attack) without a number."""
    firsts = list({_pair(cell): cell for cell in reversed(left) if _pair(cell) not in numbered}.values())[::-1]
    groups = _by(firsts, lambda cell: (*_pair(cell)[:2], cell.seed, _is_reference(cell)))
    return sorted(
        (_cheap_first(cells, past) for cells in groups),
        key=lambda group: (
            not _is_reference(group.cells[0]),
            not group.cells[0].defense.component.undefended,
            bool(group.unknown),
            group.seconds,
        ),
    )


def _cheap_first(cells: Sequence[Cell], past: Past) -> Group:
    group = past.group(cells)
    cost = {cell.name: cost.seconds for cell, cost in zip(cells, group.costs, strict=True)}
    # again in the new order, for the first cell that shares shadow models is charged for them
    return past.group(sorted(cells, key=lambda cell: (cost[cell.name] is None, cost[cell.name] or 0.0)))


def _by(cells: Sequence[Cell], key: Callable[[Cell], tuple[object, ...]]) -> list[list[Cell]]:
    groups: dict[tuple[object, ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return list(groups.values())


def _pair(cell: Cell) -> Pair:
    return cell.name[:3]


def _is_reference(cell: Cell) -> bool:
    game = cell.attack.component.game
    return bool(game and cell.attack.name == game.reference_attack)


def _overlapping(store: Store, fresh: Callable[[CellResult], bool]) -> dict[tuple[str, str], float]:
    """By data and defense the width of the worst attack's interval, where it overlaps that of another row."""
    found: dict[tuple[str, str], float] = {}
    for section in build(store, None, fresh=fresh).sections:
        for row in section.rows:
            if any(_overlap(row, other) for other in section.rows if other is not row):
                key = section.data, row.defense
                found[key] = max(found.get(key, 0.0), _width(row))
    return found


def _width(row: Row) -> float:
    worst = row.worst_headline
    return worst.high - worst.low if worst else 0.0


def _overlap(one: Row, other: Row) -> bool:
    first, second = one.worst_headline, other.worst_headline
    return bool(first and second and first.low < second.high and second.low < first.high)
