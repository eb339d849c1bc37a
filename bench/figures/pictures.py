"""Pictures for the eye: what generators draw, what inversion attacks reconstruct."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.drawing import panels, strip
from bench.figures.curves import GENERATORS
from bench.figures.plan import MNIST, UTILITY, Plan, Point
from bench.store import samples_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture
    from numpy.typing import NDArray

ACROSS = 6  # samples of a class
MOST = 20  # reconstructions in a row
# One that gives single records back, from their codes or gradients, answers with pictures of private records, which do
# not belong into git.
FOR_A_CLASS = [
    "gradient_inversion", "gradient_inversion,of=unseen", "generator_inversion", "mi_face", "black_box_inversion",
    "code_inversion",
]  # fmt: skip


def samples(points: Sequence[Point]) -> Picture:
    """A grid: a row a defense, a column an epsilon; within, a row a class."""
    defenses = list(dict.fromkeys(point.defense.name for point in points))
    epsilons = sorted({float(point.defense.settings["epsilon"]) for point in points})  # type: ignore[arg-type]
    at = {(point.defense.name, point.defense.settings["epsilon"]): point for point in points}
    size = (2.1 * len(epsilons) + 0.6, 3.4 * len(defenses) + 0.4)
    picture, axes = panels(len(defenses) * len(epsilons), 0, 0, down=len(defenses), size=size)
    places = ((defense, epsilon) for defense in defenses for epsilon in epsilons)
    for ax, (defense, epsilon) in zip(axes, places, strict=True):
        point = at.get((defense, epsilon))
        if point is None or point.sheet is None:
            ax.axis("off")
            continue
        classes = [np.concatenate(list(_padded(rows)), axis=1) for rows in point.sheet.values() if len(rows)]
        strip(ax, np.concatenate(classes)[None], defense if epsilon == epsilons[0] else "")
        if defense == defenses[0]:
            ax.set_title(f"epsilon {epsilon:g}", fontsize=9)
    return picture


def _padded(rows: NDArray[Any]) -> NDArray[Any]:
    """So many samples of one class, with an edge; black where there are fewer."""
    rows = rows[:ACROSS]
    return np.pad(rows, ((0, ACROSS - len(rows)), (1, 1), (1, 1), (0, 0)))


def reconstructions(points: Sequence[Point]) -> Picture:
    """Below each attack's blind answer its own, a row a defense: never the true records, which are private."""
    rows: list[tuple[str, NDArray[Any]]] = []
    for attack in dict.fromkeys(point.attack.label for point in points):
        own = [point for point in points if point.attack.label == attack and point.sheet]
        for i, point in enumerate(own):
            sheet = point.sheet or {}
            rows += [(f"{attack}\nblind answer", sheet["blind"])] if i == 0 else []
            rows.append((point.defense.label, sheet["reconstructed"]))
    across = min(MOST, max(len(pictures) for _, pictures in rows))
    picture, axes = panels(len(rows), 0, 0, down=len(rows), size=(0.5 * across + 2.6, 0.62 * len(rows) + 0.3))
    for ax, (name, pictures) in zip(axes, rows, strict=True):
        strip(ax, pictures[:across], "")
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    return picture


SAMPLES = Plan(
    "samples",
    "What the generators draw",
    "The first samples of each class, as they come: a row of pictures a class.",
    (
        {
            "data": MNIST,
            "attack": UTILITY,
            "defense": ["dp_vaegm", "dp_cvaegm", "dp_merf"],
            "epsilon": str(GENERATORS.parts[0]["epsilon"]),
            "seeds": "0",
        },
    ),
    samples,
    sheet=samples_of,
    caveats=("A picture is the mean of the decoder; the classifiers see pictures that were roughened.",),
)
RECONSTRUCTIONS = Plan(
    "reconstructions",
    "What inversion attacks reconstruct",
    "One picture a class, as each attack reconstructs it from what a defense publishes, below the blind answer of an "
    "adversary who never saw it.",
    (
        {
            "data": MNIST,
            "attack": FOR_A_CLASS,
            "defense": ["none", "rounding", "top1", "reverse_sigmoid", "dp_augm,epsilon=inf", "dp_augm", "dp_sgd"],
            "seeds": "0",
        },
    ),
    reconstructions,
    sheet=lambda cell: cell,
    caveats=("The true records are not shown: they are private.",),
)
