"""Pictures for the eye: what generators draw, what inversion attacks reconstruct."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.report.drawing import grid, side_by_side
from bench.report.figures.attacks import BLIND
from bench.report.figures.curves import GENERATORS
from bench.report.figures.plan import CVAEGM, MERF, MNIST, SGD, UTILITY, VAEGM, Plan, Point
from bench.store.store import samples_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture
    from numpy.typing import NDArray

ACROSS = 6  # samples of a class
EACH = 10  # reconstructions of an attack
# One that gives single records back, from their codes or gradients, answers with pictures of private records, which do
# not belong into git.
FOR_A_CLASS = [
    "gradient_inversion", "gradient_inversion,of=unseen", "generator_inversion", "mi_face", "black_box_inversion",
    "code_inversion",
]  # fmt: skip


def samples(points: Sequence[Point]) -> Picture:
    """A row a defense, a column an epsilon; within, a row a class."""
    at = {(point.defense.name, _epsilon(point)): _classes(point.sheet or {}) for point in points}
    columns = sorted({float(epsilon) for _, epsilon in at})
    named = {(defense, f"epsilon {epsilon}"): picture for (defense, epsilon), picture in at.items()}
    return grid(list(dict.fromkeys(row for row, _ in at)), [f"epsilon {epsilon:g}" for epsilon in columns], named)


def _epsilon(point: Point) -> str:
    return f"{point.defense.settings['epsilon']:g}"


def _classes(rows: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """So many samples of each class, black where a class has fewer."""
    few = (pictures[:ACROSS] for pictures in rows.values() if len(pictures))
    padded = (np.pad(one, ((0, ACROSS - len(one)), (0, 0), (0, 0), (0, 0))) for one in few)
    return np.concatenate([side_by_side(one) for one in padded])


def reconstructions(points: Sequence[Point]) -> Picture:
    """A row a defense, a column an attack, the blind answers above: never the true records, which are private."""
    at: dict[tuple[str, str], NDArray[Any]] = {}
    for point in points:
        sheet, attack = point.sheet or {}, point.attack.label
        at[BLIND, attack] = side_by_side(sheet["baseline"][:EACH])
        at[point.defense.label, attack] = side_by_side(sheet["reconstructed"][:EACH])
    rows, columns = (list(dict.fromkeys(place[side] for place in at)) for side in (0, 1))
    return grid(rows, columns, at)


SAMPLES = Plan(
    "samples",
    "What the generators draw",
    "The first samples of each class, as they come: a row of pictures a class.",
    (
        {
            "data": MNIST,
            "attack": UTILITY,
            "defense": [VAEGM, CVAEGM, MERF],
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
            "defense": ["none", "rounding", "top1", "reverse_sigmoid", "dp_augm,epsilon=inf", "dp_augm", SGD],
            "seeds": "0",
        },
    ),
    reconstructions,
    sheet=lambda cell: cell,
    caveats=("The true records are not shown: they are private.",),
)
