"""Distances in pieces equal the naive ones, near zero too, with the memory of one piece."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import gaussian_kde

from bench.core.errors import UserError
from bench.models import distances
from bench.models.distances import TINY, log_density, log_distance, nearest, principal, reduced


def records(n: int, seed: int = 0, shape: tuple[int, ...] = (3, 2, 1)) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((n, *shape), np.float32)


def flat(x: NDArray[np.float32]) -> NDArray[np.float64]:
    return x.reshape(len(x), -1).astype(np.float64)


@pytest.mark.parametrize("at_once", [1, 7, 100, 2**23])
@pytest.mark.parametrize("n", [0, 1, 23])
def test_pieces_of_any_size_give_the_naive_distances(n: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "AT_ONCE", at_once)
    x, to = records(n), records(11, 1)
    slow = cdist(flat(x), flat(to)) if n else np.empty((0, 11))
    assert np.allclose(reduced(x, to, np.copy), slow**2, atol=1e-12)
    assert np.allclose(reduced(x, to, lambda squared: squared.mean(1)), (slow**2).mean(1), atol=1e-12)
    if n:
        which, found = nearest(x, to)
        assert np.array_equal(which, slow.argmin(1))
        assert np.allclose(found, slow.min(1), rtol=1e-12)
        assert np.allclose(log_distance(x, to), np.log(slow.min(1)), rtol=1e-9)


def test_small_distances_do_not_cancel() -> None:
    """Records far from zero, 1e-7 from their copies: the product in float32 gives 0 or a hundred times too much."""
    rng = np.random.default_rng(0)
    to = 1e3 + rng.random((20, 50))
    x = to + 1e-7 * rng.standard_normal(to.shape)
    which, found = nearest(x, to)
    assert np.array_equal(which, np.arange(20))
    assert np.allclose(found, np.linalg.norm(x - to, axis=1), rtol=1e-6)
    assert np.array_equal(nearest(to, to)[1], np.zeros(20))
    assert np.allclose(log_distance(to, to), np.log(TINY))


def test_squared_distances_are_not_negative() -> None:
    x = np.tile(records(1, shape=(100,)), (30, 1)) * np.float32(1e3)
    assert (reduced(x, x + records(30, 1, (100,)) * 1e-6, np.copy) >= 0).all()


def test_memory_is_bounded_by_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """All distances of 4,000 records to 4,000 would take 128 MB, and all differences 8 GB."""
    monkeypatch.setattr(distances, "AT_ONCE", 2**16)
    x, to = records(4000, 0, (64,)), records(4000, 1, (64,))
    tracemalloc.start()
    nearest(x, to)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


# principal components


def test_components_are_the_singular_vectors() -> None:
    x, others = records(40), records(9, 1)
    centred = flat(x) - flat(x).mean(0)
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    slow = (flat(others) - flat(x).mean(0)) @ directions[:3].T
    assert np.allclose(np.abs(principal(x, 3)(others)), np.abs(slow))  # the sign of a direction is arbitrary
    white = slow / (values[:3] / np.sqrt(len(x)))
    assert np.allclose(np.abs(principal(x, 3, whiten=True)(others)), np.abs(white))
    assert np.allclose(np.cov(principal(x, 6, whiten=True)(x).T, bias=True), np.eye(6), atol=1e-10)


def test_components_do_not_exceed_the_rank() -> None:
    """Records of rank two in seven dimensions, and identical records."""
    plane = np.random.default_rng(0).random((30, 2)) @ np.random.default_rng(1).random((2, 7))
    assert principal(plane, 5, whiten=True)(plane).shape == (30, 2)
    same = np.ones((4, 3))
    for whiten in (False, True):
        points = principal(same, 5, whiten=whiten)(np.zeros((2, 3)))
        assert points.shape == (2, 1)
        assert np.isfinite(points).all()
    with pytest.raises(UserError, match="components must be at least 1"):
        principal(plane, 0)


# density


@pytest.mark.parametrize("d", [1, 2, 5])
def test_density_equals_that_of_scipy_on_whitened_points(d: int) -> None:
    rng = np.random.default_rng(0)
    of = rng.standard_normal((60, d)) * 3
    of = principal(of, d, whiten=True)(of)
    at = rng.standard_normal((15, d))
    # scipy divides the covariance by m - 1, and takes Scott's factor of it.
    slow = gaussian_kde(of.T, lambda kde: kde.scotts_factor() * np.sqrt(59 / 60)).logpdf(at.T)
    assert np.allclose(log_density(at, of), slow, atol=1e-9)


def test_density_far_away_is_small_and_finite() -> None:
    of = np.random.default_rng(0).standard_normal((50, 3))
    far = log_density(np.full((1, 3), 1e4), of)
    assert np.isfinite(far).all()
    assert far[0] < -1e6
    assert np.isfinite(log_density(of, np.zeros((50, 3)))).all()
