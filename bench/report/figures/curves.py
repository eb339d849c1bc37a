"""Accuracy as lines over epsilon, or over the size of the public data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.core.component import Choice
from bench.report.drawing import MARKERS, legend, panels
from bench.report.figures.plan import ADULT, CVAEGM, FASHION, LOCATIONS, MERF, MNIST, SGD, UTILITY, VAEGM, Plan, Point
from bench.report.leaderboard import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

SIDE_STEP = 0.04  # between lines, in doublings, so that intervals do not hide one another
SIZES = (100, 300, 1000, 3000, 10000)
NAMES = {"epsilon": "epsilon (log scale)", "public": "public records (log scale)"}


def lines(points: Sequence[Point], *, over: str) -> Picture:
    """One panel per data set, one line per defense, over its option epsilon or the data's option public.

    A defense without that option is a horizontal line.
    """
    shown = [point for point in points if isinstance(point.utility, Estimate)]
    series = list(dict.fromkeys(_series(point.defense) for point in shown))
    names = list(dict.fromkeys(point.data.name for point in points))
    picture, axes = panels(len(names), 4.6, 4.2, down=math.ceil(len(names) / 3))
    places = _places([x for point in shown if (x := _x(point, over)) is not None])
    for ax, name in zip(axes, names, strict=True):
        _panel(ax, [point for point in shown if point.data.name == name], series, over, places)
        ax.set_title(name)
        ax.set(xlabel=NAMES[over], ylabel="holdout accuracy, 95 % interval")
    legend(picture, axes, int(46 * len(axes)))
    return picture


def _series(defense: Choice) -> str:
    """The label without its epsilon, which the x axis shows where there is one."""
    return Choice(defense.component, {k: v for k, v in defense.options.items() if k != "epsilon"}).label


def _x(point: Point, over: str) -> float | None:
    of = point.defense if over == "epsilon" else point.data
    return float(of.settings[over]) if over in of.settings else None  # type: ignore[arg-type]


def _places(values: Sequence[float]) -> dict[float, float]:
    """The position of each value: its logarithm to base 2, infinity one step behind the last."""
    places = {value: math.log2(value) for value in sorted(set(values)) if value < math.inf}
    if math.inf in values:
        places[math.inf] = max(places.values(), default=0.0) + 1
    return places


def _panel(ax: Axes, points: Sequence[Point], series: Sequence[str], over: str, places: dict[float, float]) -> None:
    import seaborn as sns

    palette = sns.color_palette("colorblind", len(series))
    for i, name in enumerate(series):
        line = [point for point in points if _series(point.defense) == name]
        found = sorted((places[x], point.utility) for point in line if (x := _x(point, over)) is not None)
        look: dict[str, Any] = {"color": palette[i], "label": name}
        if found:
            _line(ax, found, (i - (len(series) - 1) / 2) * SIDE_STEP, MARKERS[i % len(MARKERS)], look)
        for point in line if not found else ():
            _level(ax, point.utility, look)
    ax.set_xticks(list(places.values()), [f"{value:g}" for value in places])
    if places.get(math.inf):
        ax.axvline(places[math.inf] - 0.5, color="0.6", linestyle=":", linewidth=1)


def _line(ax: Axes, found: Sequence[tuple[float, Any]], aside: float, marker: str, look: dict[str, Any]) -> None:
    import seaborn as sns

    at = [place + aside for place, _ in found]
    ys = [estimate for _, estimate in found]
    sns.lineplot(x=at, y=[y.value for y in ys], ax=ax, marker=marker, legend=False, **look)
    ax.vlines(at, [y.low for y in ys], [y.high for y in ys], color=look["color"], linewidth=1.2)


def _level(ax: Axes, estimate: Any, look: dict[str, Any]) -> None:
    ax.axhline(estimate.value, linestyle="--", linewidth=1.4, **look)
    ax.axhspan(estimate.low, estimate.high, color=look["color"], alpha=0.12, linewidth=0)


AUGM_EPSILON = Plan(
    "augm_epsilon",
    "What DP-AuGM's accuracy is worth over ε",
    "Accuracy of DP-AuGM's classifier over ε, between that of the same classifier trained on public records alone "
    "(`public_only`) and that of an undefended one (`none`).",
    (
        {
            "data": [MNIST, FASHION, ADULT, LOCATIONS],
            "attack": UTILITY,
            "defense": ["dp_augm", "public_only", "none"],
            "epsilon": "1,2,4,8,inf",
        },
    ),
    partial(lines, over="epsilon"),
)
GENERATORS = Plan(
    "generators",
    "Generators against DP-SGD",
    "Accuracy over ε of classifiers trained on the output of each generator, and of one trained on the private records "
    "with DP-SGD.",
    (
        {
            "data": MNIST,
            "attack": UTILITY,
            "defense": ["dp_augm", VAEGM, CVAEGM, MERF, "pate", SGD],
            "epsilon": "1,2,4,8",
        },
    ),
    partial(lines, over="epsilon"),
    caveats=("`dp_augm` and `pate` also use public records; the others do not.",),
)
PUBLIC_SIZE = Plan(
    "public_size",
    "What public data are worth",
    "Accuracy over the number of public records: any gain over `public_only` and `random_encoder` comes from the "
    "private records.",
    (
        {
            "data": [MNIST.replace("public=1000", f"public={size}") for size in SIZES],
            "attack": UTILITY,
            "defense": ["dp_augm", "random_encoder", "pate", "public_only"],
        },
    ),
    partial(lines, over="public"),
)
VAEGM_EPSILON = Plan(
    "vaegm_epsilon",
    "What DP-VaeGM's accuracy is worth over ε",
    "Accuracy over ε of a classifier trained on synthetic records alone, from one VAE per class (`dp_vaegm`) or one "
    "conditional VAE for all classes (`dp_cvaegm`).",
    (
        {
            "data": MNIST,
            "attack": UTILITY,
            "defense": [VAEGM, CVAEGM],
            "epsilon": "1,2,4,8,inf",
        },
    ),
    partial(lines, over="epsilon"),
)
