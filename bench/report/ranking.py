"""Where each row of the board stands beside the others: ranks with ties, what it is better than, and by how much."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from bench.games.paired import ranks
from bench.report.comparisons import Comparisons, Difference, Side
from bench.report.leaderboard import UNDEFENDED, Board, Cell, Equals, Figure, Row, Section, name_of
from bench.store.records import CellResult

FLOOR = "public_only"  # what anybody has without a single private record


def compared(board: Board, compare: Comparisons) -> Board:
    """The board with ranks, the cells beside those of an undefended row, and utility at equal claims."""
    sections = tuple(replace(section, rows=_ranked(section.rows, compare)) for section in board.sections)
    return replace(board, sections=sections, equals=tuple(_equals(sections, compare)))


def _ranked(rows: Sequence[Row], compare: Comparisons) -> tuple[Row, ...]:
    """Rows in order, which the worst attack decides."""
    sides = {row.defense: Side(row.worst.results) for row in rows if row.worst}
    by_label = _ranks(list(sides), lambda one, other: compare.leakage(sides[one], sides[other]))
    found = []
    for row in rows:
        bare = _bare(row, rows)
        cells = tuple(replace(cell, less=_less(bare, cell, compare)) for cell in row.cells) if bare else row.cells
        found.append(replace(row, rank=by_label.get(row.defense), cells=cells))
    return tuple(found)


def _ranks(labels: Sequence[str], difference: Callable[[str, str], Difference | None]) -> dict[str, int]:
    def by_luck(first: int, i: int) -> float | None:
        found = difference(labels[first], labels[i])
        return found.p if found else None

    return dict(zip(labels, ranks(len(labels), by_luck), strict=True))


def _bare(row: Row, rows: Sequence[Row]) -> Row | None:
    """The undefended row that can be reached in most of the ways in which this one can."""
    if not row.seeds or name_of(row.defense) in UNDEFENDED:
        return None
    met = _met(row)
    bare = [other for other in rows if name_of(other.defense) in UNDEFENDED and met & _met(other)]
    return max(bare, key=lambda other: (len(met & _met(other)), other.defense), default=None)


def _met(row: Row) -> set[str]:
    return {cell.attack for cell in row.cells if cell.found}


def _less(bare: Row, cell: Cell, compare: Comparisons) -> Figure | None:
    [other] = [one for one in bare.cells if one.attack == cell.attack]
    if not (cell.found and other.found):
        return None
    return _figure(compare.leakage(Side(other.results), Side(cell.results)))


def _figure(found: Difference | None) -> Figure | None:
    return Figure(found.value, found.low, found.high) if found else None


def _equals(sections: Sequence[Section], compare: Comparisons) -> Iterator[Equals]:
    """Of each data set the groups of two or more defenses with one claim."""
    for data in dict.fromkeys(section.data for section in sections):
        every = [row for section in sections if section.data == data for row in section.rows]
        rows = {row.defense: row for row in reversed(every) if isinstance(row.utility, Figure)}
        sides = {label: Side(_one_a_seed(row)) for label, row in rows.items()}
        for epsilon, delta in sorted({(row.epsilon, row.delta) for row in rows.values()}, key=lambda c: float(c[0])):
            same = [row for row in rows.values() if (row.epsilon, row.delta) == (epsilon, delta)]
            same.sort(key=lambda row: (-row.utility.value if isinstance(row.utility, Figure) else 0.0, row.defense))
            if len(same) < 2:
                continue
            labels = [row.defense for row in same]
            place = _ranks(labels, lambda one, other: compare.accuracy(sides[one], sides[other]))  # noqa: B023
            beyond = tuple(
                _figure(compare.accuracy(sides[label], sides[FLOOR])) if FLOOR in sides and label != FLOOR else None
                for label in labels
            )
            ranked = tuple(replace(row, rank=place[row.defense]) for row in same)
            yield Equals(data, epsilon, delta, ranked, FLOOR, beyond)


def _one_a_seed(row: Row) -> list[CellResult]:
    """A cell of each seed; every attack met the same release, so any of them knows its utility."""
    return list({result.seed: result for cell in row.cells for result in cell.results}.values())
