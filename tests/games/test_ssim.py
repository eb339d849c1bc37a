"""Structural similarity equals a naive implementation and that of TensorFlow."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.models.ssim import own_ssim, ssim


def naive_ssim(a: NDArray[Any], b: NDArray[Any], size: int) -> float:
    """Wang et al. 2004, equations 13 to 17, window by window."""
    around = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * 1.5**2))
    weights = np.outer(around, around)
    weights /= weights.sum()
    found = []
    height, width, colours = a.shape
    for i, j, c in itertools.product(range(height - size + 1), range(width - size + 1), range(colours)):
        x, y = (z[i : i + size, j : j + size, c].astype(float) for z in (a, b))
        mx, my = (weights * x).sum(), (weights * y).sum()
        vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
        cov = (weights * (x - mx) * (y - my)).sum()
        one, two = 0.01**2, 0.03**2
        found.append((2 * mx * my + one) * (2 * cov + two) / ((mx**2 + my**2 + one) * (vx + vy + two)))
    return float(np.mean(found))


@pytest.mark.parametrize(
    ("shape", "window"), [((8, 8, 1), 5), ((28, 28, 1), 11), ((12, 30, 3), 7), ((3, 4, 1), None), ((1, 1, 1), 1)]
)
def test_ssim_of_all_pairs_equals_the_naive_one(shape: tuple[int, int, int], window: int | None) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((3, *shape), np.float32), rng.random((4, *shape), np.float32)
    b[0], b[1] = a[1], 0.7 * a[2]
    found = ssim(a, b)
    if window and shape[0] // 2 | 1 == shape[1] // 2 | 1:
        assert np.allclose(found, [[naive_ssim(x, y, window) for y in b] for x in a], atol=1e-9)
    assert found.shape == (3, 4)
    assert found[1, 0] == pytest.approx(1)
    assert (np.abs(found) <= 1 + 1e-12).all()
    assert np.allclose(ssim(b, a), found.T)
    assert np.allclose(own_ssim(a, b[:3]), np.diag(found[:, :3]))


def test_ssim_equals_that_of_tensorflow_for_pictures_larger_than_its_window() -> None:
    import tensorflow as tf

    rng = np.random.default_rng(1)
    a, b = rng.random((6, 28, 36, 3), np.float32), rng.random((6, 28, 36, 3), np.float32)
    b[:3] = 0.8 * a[:3] + 0.2 * b[:3]
    reference = tf.image.ssim(a, b, max_val=1.0).numpy()
    assert np.allclose(own_ssim(a, b), reference, atol=1e-5)
    # The mutant, without the covariance of the two pictures, differs.
    assert not np.allclose(own_ssim(a, a[::-1]), reference, atol=1e-5)
