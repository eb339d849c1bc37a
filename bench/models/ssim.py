"""How alike two pictures are: the structural similarity of Wang et al. 2004, for every picture against every other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW, SIGMA = 11, 1.5  # Wang et al. 2004, section III.C
C1, C2 = 0.01**2, 0.03**2  # of pixels in [0, 1]


def ssim(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Mean structural similarity in [-1, 1] of pictures a (n, h, w, colours) with b (m, h, w, colours): (n, m).

    Pixels are in [0, 1]. Local statistics are those under a Gaussian window that lies wholly within the picture, 11
    pixels wide, or about half of a side that is shorter than 22; colours are averaged.
    """
    a, b = (np.moveaxis(np.asarray(x, np.float64), 3, 1) for x in (a, b))  # colours are pictures of their own
    down, across = (_windows(side) for side in a.shape[2:])

    def local(x: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = down @ x @ across.T
        return found

    mean_a, mean_b = local(a), local(b)
    spread_a, spread_b = local(a * a) - mean_a**2, local(b * b) - mean_b**2
    found = np.empty((len(a), len(b)))
    for i, one in enumerate(a):
        means = mean_a[i] * mean_b
        shared = 2 * (local(one * b) - means) + C2
        level = (2 * means + C1) / (mean_a[i] ** 2 + mean_b**2 + C1)
        found[i] = (level * shared / (spread_a[i] + spread_b + C2)).mean((1, 2, 3))
    return found


def own_ssim(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """The same of each picture of a with the one at its place in b: (n,)."""
    return np.array([ssim(one[None], other[None])[0, 0] for one, other in zip(a, b, strict=True)])


def _windows(side: int) -> NDArray[np.float64]:
    """The Gaussian window at every place where it fits, as rows (places, side)."""
    size = min(WINDOW, side // 2 | 1)
    weights = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * SIGMA**2))
    rows = np.zeros((side - size + 1, side))
    for place, row in enumerate(rows):
        row[place : place + size] = weights / weights.sum()
    return rows
