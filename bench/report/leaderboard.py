"""The leaderboard as it is shown: sections, rows, cells and figures. `bench.report.aggregate` builds one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from bench.report.epsilon_column import NOTHING, Claim

if TYPE_CHECKING:
    from bench.store.records import CellResult
    from bench.store.score_rows import ScoreRow

UNDEFENDED = ("none", "federated")  # the rows that have to show an attack at work
TITLES = {"auc": "AUC", "tpr_at_fpr_0.01": "TPR at 1 % FPR", "tpr_at_fpr_0.001": "TPR at 0.1 % FPR"}


@dataclass(frozen=True)
class Figure:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Cell:
    """One defense against one attack; `state` is "number" or the word that stands in its place.

    `results`: the seeds that count, `figures`: by metric, a Figure or why there is none, `caveats`: to be marked,
    `less`: how much less it reaches here than where nothing defends, on the same targets (`bench.report.ranking`).
    """

    attack: str
    state: str
    results: tuple[CellResult, ...] = ()
    figures: Mapping[str, Figure | str] | None = None
    caveats: tuple[str, ...] = ()
    less: Figure | None = None

    @cached_property
    def found(self) -> Figure | None:
        """The headline figure over the seeds (of membership the AUC), None where the cell holds no number."""
        found = (self.figures or {}).get(str(self.results[0].metrics["headline"])) if self.results else None
        return found if self.state == "number" and isinstance(found, Figure) else None

    @cached_property
    def above_baseline(self) -> bool:
        """Whether the attack beats both chance and the blind answer beyond noise: this is what bold says."""
        gain = (self.figures or {}).get("gain")
        chance = max((float(result.metrics["chance"]) for result in self.results), default=0.0)
        return self.found is not None and self.found.low > chance and isinstance(gain, Figure) and gain.low > 0


@dataclass(frozen=True)
class Row:
    """One defense on one data set: what it costs (`utility`), what it claims, and a cell an attack.

    selected: epsilon, had its options been chosen privately; rank: its place, shared by rows that nobody can tell apart
    (`bench.report.ranking`); claim: what audits found of what it claims.
    """

    defense: str
    utility: Figure | str
    epsilon: str
    delta: str
    sampler: str
    cells: tuple[Cell, ...]
    seeds: int
    selected: str = "-"
    rank: int | None = None
    claim: Claim = NOTHING

    @cached_property
    def worst(self) -> Cell | None:
        """The cell with the largest headline figure, None where the row holds no number."""
        measured = [(cell.found.value, cell) for cell in self.cells if cell.found is not None]
        return max(measured, key=lambda pair: pair[0])[1] if measured else None


@dataclass(frozen=True)
class Section:
    """One game on one data set, and whose records it asks about.

    `headline` is the metric that its cells show, `chance` what that is by chance; `caveats` are numbered in the order
    the rows show them; `column_caveats` say of a whole column why it proves little.
    """

    data: str
    game: str
    headline: str
    chance: float
    attacks: tuple[str, ...]
    rows: tuple[Row, ...]
    baseline: Figure | None
    caveats: tuple[str, ...]
    column_caveats: tuple[str, ...] = ()

    @cached_property
    def tried(self) -> Section:
        """Without the rows and the columns in which nobody has measured anything, which `apart` names."""
        used = {cell.attack for row in self.rows for cell in row.cells if _tried(cell)}
        attacks = tuple(name for name in self.attacks if name in used)
        rows = (row for row in self.rows if any(map(_tried, row.cells)))
        kept = (replace(row, cells=tuple(cell for cell in row.cells if cell.attack in attacks)) for row in rows)
        return replace(self, attacks=attacks, rows=tuple(kept)) if attacks else self

    @property
    def apart(self) -> tuple[str, ...]:
        """Who has no row or column in `tried`, and why."""
        shown = self.tried
        missing = {row.defense: row for row in self.rows if row.defense not in {one.defense for one in shown.rows}}
        why: dict[str, list[str]] = {}
        for name, row in sorted(missing.items()):
            states = {cell.state for cell in row.cells if cell.attack in shown.attacks}
            state = "not run" if "not run" in states else "n/a: " + ", ".join(sorted({s[5:] for s in states}))
            why.setdefault(state, []).append(name)
        found = [f"No row: {', '.join(names)} ({state})." for state, names in why.items()]
        columns = [name for name in self.attacks if name not in shown.attacks]
        return (*found, *([f"No column: {', '.join(columns)} (not run here)."] if columns else []))

    def marks(self, cell: Cell) -> str:
        """The footnote marks of a cell, as " (1) (3)"."""
        return "".join(f" ({self._numbers[caveat]})" for caveat in cell.caveats)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {caveat: i for i, caveat in enumerate(self.caveats, 1)}


@dataclass(frozen=True)
class Equals:
    """Defenses of one data set that claim the same epsilon and delta, the most useful first, with their ranks.

    beyond: how much more accurate each is than the row `floor`, on the same holdout records.
    """

    data: str
    epsilon: str
    delta: str
    rows: tuple[Row, ...]
    floor: str
    beyond: tuple[Figure | None, ...]


@dataclass(frozen=True)
class Board:
    """All sections, the `notes` below them, every stored result with whether it is fresh, utility at equal claims.

    handed_in: rows of models that were trained elsewhere, of which only scores are known. claim: what is known of what
    a row claims, by data set and defense.
    """

    sections: tuple[Section, ...]
    notes: tuple[str, ...]
    results: tuple[tuple[CellResult, bool], ...]
    equals: tuple[Equals, ...] = ()
    handed_in: tuple[ScoreRow, ...] = ()
    claim: Callable[[str, str], Claim] = lambda data, defense: NOTHING


def _tried(cell: Cell) -> bool:
    return cell.state != "not run" and not cell.state.startswith("n/a")


def name_of(label: str) -> str:
    """The component in a label: "dp_sgd" of "dp_sgd,epsilon=1"."""
    return label.split(",")[0]
