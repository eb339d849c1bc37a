"""The parts of the leaderboard: sections, rows, cells and estimates. `bench.report.aggregate` builds one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from bench.core.text import interval
from bench.report.epsilon_column import NOT_AUDITED, Claim

if TYPE_CHECKING:
    from bench.store.records import CellResult
    from bench.store.score_rows import ScoreRow

Place = tuple[str, str]  # a data set's label and the name of a game


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return interval(self.value, self.low, self.high)


@dataclass(frozen=True)
class Cell:
    """One defense against one attack; `state` is "number" or the word that is shown in place of one.

    results: the seeds that count. estimates: by metric, an Estimate or why there is none. caveats: shown as footnotes.
    reduction: the headline estimate of the undefended row less that of this one, on the same targets
    (`bench.report.ranking`).
    """

    attack: str
    state: str
    results: tuple[CellResult, ...] = ()
    estimates: Mapping[str, Estimate | str] | None = None
    caveats: tuple[str, ...] = ()
    reduction: Estimate | None = None

    @cached_property
    def headline(self) -> Estimate | None:
        """The headline estimate over the seeds (of membership the AUC), None where the cell holds no number."""
        if self.state != "number" or not self.results:
            return None
        found = (self.estimates or {}).get(str(self.results[0].metrics["headline"]))
        return found if isinstance(found, Estimate) else None

    @cached_property
    def above_baseline(self) -> bool:
        """Whether the attack beats both chance and the release-free baseline beyond noise: such a cell is bold."""
        gain = (self.estimates or {}).get("gain")
        chance = max((float(result.metrics["chance"]) for result in self.results), default=0.0)
        return self.headline is not None and self.headline.low > chance and isinstance(gain, Estimate) and gain.low > 0


@dataclass(frozen=True)
class Row:
    """One defense on one data set: its utility, its claim, and one cell per attack.

    epsilon, delta: what it claims, None where nothing was measured; epsilon_selected: the same epsilon, had its options
    been selected privately. rank: shared by rows that no test tells apart (`bench.report.ranking`). claim: what audits
    and probes found of the claim. undefended: it protects nothing, so an attack has to work on it.
    """

    defense: str
    utility: Estimate | str
    epsilon: float | None
    delta: float | None
    sampler: str
    cells: tuple[Cell, ...]
    seeds: int
    epsilon_selected: float | None = None
    rank: int | None = None
    claim: Claim = NOT_AUDITED
    undefended: bool = False

    @cached_property
    def worst(self) -> Cell | None:
        """The cell with the largest headline estimate, None where the row holds no number."""
        measured = [(cell.headline.value, cell) for cell in self.cells if cell.headline is not None]
        return max(measured, key=lambda pair: pair[0])[1] if measured else None

    @cached_property
    def worst_headline(self) -> Estimate | None:
        """The headline estimate of the worst cell."""
        return self.worst.headline if self.worst else None


@dataclass(frozen=True)
class Section:
    """One game on one data set, about one kind of records (private, public or unseen).

    headline: the metric that its cells show; chance: its value by chance. caveats: numbered in the order in which the
    rows show them; column_caveats: why a whole column proves little.
    """

    data: str
    game: str
    headline: str
    chance: float
    attacks: tuple[str, ...]
    rows: tuple[Row, ...]
    baseline: Estimate | None
    caveats: tuple[str, ...]
    column_caveats: tuple[str, ...] = ()

    @cached_property
    def measured(self) -> Section:
        """The section without the rows and the columns in which nothing was measured: `unmeasured` names these."""
        used = {cell.attack for row in self.rows for cell in row.cells if _was_run(cell)}
        attacks = tuple(name for name in self.attacks if name in used)
        rows = (row for row in self.rows if any(map(_was_run, row.cells)))
        kept = (replace(row, cells=tuple(cell for cell in row.cells if cell.attack in used)) for row in rows)
        return replace(self, attacks=attacks, rows=tuple(kept)) if attacks else self

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """The defenses and attacks without a row or column in `measured`, and why."""
        shown = self.measured
        names, columns = {row.defense for row in shown.rows}, set(shown.attacks)
        why: dict[str, list[str]] = {}
        for row in sorted((row for row in self.rows if row.defense not in names), key=lambda row: row.defense):
            states = {cell.state for cell in row.cells if cell.attack in columns}
            state = "not run" if "not run" in states else "n/a: " + ", ".join(sorted({s[5:] for s in states}))
            why.setdefault(state, []).append(row.defense)
        sentences = [f"No row: {', '.join(missing)} ({state})." for state, missing in why.items()]
        missing = [name for name in self.attacks if name not in columns]
        return (*sentences, *([f"No column: {', '.join(missing)} (not run here)."] if missing else []))

    def marks(self, cell: Cell) -> str:
        """The footnote marks of a cell, such as " (1) (3)"."""
        return "".join(f" ({self._numbers[caveat]})" for caveat in cell.caveats)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {caveat: i for i, caveat in enumerate(self.caveats, 1)}


@dataclass(frozen=True)
class EqualClaims:
    """Defenses of one data set that claim the same epsilon and delta, the most useful first, with their ranks.

    gains: by how much each is more accurate than the row `reference`, on the same holdout records.
    """

    data: str
    epsilon: float
    delta: float
    rows: tuple[Row, ...]
    reference: str
    gains: tuple[Estimate | None, ...]


@dataclass(frozen=True)
class Leaderboard:
    """All sections, the `notes` below them, every stored result with whether it is fresh, utility at equal claims.

    score_rows: models that were trained elsewhere, of which only scores are known. claim: what is known of what a row
    claims, by the labels of its data set and its defense.
    """

    sections: tuple[Section, ...]
    notes: tuple[str, ...]
    results: tuple[tuple[CellResult, bool], ...]
    equal_claims: tuple[EqualClaims, ...] = ()
    score_rows: tuple[ScoreRow, ...] = ()
    claim: Callable[[str, str], Claim] = lambda data, defense: NOT_AUDITED


def _was_run(cell: Cell) -> bool:
    return cell.state != "not run" and not cell.state.startswith("n/a")


def component_name(label: str) -> str:
    """The component in a label: "dp_sgd" of "dp_sgd,epsilon=1"."""
    return label.partition(",")[0]
