"""Compares the rows of the leaderboard: ranks with ties, reductions against an undefended row, equal claims."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from bench.games.paired import ranks
from bench.report.comparisons import Comparisons, Side
from bench.report.leaderboard import Cell, EqualClaims, Estimate, Leaderboard, Row, Section
from bench.store.differences import PairedDifference
from bench.store.records import CellResult

REFERENCE = "public_only"  # what anybody has without a single private record
SAME_CLAIM = 0.01  # relative: noise multipliers are found to about as much, and two claims of 8 are rarely one number


def compared(board: Leaderboard, compare: Comparisons) -> Leaderboard:
    """The leaderboard with ranks, the reductions against an undefended row, and utility at equal claims."""
    sections = tuple(replace(section, rows=_ranked(section.rows, compare)) for section in board.sections)
    return replace(board, sections=sections, equal_claims=tuple(_equal_claims(sections, compare)))


def _ranked(rows: Sequence[Row], compare: Comparisons) -> tuple[Row, ...]:
    """Rows in the order of their worst attacks, with ranks by these and each cell's reduction."""
    sides = {row.defense: Side(row.worst.results) for row in rows if row.worst}
    rank = _ranks(list(sides), lambda one, other: compare.leakage(sides[one], sides[other]))
    undefended = [(row, _attacks(row)) for row in rows if row.undefended]
    found = []
    for row in rows:
        reference = _reference(row, undefended)
        cells = row.cells
        if reference:
            cells = tuple(replace(cell, reduction=_reduction(reference, cell, compare)) for cell in cells)
        found.append(replace(row, rank=rank.get(row.defense), cells=cells))
    return tuple(found)


def _ranks(labels: Sequence[str], difference: Callable[[str, str], PairedDifference | None]) -> dict[str, int]:
    def p_value(first: int, i: int) -> float | None:
        found = difference(labels[first], labels[i])
        return found.p if found else None

    return dict(zip(labels, ranks(len(labels), p_value), strict=True))


def _reference(row: Row, undefended: Sequence[tuple[Row, set[str]]]) -> dict[str, Cell]:
    """The cells, by attack, of the undefended row that shares the most attacks with this one; empty where none does."""
    if not row.seeds or row.undefended:
        return {}
    attacks = _attacks(row)
    shared = [(len(attacks & others), other) for other, others in undefended if attacks & others]
    if not shared:
        return {}
    _, best = max(shared, key=lambda pair: (pair[0], pair[1].defense))
    return {cell.attack: cell for cell in best.cells}


def _attacks(row: Row) -> set[str]:
    return {cell.attack for cell in row.cells if cell.headline}


def _reduction(reference: dict[str, Cell], cell: Cell, compare: Comparisons) -> Estimate | None:
    other = reference.get(cell.attack)
    if not (cell.headline and other and other.headline):
        return None
    return _estimate(compare.leakage(Side(other.results), Side(cell.results)))


def _estimate(found: PairedDifference | None) -> Estimate | None:
    return Estimate(found.value, found.low, found.high) if found else None


def _equal_claims(sections: Sequence[Section], compare: Comparisons) -> Iterator[EqualClaims]:
    """Of each data set the groups of two or more defenses with one claim."""
    by_data: dict[str, dict[str, Row]] = {}
    for section in sections:
        rows = by_data.setdefault(section.data, {})
        for row in section.rows:
            if isinstance(row.utility, Estimate):
                rows.setdefault(row.defense, row)
    for data, rows in by_data.items():
        sides = {label: Side(_one_per_seed(row)) for label, row in rows.items()}
        yield from (
            _one_claim(data, claim, group, sides, compare)
            for claim, group in _by_claim(rows.values())
            if len(group) > 1
        )


def _by_claim(rows: Iterable[Row]) -> list[tuple[tuple[float, float], list[Row]]]:
    """Rows by claim, smallest first; a group's claim is its largest, from which the others differ by 1 % at most."""
    groups: list[tuple[tuple[float, float], list[Row]]] = []
    claims = [(row.epsilon, row.delta, row) for row in rows if row.epsilon is not None and row.delta is not None]
    for epsilon, delta, row in sorted(claims, key=lambda claim: claim[:2], reverse=True):
        same = [group for one, group in groups if _alike(one[0], epsilon) and _alike(one[1], delta)]
        if same:
            same[0].append(row)
        else:
            groups.append(((epsilon, delta), [row]))
    return groups[::-1]


def _alike(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=SAME_CLAIM)


def _one_claim(
    data: str, claim: tuple[float, float], rows: Sequence[Row], sides: dict[str, Side], compare: Comparisons
) -> EqualClaims:
    ordered = sorted(rows, key=lambda row: (-_utility(row), row.defense))
    labels = [row.defense for row in ordered]
    rank = _ranks(labels, lambda one, other: compare.accuracy(sides[one], sides[other]))
    gains = tuple(
        _estimate(compare.accuracy(sides[label], sides[REFERENCE]))
        if REFERENCE in sides and label != REFERENCE
        else None
        for label in labels
    )
    ranked = tuple(replace(row, rank=rank[row.defense]) for row in ordered)
    return EqualClaims(data, *claim, ranked, REFERENCE, gains)


def _utility(row: Row) -> float:
    return row.utility.value if isinstance(row.utility, Estimate) else 0.0


def _one_per_seed(row: Row) -> list[CellResult]:
    """One result per seed; every attack had the same release, so any of them knows its utility."""
    return list({result.seed: result for cell in row.cells for result in cell.results}.values())
