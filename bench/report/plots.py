"""The plots: utility over claimed epsilon, ROC curves, and contact sheets of reconstructed images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.core.errors import UserError
from bench.report.aggregate import build
from bench.report.drawing import MARKERS, legend, panels, save, strips
from bench.report.leaderboard import Cell, Estimate, Row, Section

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture
    from numpy.typing import NDArray

    from bench.store.records import CellResult
    from bench.store.store import Store

GRID = 200
SHEET = 20  # images in a row of a contact sheet
RARE = 10  # a rate with fewer false positives than this is not measurable


def draw(store: Store, fresh: Callable[[CellResult], bool] | None = None) -> list[Path]:
    """Write plots/privacy_utility.png, roc_<data>.png and contact sheets into the store's folder; returns their paths.

    A contact sheet is drawn where this checkout measured the cell: the images are not among the committed results.
    Raises UserError where no result is stored (or none is fresh).
    """
    board = build(store, None, fresh=fresh)
    sections = [section for section in board.sections if any(row.seeds for row in section.rows)]
    if not sections:
        raise UserError(f"there is nothing to draw in {store.root}: run `bench run` first.")
    several = len({section.game for section in sections}) > 1
    folder = store.root / "plots"
    paths = [save(folder / "privacy_utility.png", _privacy_utility(sections))]
    for section in sections:
        # the store turns labels into file names
        name = store.path(section.data, "-", "-", 0).relative_to(store.root).parts[0]
        suffix = "." + section.game.replace(" ", "_") if several else ""
        if any(_curves(row, attack) for row in section.rows for attack in section.attacks):
            paths.append(save(folder / f"roc_{name}{suffix}.png", _roc(section)))
        sheets = (_sheet(store, cell) for row in section.rows for cell in row.cells)
        paths += [save(folder / sheet[0], sheet[1]) for sheet in sheets if sheet]
    return paths


# Privacy against utility


def _privacy_utility(sections: Sequence[Section]) -> Picture:
    from matplotlib.colors import Normalize

    drawn = [(section, [row for row in section.rows if isinstance(row.utility, Estimate)]) for section in sections]
    drawn = [(section, rows) for section, rows in drawn if rows] or [(sections[0], [])]
    shades = [shade for section, rows in drawn for row in rows if (shade := _above_chance(section, row)) is not None]
    colours = Normalize(0, max([0.2, *shades]))
    kinds = sorted({_kind(row.defense) for _, rows in drawn for row in rows})
    markers = {kind: MARKERS[i % len(MARKERS)] for i, kind in enumerate(kinds)}
    picture, axes = panels(len(drawn), 5.6, 4.6)
    for ax, (section, rows) in zip(axes, drawn, strict=True):
        _scatter(ax, section, rows, markers, colours)
        ax.set_title(section.data if len({s.game for s in sections}) == 1 else f"{section.data}: {section.game}")
    _keys(picture, axes, markers, colours)
    return picture


def _epsilon(row: Row) -> float:
    """The claim of a row that was measured."""
    return math.inf if row.epsilon is None else row.epsilon


def _kind(defense: str) -> str:
    """A label without its epsilon, which the x axis shows."""
    return ",".join(part for part in defense.split(",") if not part.startswith("epsilon="))


def _scatter(ax: Axes, section: Section, rows: Sequence[Row], markers: dict[str, str], colours: Any) -> None:
    """Zero and infinity have no place on a log axis: each stands at an end of it, behind a dotted line."""
    epsilons = [_epsilon(row) for row in rows]
    finite = [math.log10(epsilon) for epsilon in epsilons if 0 < epsilon < math.inf]
    first, last = math.floor(min(finite, default=0.0)), math.ceil(max(finite, default=1.0) + 1e-9)
    at = {0.0: first - 0.5, math.inf: last + 0.5}
    tens = [10.0**power for power in range(first, last + 1)]
    steps = [ten * by for ten in tens for by in (1, 2, 5) if ten * by <= tens[-1]]
    ticks = {math.log10(step): f"{step:g}" for step in steps}
    for epsilon, x in at.items():
        if epsilon in epsilons:
            ticks[x] = "0" if epsilon == 0 else "inf"
            ax.axvline(x + math.copysign(0.25, 1 - epsilon), color="0.6", linestyle=":", linewidth=1)
    groups: dict[float, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.defense):
        epsilon = _epsilon(row)
        groups.setdefault(at[epsilon] if epsilon in at else round(math.log10(epsilon), 2), []).append(row)
    for x, group in groups.items():
        for i, row in enumerate(group):
            # rows with (nearly) the same epsilon stand side by side, else they would hide one another
            _point(ax, x + min(0.065, 0.4 / len(group)) * (i - (len(group) - 1) / 2), section, row, markers, colours)
    ax.set_xticks(list(ticks), list(ticks.values()))
    ax.set_xlim(min(ticks) - 0.3, max(ticks) + 0.3)
    ax.set_ylim(-0.02, 1.02)
    ax.set_xlabel("claimed epsilon (log scale; equal values side by side)")
    ax.set_ylabel("utility: holdout accuracy, 95 % interval")


def _above_chance(section: Section, row: Row) -> float | None:
    """How far the worst attack gets between chance (0) and certainty (1), whatever the game measures."""
    found = row.worst_headline
    return max(0.0, (found.value - section.chance) / (1 - section.chance)) if found else None


def _point(ax: Axes, x: float, section: Section, row: Row, markers: dict[str, str], colours: Any) -> None:
    import seaborn as sns

    if not isinstance(row.utility, Estimate):
        return
    above = _above_chance(section, row)
    shade = "white" if above is None else sns.color_palette("flare", as_cmap=True)(colours(above))
    ax.plot([x, x], [row.utility.low, row.utility.high], color="0.35", linewidth=1.2, zorder=2)
    ax.scatter([x], [row.utility.value], s=42, color=shade, marker=markers[_kind(row.defense)], ec="0.2", zorder=3)


def _keys(picture: Picture, axes: list[Axes], markers: dict[str, str], colours: Any) -> None:
    import seaborn as sns
    from matplotlib.cm import ScalarMappable
    from matplotlib.lines import Line2D

    scale = ScalarMappable(colours, sns.color_palette("flare", as_cmap=True))
    bar = picture.colorbar(scale, ax=axes, pad=0.02)
    bar.set_label("worst attack: 0 is chance, 1 is certainty")
    keys = [
        Line2D([], [], linestyle="", marker=shape, markersize=7, color="0.75", markeredgecolor="0.2", label=kind)
        for kind, shape in markers.items()
    ]
    across = max(1, min(len(keys), 5 * len(axes), int(5.6 * len(axes) * 10 / max(map(len, markers), default=1))))
    picture.legend(handles=keys, loc="outside lower center", ncols=across, frameon=False)


# ROC


def _roc(section: Section) -> Picture:
    """One panel per attack, one line per defense."""
    import seaborn as sns

    attacks = [name for name in section.attacks if any(_curves(row, name) for row in section.rows)] or ["none"]
    defenses = sorted(row.defense for row in section.rows)
    palette = sns.color_palette("colorblind" if len(defenses) <= 10 else "husl", len(defenses))
    shades = dict(zip(defenses, palette, strict=True))
    picture, axes = panels(len(attacks), 5.0, 5.0)
    for ax, attack in zip(axes, attacks, strict=True):
        _roc_panel(ax, section, attack, shades)
    legend(picture, axes, int(5.0 * len(axes) * 10))
    picture.suptitle(f"{section.data}: ROC, mean over seeds")
    return picture


def _curves(row: Row, attack: str) -> list[dict[str, Any]]:
    return [
        dict(result.metrics)
        for cell in row.cells
        if cell.attack == attack
        for result in cell.results
        if "roc" in result.metrics
    ]


def _roc_panel(ax: Axes, section: Section, attack: str, shades: dict[str, Any]) -> None:
    import seaborn as sns

    found = {row.defense: curves for row in section.rows if (curves := _curves(row, attack))}
    others = min((curve["non_members"] for curves in found.values() for curve in curves), default=100)
    members = max((curve["members"] for curves in found.values() for curve in curves), default=100)
    start = 1 / others
    grid = np.geomspace(start, 1, GRID)
    for i, (defense, curves) in enumerate(sorted(found.items())):
        tpr = mean_roc(curves, grid)
        style = ("-", "--", "-.", ":")[i % 4]
        shown = tpr > 0  # a log axis has no place for zero
        look = {"color": shades[defense], "linestyle": style, "drawstyle": "steps-post"}
        sns.lineplot(x=grid[shown], y=tpr[shown], ax=ax, label=defense, legend=False, **look)
    ax.plot([1e-9, 1], [1e-9, 1], color="0.5", linewidth=1, linestyle=(0, (1, 2)), label="chance")
    rare = min(1.0, RARE / others)
    label = f"not measurable (under {RARE} false positives)"
    ax.axvspan(start / 2, rare, color="0.5", alpha=0.15, linewidth=0, label=label)
    ax.set(xscale="log", yscale="log", xlim=(start, 1), ylim=(min(start, 1 / members), 1.1), title=attack)
    ax.set(xlabel="false positive rate", ylabel="true positive rate")


def mean_roc(curves: Sequence[dict[str, Any]], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over seeds of the best true positive rate at no more than each false positive rate of `grid`."""
    rates = []
    for curve in curves:
        fp = np.array([0, *curve["roc"]["fp"], curve["non_members"]])
        tp = np.maximum.accumulate([0, *curve["roc"]["tp"], curve["members"]])
        # some slack, else rounding of the grid would lose a corner
        last = np.searchsorted(fp, grid * curve["non_members"] + 1e-6, side="right") - 1
        rates.append(tp[last] / curve["members"])
    mean: NDArray[np.float64] = np.mean(rates, axis=0)
    return mean


# Contact sheets


def _sheet(store: Store, cell: Cell) -> tuple[str, Picture] | None:
    """One row of images per name (true, reconstructed, release-free baseline), one column per target."""
    for result in cell.results:
        name = (result.data, result.defense, result.attack, result.seed)
        rows = store.load_sheet(name)
        if rows:
            words = store.path(*name).relative_to(store.root).parts[:-1]
            return f"sheet_{'.'.join(words)}.png", strips(f"{', '.join(words)}, seed {result.seed}", rows, SHEET)
    return None
