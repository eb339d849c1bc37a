"""Figures of images: samples of generators, reconstructions of inversion attacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.report.drawing import grid, side_by_side
from bench.report.figures.attacks import BASELINE
from bench.report.figures.curves import GENERATORS
from bench.report.figures.plan import CVAEGM, MERF, MNIST, SGD, UTILITY, VAEGM, Plan, Point
from bench.store.store import samples_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture
    from numpy.typing import NDArray

ACROSS = 6  # samples of a class
EACH = 10  # reconstructions of an attack
# An attack that reconstructs single records, from their embeddings or gradients, answers with images of private
# records, which do not belong into git.
FOR_A_CLASS = [
    "gradient_inversion", "gradient_inversion,of=unseen", "generator_inversion", "mi_face", "black_box_inversion",
    "code_inversion",
]  # fmt: skip


def samples(points: Sequence[Point]) -> Picture:
    """One row per defense, one column per epsilon; within, one row per class."""
    at = {(point.defense.name, _epsilon(point)): _classes(point.sheet or {}) for point in points}
    columns = sorted({float(epsilon) for _, epsilon in at})
    named = {(defense, f"epsilon {epsilon}"): picture for (defense, epsilon), picture in at.items()}
    return grid(list(dict.fromkeys(row for row, _ in at)), [f"epsilon {epsilon:g}" for epsilon in columns], named)


def _epsilon(point: Point) -> str:
    return f"{point.defense.settings['epsilon']:g}"


def _classes(rows: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """The first samples of each class, black where a class has fewer."""
    few = (pictures[:ACROSS] for pictures in rows.values() if len(pictures))
    padded = (np.pad(one, ((0, ACROSS - len(one)), (0, 0), (0, 0), (0, 0))) for one in few)
    return np.concatenate([side_by_side(one) for one in padded])


def reconstructions(points: Sequence[Point]) -> Picture:
    """One row per defense, one column per attack, the release-free baseline on top; never the private records."""
    at: dict[tuple[str, str], NDArray[Any]] = {}
    for point in points:
        sheet, attack = point.sheet or {}, point.attack.label
        at[BASELINE, attack] = side_by_side(sheet["baseline"][:EACH])
        at[point.defense.label, attack] = side_by_side(sheet["reconstructed"][:EACH])
    rows, columns = (list(dict.fromkeys(place[side] for place in at)) for side in (0, 1))
    return grid(rows, columns, at)


SAMPLES = Plan(
    "samples",
    "What the generators draw",
    "The first samples of each class, not selected: one row of images per class.",
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
    caveats=("An image is the mean of the decoder; the classifiers are trained on augmented images.",),
)
RECONSTRUCTIONS = Plan(
    "reconstructions",
    "What inversion attacks reconstruct",
    "One image per class, as each attack reconstructs it from what a defense publishes, below the release-free "
    "baseline.",
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
