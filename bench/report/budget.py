"""What to measure first where time is short."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from bench.report.aggregate import build
from bench.report.cost_estimate import Group, Past
from bench.report.leaderboard import UNDEFENDED, Row

if TYPE_CHECKING:
    from bench.runner.cell import Cell
    from bench.store.records import CellResult
    from bench.store.store import Store

Pair = tuple[str, str, str]


class Budget:
    """Turns at measuring for so many seconds from now on: those that narrow the board most for the time.

    First comes one seed of every defense against every attack that has no number yet: the baseline attack of each game
    before the others, undefended rows before the others, cheap before dear. Then come further seeds of the rows that
    the board cannot yet tell from another row, the widest interval first, and at last those of the others. What by
    estimate would not end in time is passed over; what no past cell tells the cost of may begin while there is time.
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
        self._caveat: dict[tuple[str, str], float] | None = None  # of the board as it is, until a cell is measured

    def turns(self, cells: Sequence[Cell]) -> Iterator[list[Cell]]:
        """Cells of one training at a time, each at most once; what one turn measured decides the next."""
        past = Past(self._store)
        stored = self._store.results()
        numbered = {(result.data, result.defense, result.attack) for result in stored if self._fresh(result)}
        left = list(cells)
        while left:
            ahead = itertools.chain(_first(left, numbered, past), self._further(left, past))
            turn = next((turn for group in ahead if (turn := self._in_time(group))), None)
            if turn is None:
                return
            yield turn
            left = [cell for cell in left if cell not in turn]
            numbered |= {_pair(cell) for cell in turn}
            for cell in turn:
                if result := self._store.load(*cell.name):
                    past.add(result)
                    if self._fresh(result):
                        self._caveat = None

    def allows(self, cell: Cell) -> bool:
        """Whether a cell of the last turn will still end in time; its training is paid for."""
        return self._costs[cell.name] <= self._end - self._clock()

    def _in_time(self, group: Group) -> list[Cell]:
        """Those cells of a group that will end in time, with their training."""
        time_left = self._end - self._clock() - (group.training.seconds or 0.0)
        turn = []
        for cell, cost in zip(group.cells, group.costs, strict=True):
            self._costs[cell.name] = cost.seconds or 0.0
            time_left -= self._costs[cell.name]
            if time_left > 0:
                turn.append(cell)
        return turn

    def _further(self, left: Sequence[Cell], past: Past) -> Iterator[Group]:
        """Groups of all that is left, those of undecided rows first."""
        if self._caveat is None:
            self._caveat = _caveat(self._store, self._fresh)
        caveat = self._caveat
        groups = [_cheap_first(cells, past) for cells in _by(left, lambda cell: (*_pair(cell)[:2], cell.seed))]
        yield from sorted(
            groups, key=lambda group: (-caveat.get(_pair(group.cells[0])[:2], 0.0), bool(group.unknown), group.seconds)
        )


def foreseen(seconds: float, cells: Sequence[Cell], store: Store, fresh: Callable[[CellResult], bool]) -> list[Cell]:
    """What a run would take in that time, were every estimate right; what it finds on the way may change the order."""
    past, dp_event = Past(store), [0.0]
    found: list[Cell] = []
    for turn in Budget(seconds, store, fresh, lambda: sum(dp_event)).turns(cells):
        found += turn
        dp_event.append(past.group(turn).seconds)
    return found


def _first(left: Sequence[Cell], numbered: set[Pair], past: Past) -> list[Group]:
    """Groups of one seed of each pair without a number."""
    firsts = list({_pair(cell): cell for cell in reversed(left) if _pair(cell) not in numbered}.values())[::-1]
    groups = _by(firsts, lambda cell: (*_pair(cell)[:2], cell.seed, _is_baseline(cell)))
    return sorted(
        (_cheap_first(cells, past) for cells in groups),
        key=lambda group: (
            not _is_baseline(group.cells[0]),
            group.cells[0].defense.name not in UNDEFENDED,
            bool(group.unknown),
            group.seconds,
        ),
    )


def _cheap_first(cells: Sequence[Cell], past: Past) -> Group:
    group = past.group(cells)
    cost = {cell.name: cost.seconds for cell, cost in zip(cells, group.costs, strict=True)}
    # Once more in the new order, for the first of those that share shadow models pays for them.
    return past.group(sorted(cells, key=lambda cell: (cost[cell.name] is None, cost[cell.name] or 0.0)))


def _by(cells: Sequence[Cell], key: Callable[[Cell], tuple[object, ...]]) -> list[list[Cell]]:
    groups: dict[tuple[object, ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return list(groups.values())


def _pair(cell: Cell) -> Pair:
    return cell.name[:3]


def _is_baseline(cell: Cell) -> bool:
    game = cell.attack.component.game
    return bool(game and cell.attack.name == game.reference_attack)


def _caveat(store: Store, fresh: Callable[[CellResult], bool]) -> dict[tuple[str, str], float]:
    """By data and defense the width of the interval of the worst attack, where it overlaps that of another row."""
    found: dict[tuple[str, str], float] = {}
    for section in build(store, None, fresh=fresh).sections:
        for row in section.rows:
            if any(_overlap(row, other) for other in section.rows if other is not row):
                key = section.data, row.defense
                found[key] = max(found.get(key, 0.0), _width(row))
    return found


def _width(row: Row) -> float:
    worst = row.worst.found if row.worst else None
    return worst.high - worst.low if worst else 0.0


def _overlap(one: Row, other: Row) -> bool:
    mine, theirs = (row.worst.found if row.worst else None for row in (one, other))
    return bool(mine and theirs and mine.low < theirs.high and theirs.low < mine.high)
