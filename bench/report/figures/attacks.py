"""Each attack with and without each defense: one heat map per game."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.core.component import missing
from bench.report import aggregate, leaderboard, wording
from bench.report.drawing import panels
from bench.report.figures.plan import ADULT, DIGITS, FEW_DIGITS, LOCATIONS, Plan, Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

BASELINE = wording.BASELINE
ROW, COLUMN = 0.3, 0.85  # inches

ANSWERS = ["top1", "rounding", "reverse_sigmoid"]  # defenses that change predictions only
MEMBERSHIP = [
    "none", *ANSWERS, "public_only", "random_encoder", "dp_augm,epsilon=inf", "dp_augm", "dp_vaegm", "dp_cvaegm",
    "dp_merf", "pate", "dp_sgd",
]  # fmt: skip
INVERSION = ["none", *ANSWERS, "random_encoder", "dp_augm,epsilon=inf", "dp_augm", "dp_vaegm", "dp_sgd"]
COLLABORATIVE = [
    "federated", "federated_dp_augm,encoder=random", "federated_dp_augm,encoder_epsilon=inf", "federated_dp_augm",
    "federated_dp_sgd", "federated_client_dp",
]  # fmt: skip


def maps(points: Sequence[Point]) -> Picture:
    """One heat map per game and data set: a row per defense, a column per attack, the release-free baseline on top."""
    from matplotlib.colors import Normalize

    groups: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        question = aggregate.question(point.results[0].game, point.attack.label)
        groups.setdefault((point.data.label, question), []).append(point)
    rows = [1 + len({point.defense.label for point in group}) for group in groups.values()]
    columns = max(len({point.attack.label for point in group}) for group in groups.values())
    inches = [ROW * count + 1.9 for count in rows]  # with a title and the labels of columns
    size = (3.4 + COLUMN * columns, sum(inches) + 0.3)
    picture, axes = panels(len(groups), 0, 0, down=len(groups), size=size, heights=inches)
    shades = Normalize(0, max([0.2, *(above for point in points if (above := _above(point)) is not None)]))
    for ax, ((data, question), group) in zip(axes, groups.items(), strict=True):
        _map(ax, group, shades, columns)
        metrics = group[0].results[0].metrics
        metric, chance = wording.title(str(metrics["headline"])), float(metrics["chance"])
        ax.set_title(f"{question}, {data}\n{metric}, by chance {chance:.3g}", fontsize=9, loc="left")
    return picture


def _above(point: Point) -> float | None:
    """How far the attack gets between chance (0) and certainty (1), whatever the game measures."""
    chance = float(point.results[0].metrics["chance"])
    found = point.cell.headline
    return max(0.0, (found.value - chance) / (1 - chance)) if found else None


def _map(ax: Axes, points: Sequence[Point], shades: Any, columns: int) -> None:
    import seaborn as sns

    defenses = {point.defense.label: point.defense for point in points}
    attacks = {point.attack.label: point.attack for point in points}
    at = {(point.defense.label, point.attack.label): point for point in points}
    shown = np.full((1 + len(defenses), columns), np.nan)  # as wide as the widest, so that all cells are of one size
    words = np.full(shown.shape, "", object)
    for j, attack in enumerate(attacks):
        words[0, j] = _baseline([point for point in points if point.attack.label == attack])
        for i, (defense, choice) in enumerate(defenses.items(), 1):
            point = at.get((defense, attack))
            if point is None:
                away = missing(attacks[attack].component, choice.component, points[0].data.component)
                words[i, j] = "n/a" if away else "-"
                continue
            above = _above(point)
            shown[i, j] = np.nan if above is None else above
            found = point.cell.headline
            words[i, j] = f"{found.value:.2f}{'*' if point.cell.above_baseline else ''}" if found else "-"
    # not sns.heatmap, which lays out the whole picture once a map
    palette = sns.color_palette("flare", as_cmap=True)
    ax.pcolormesh(shown, cmap=palette, norm=shades, edgecolors="white", linewidth=0.5)
    ax.invert_yaxis()
    for (i, j), word in np.ndenumerate(words):
        dark = shown[i, j] > (shades.vmin + shades.vmax) / 2
        ax.text(j + 0.5, i + 0.5, word, ha="center", va="center", fontsize=8, color="white" if dark else "0.15")
    ax.set_xticks(np.arange(len(attacks)) + 0.5, list(attacks), rotation=20, ha="right", fontsize=8)
    ax.set_yticks(np.arange(len(shown)) + 0.5, [BASELINE, *defenses], rotation=0, fontsize=8)
    ax.plot([0, len(attacks)], [1, 1], color="0.4", linewidth=1)
    ax.spines[:].set_visible(False)
    ax.grid(visible=False)


def _baseline(points: Sequence[Point]) -> str:
    """The release-free baseline of a column, the mean over its cells."""
    found = [(point.cell.estimates or {}).get("baseline") for point in points]
    values = [one.value for one in found if isinstance(one, leaderboard.Estimate)]
    return f"{sum(values) / len(values):.2f}" if values else "-"


ATTACKS = Plan(
    "attacks",
    "Every attack against every defense",
    "What each attack reaches with and without each defense, beside the release-free baseline and chance.",
    (
        {"data": FEW_DIGITS, "attack": "membership", "defense": MEMBERSHIP},
        {
            "data": LOCATIONS,
            "attack": ["confidence", "entropy", "modified_entropy", "art_membership"],
            "defense": ["none", *ANSWERS, "public_only", "dp_augm", "dp_vaegm", "pate", "dp_sgd"],
        },
        {"data": DIGITS, "attack": "inversion", "defense": INVERSION},
        {
            "data": DIGITS,
            "attack": ["gradient_inversion,of=unseen", "generator_inversion,of=unseen"],
            "defense": INVERSION,
        },
        {
            "data": DIGITS,
            "attack": ["gan_leakage", "gradient_leakage,of=unseen"],
            "defense": COLLABORATIVE,
            "seeds": "0",
        },
        {
            "data": ADULT,
            "attack": "attribute",
            "defense": ["none", *ANSWERS, "public_only", "dp_augm", "pate", "dp_sgd"],
        },
    ),
    maps,
    caveats=(
        "\\*: beats both chance and the release-free baseline beyond noise. n/a: the attack needs an access that the "
        "defense does not publish. -: left out, as listed below. Colour: from chance (0) to certainty (1).",
    ),
)
