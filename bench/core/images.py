"""Priors of pictures: smooth bases, and augmentations that keep a picture's class.

Nothing here depends on records, so it costs no privacy.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples

SIDE = 28  # pixels; shifts are given for pictures of this side, and scaled for others


def is_picture(shape: tuple[int, ...]) -> bool:
    """Whether records have height, width and colours, and are large enough for a basis of cosines to be useful."""
    return len(shape) == 3 and min(shape[:2]) >= 8


def eight_bits(x: NDArray[Any]) -> NDArray[np.uint8]:
    """Pictures in [0, 1] as bytes, to be displayed; values outside are clipped."""
    return np.asarray(np.round(np.clip(x, 0, 1) * 255), np.uint8)


@functools.lru_cache(maxsize=32)
def cosines(shape: tuple[int, ...], frequencies: int, decay: float = 0.0) -> NDArray[Any]:
    """Smooth pictures (frequencies^2 * colours, h * w * colours): products of cosines, for each colour separately.

    They are the cosines of the type-2 transform, independent of the resolution (1 for the constant, else of mean square
    1), divided by 1 + decay * (i + j) for frequencies i and j.
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


def augmented(
    records: Examples, rng: np.random.Generator, *, shift: int, noise: float, binary: Sequence[int] = ()
) -> Examples:
    """Augmented synthetic pictures for training a classifier; of other records only the `binary` features change.

    A decoder returns means, which are smoother than records: each pixel becomes 1 with the probability that it states,
    else 0, as its Bernoulli likelihood implies; pictures are shifted by up to `shift` pixels of 28 in each direction;
    and every pixel gets Gaussian noise.
    """
    if not is_picture(records.shape):
        x = records.x.copy()
        probabilities = x[:, list(binary)]
        x[:, list(binary)] = rng.random(probabilities.shape, np.float32) < probabilities
        return Examples(x, records.y, records.classes) if binary else records
    x = (rng.random(records.x.shape, np.float32) < records.x).astype(np.float32)
    x = shifted(x, rng, shift)
    x += np.float32(noise) * rng.standard_normal(x.shape, np.float32)
    return Examples(x, records.y, records.classes)


def shifted(x: NDArray[Any], rng: np.random.Generator, shift: int) -> NDArray[Any]:
    """Pictures (n, height, width, colours), each shifted by up to `shift` pixels of 28 either way, filled with 0."""
    largest = [shift * side // SIDE for side in x.shape[1:3]]
    wide = np.pad(x, ((0, 0), (largest[0], largest[0]), (largest[1], largest[1]), (0, 0)))
    places = [
        rng.integers(0, 2 * most + 1, len(x))[:, None] + np.arange(side)
        for most, side in zip(largest, x.shape[1:3], strict=True)
    ]
    cropped: NDArray[Any] = wide[np.arange(len(x))[:, None, None], places[0][:, :, None], places[1][:, None, :]]
    return cropped
