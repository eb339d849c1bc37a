"""What a figure is: the cells that it needs, as a configuration of `bench run`, and a function that draws them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.report import aggregate, leaderboard

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture
    from numpy.typing import NDArray

    from bench.core.component import Choice
    from bench.runner import cell as cells
    from bench.store.records import CellResult
    from bench.store.store import Key, Store

Words = Mapping[str, str | list[str]]  # one part of a configuration (`bench.runner.config_file`)

# The sizes of all figures: cells with the same label are shared with a leaderboard, and with another figure.
MNIST = "mnist,private=3000,holdout=3000,public=1000"
FASHION = "fashion_mnist,private=3000,holdout=3000,public=1000"
ADULT = "adult,private=10000,holdout=10000,public=2000"
LOCATIONS = "location30"
FEW_DIGITS = "digits,private=300,holdout=1340,public=157"  # so few that the undefended model over-fits
DIGITS = "digits"
# On images most of the time goes into the classifiers of synthetic records, which every shadow model trains again. With
# a fourth of the steps and of the records they are about 1.5 points less accurate. DP-SGD has batches of a third.
SHORT = "classifier_samples=30000,classifier_steps=2000"
VAEGM, CVAEGM, MERF, SGD = (f"dp_vaegm,{SHORT}", f"dp_cvaegm,{SHORT}", f"dp_merf,{SHORT}", "dp_sgd,batch_size=1000")
UTILITY = "confidence"  # the attack of cells of which only the utility is drawn, as it costs least


@dataclass(frozen=True)
class Point:
    """One defense, attack and data set over all requested seeds.

    sheet: its images by name, uint8 (n, height, width, channels), where the figure shows some.
    """

    data: Choice
    defense: Choice
    attack: Choice
    cell: leaderboard.Cell
    sheet: Mapping[str, NDArray[Any]] | None = None

    @property
    def results(self) -> tuple[CellResult, ...]:
        """One per seed."""
        return self.cell.results

    @property
    def utility(self) -> leaderboard.Estimate | str:
        """Accuracy on holdout records, the mean over seeds, or why there is none."""
        return aggregate.utility(self.results)


@dataclass(frozen=True, eq=False)
class Plan:
    """A figure: `parts` are grids of cells, as in a configuration; `draw` makes one plot of the complete points.

    summary: what it shows. sheet: which images belong to a cell, where the figure shows some. caveats: Markdown, what a
    reader must know besides.
    """

    name: str
    title: str
    summary: str
    parts: tuple[Words, ...]
    draw: Callable[[Sequence[Point]], Picture]
    sheet: Callable[[Key], Key] | None = None
    caveats: tuple[str, ...] = ()


def points(
    plan: Plan, requested: Sequence[cells.Cell], store: Store, fresh: Callable[[CellResult], bool]
) -> tuple[list[Point], list[tuple[cells.Cell, str]]]:
    """The points of which every seed is stored and fresh; of each other point one cell, and why it is left out."""
    groups: dict[tuple[str, str, str], list[cells.Cell]] = {}
    for cell in requested:
        groups.setdefault(cell.name[:3], []).append(cell)
    found: list[Point] = []
    left: list[tuple[cells.Cell, str]] = []
    for group in groups.values():
        results = [store.load(*cell.name) for cell in group]
        usable = [result for result in results if result is not None and fresh(result)]
        if len(usable) < len(group):
            left.append((group[0], _why([result is not None for result in results], len(usable))))
            continue
        first = group[0]
        sheet = store.load_sheet(plan.sheet(first.name)) if plan.sheet else None
        if plan.sheet and not sheet:
            left.append((first, "measured, but not in this checkout, which has no pictures of it"))
            continue
        judged = aggregate.cell(first.attack.label, [(result, True) for result in usable])
        found.append(Point(first.data, first.defense, first.attack, judged, sheet))
    return found, left


def _why(stored: Sequence[bool], usable: int) -> str:
    if not any(stored):
        return "not measured"
    missing, stale = stored.count(False), sum(stored) - usable
    counts = [f"{count} {what}" for count, what in ((missing, "not measured"), (stale, "stale")) if count]
    return f"of {len(stored)} seeds {' and '.join(counts)}"
