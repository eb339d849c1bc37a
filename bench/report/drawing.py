"""What all plots share: panels that no window shows, strips and grids of pictures, files with reproducible bytes."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.core.files import write_if_changed
from bench.core.notices import SEEDED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture
    from numpy.typing import NDArray

MARKERS = "osD^vP*Xp<>h"


def save(path: Path, picture: Picture) -> Path:
    """Write a plot, labelled with the notice on seeded noise, as PNG where it changed; returns the path."""
    from matplotlib.font_manager import FontProperties

    if picture.legends:  # it stands below the panels, where another line would lie across it
        picture.legends[0].set_title(SEEDED, FontProperties(size=6))
    else:
        picture.supxlabel(SEEDED, fontsize=6)
    data = io.BytesIO()
    # without the library's version: the same numbers give the same bytes
    picture.savefig(data, format="png", dpi=130, metadata={"Software": None, "Description": SEEDED})
    write_if_changed(path, data.getvalue())
    return path


def panels(
    count: int,
    width: float,
    height: float,
    *,
    down: int | None = None,
    size: tuple[float, float] | None = None,
    heights: Sequence[float] | None = None,
) -> tuple[Picture, list[Axes]]:
    """A plot with `count` panels, at most three side by side (or in `down` rows), that no window ever shows.

    heights: relative heights of the rows.
    """
    import seaborn as sns
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Picture

    across = min(count, 3) if down is None else math.ceil(count / down)
    down = math.ceil(count / across)
    picture = Picture(figsize=size or (width * across, height * down), layout="constrained")
    FigureCanvasAgg(picture)
    with sns.axes_style("whitegrid"):
        axes = list(picture.subplots(down, across, squeeze=False, height_ratios=heights).flat)
    for spare in axes[count:]:
        spare.remove()
    return picture, axes[:count]


def legend(picture: Picture, axes: Sequence[Axes], characters: int) -> None:
    """One legend below all panels, with every label that any of them has, at most so many characters wide."""
    found = {label: handle for ax in axes[::-1] for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    labels = list(dict.fromkeys(label for ax in axes for label in ax.get_legend_handles_labels()[1]))
    across = max(1, min(len(labels), characters // (6 + max(map(len, labels), default=1))))
    handles = [found[label] for label in labels]
    picture.legend(handles, labels, loc="outside lower center", ncols=across, frameon=False)


def side_by_side(pictures: NDArray[Any]) -> NDArray[Any]:
    """Pictures (n, height, width, colours) as one, each with a black edge."""
    return np.concatenate([np.pad(one, ((1, 1), (1, 1), (0, 0))) for one in pictures], axis=1)


def show(ax: Axes, picture: NDArray[Any]) -> None:
    """Show one picture (height, width, colours) with values from 0 to 255 in a panel."""
    ax.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)


def strips(title: str, rows: Mapping[str, NDArray[Any]], most: int) -> Picture:
    """Rows of at most so many pictures, by name."""
    across = min(most, max(map(len, rows.values())))
    picture, axes = panels(len(rows), 0, 0, down=len(rows), size=(0.8 * across + 1.2, 0.95 * len(rows) + 0.5))
    for ax, (name, pictures) in zip(axes, rows.items(), strict=True):
        show(ax, side_by_side(pictures[:across]))
        ax.set_ylabel(name.replace("_", "\n"))
    picture.suptitle(title, fontsize=9)
    return picture


def grid(rows: Sequence[str], columns: Sequence[str], at: Mapping[tuple[str, str], NDArray[Any]]) -> Picture:
    """Pictures (height, width, colours) by row and column, whose names stand at the edge; other places are empty."""
    height, width = (max(picture.shape[side] for picture in at.values()) / 110 for side in (0, 1))  # inches, legible
    names, titles = (0.085 * max(map(len, words)) for words in (rows, columns))
    size = (names + (max(width, titles) + 0.15) * len(columns), 0.5 + (height + 0.12) * len(rows))
    picture, axes = panels(len(rows) * len(columns), 0, 0, down=len(rows), size=size)
    for ax, (row, column) in zip(axes, itertools.product(rows, columns), strict=True):
        if (row, column) in at:
            show(ax, at[row, column])
        else:
            ax.set(xticks=[], yticks=[], frame_on=False)
        if row == rows[0]:
            ax.set_title(column, fontsize=8)
        if column == columns[0]:
            ax.set_ylabel(row, rotation=0, ha="right", va="center", fontsize=8)
    return picture
