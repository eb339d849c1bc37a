"""What is known of any picture before one is seen: smooth bases, and changes that leave a picture's class as it is.

Nothing here depends on records, so it costs no privacy. TensorFlow is imported inside the functions.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples

SIDE = 28  # a picture of this side is moved by SHIFT pixels, a smaller one by less


def is_picture(shape: tuple[int, ...]) -> bool:
    """Whether records have height, width and colours, and are large enough for a basis of waves to be of use."""
    return len(shape) == 3 and min(shape[:2]) >= 8


def eight_bits(x: NDArray[Any]) -> NDArray[np.uint8]:
    """Pictures in [0, 1] as they are kept to be looked at; what lies outside is cut off."""
    return np.asarray(np.round(np.clip(x, 0, 1) * 255), np.uint8)


@functools.lru_cache(maxsize=32)
def cosines(shape: tuple[int, ...], frequencies: int, decay: float = 0.0) -> NDArray[Any]:
    """Smooth pictures (frequencies^2 * colours, h * w * colours): products of cosines, each colour alone.

    Values are those of one and the same function whatever the resolution (cosines of the type-2 transform, 1 for the
    constant, else of mean square 1), divided by 1 + decay * (i + j) for wave numbers i and j.
    """
    height, width, colours = shape
    rows, columns = (_cosines(side, frequencies) for side in (height, width))
    made = np.einsum("ih,jw->ijhw", rows, columns)
    made /= 1 + decay * np.add.outer(np.arange(frequencies), np.arange(frequencies))[..., None, None]
    made = np.einsum("ijhw,ab->ijahwb", made, np.eye(colours))
    return np.asarray(made.reshape(frequencies**2 * colours, height * width * colours), np.float32)


def _cosines(side: int, frequencies: int) -> NDArray[Any]:
    places = (np.arange(side) + 0.5) / side
    found: NDArray[Any] = np.cos(np.pi * np.arange(frequencies)[:, None] * places)
    found[1:] *= math.sqrt(2)
    return found


def roughened(
    records: Examples, rng: np.random.Generator, *, shift: int, noise: float, binary: Sequence[int] = ()
) -> Examples:
    """Synthetic pictures as a classifier should still know them; of other records only the `binary` features change.

    A decoder gives means, which lack the roughness of what they stand for: pixels become 0 or 1 with their own chance,
    as a Bernoulli decoder says, pictures are moved by up to `shift` pixels of 28 either way, and every pixel gets
    Gaussian noise.
    """
    if not is_picture(records.shape):
        x = records.x.copy()
        chances = x[:, list(binary)]
        x[:, list(binary)] = rng.random(chances.shape, np.float32) < chances
        return Examples(x, records.y, records.classes) if binary else records
    x = (rng.random(records.x.shape, np.float32) < records.x).astype(np.float32)
    x = moved(x, rng, shift)
    x += np.float32(noise) * rng.standard_normal(x.shape, np.float32)
    return Examples(x, records.y, records.classes)


def moved(x: NDArray[Any], rng: np.random.Generator, shift: int) -> NDArray[Any]:
    """Pictures (n, height, width, colours), each moved by up to `shift` pixels of 28 either way; what is new is 0."""
    far = [shift * side // SIDE for side in x.shape[1:3]]
    wide = np.pad(x, ((0, 0), (far[0], far[0]), (far[1], far[1]), (0, 0)))
    places = [
        rng.integers(0, 2 * most + 1, len(x))[:, None] + np.arange(side)
        for most, side in zip(far, x.shape[1:3], strict=True)
    ]
    moved: NDArray[Any] = wide[np.arange(len(x))[:, None, None], places[0][:, :, None], places[1][:, None, :]]
    return moved
