"""Pictures: their cosine basis, which records count as pictures, and the random perturbation of records."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.fft import dctn
from scipy.stats import norm

from bench.core.dataset import Examples
from bench.core.images import augmented, cosines, is_picture


def test_the_basis_is_that_of_the_cosine_transform() -> None:
    """Compared with SciPy's cosine transform of unit coefficients."""
    picture = np.random.default_rng(0).random((12, 10))
    known = dctn(picture, norm="ortho")[:5, :5].ravel()
    np.testing.assert_allclose(cosines((12, 10, 1), 5) @ picture.ravel() / math.sqrt(120), known, rtol=1e-4, atol=1e-5)


def test_the_cosine_basis_is_one_function_at_every_resolution_per_channel() -> None:
    fine, coarse = cosines((28, 28, 1), 3).reshape(9, 28, 28), cosines((14, 14, 1), 3).reshape(9, 14, 14)
    halved = fine.reshape(9, 14, 2, 14, 2).mean((2, 4))
    np.testing.assert_allclose(halved, coarse, atol=0.03)  # means over a pixel, not values at its centre
    assert (fine[0] == 1).all()
    coloured = cosines((8, 8, 3), 2, 0.5).reshape(2, 2, 3, 8, 8, 3)
    assert (coloured[:, :, 0, ..., 1:] == 0).all()
    plain = cosines((8, 8, 1), 2).reshape(2, 2, 8, 8)
    np.testing.assert_allclose(coloured[1, 1, 2, ..., 2], plain[1, 1] / 2, rtol=1e-6)
    np.testing.assert_allclose(coloured[1, 0, 0, ..., 0], plain[1, 0] / 1.5, rtol=1e-6)


@pytest.mark.parametrize(("shape", "yes"), [((8, 8, 1), True), ((28, 20, 3), True), ((30,), False), ((4, 4, 1), False)])
def test_which_records_are_pictures(shape: tuple[int, ...], yes: bool) -> None:
    assert is_picture(shape) is yes


def test_roughened_pictures_move_flicker_and_get_noise() -> None:
    x = np.zeros((4000, 28, 28, 1))
    x[:, 10:20, 9:18] = 0.7
    records = Examples(x, np.arange(4000) % 10, 10)
    still = augmented(records, np.random.default_rng(1), shift=0, noise=0.0)
    assert set(np.unique(still.x)) == {0.0, 1.0}
    assert np.array_equal(still.y, records.y)
    share = still.x[:, 10:20, 9:18].mean()
    assert abs(share - 0.7) < 5 * math.sqrt(0.21 / (4000 * 90))
    assert still.x.sum() == still.x[:, 10:20, 9:18].sum()
    moved = augmented(Examples(np.ceil(x), records.y, 10), np.random.default_rng(1), shift=2, noise=0.0).x[..., 0]
    tops = moved.any(2).argmax(1)
    lefts = moved.any(1).argmax(1)
    assert set(tops) == set(range(8, 13))
    assert set(lefts) == set(range(7, 12))
    assert abs(np.corrcoef(tops, lefts)[0, 1]) < 0.1
    assert (moved.sum((1, 2)) == 90).all()
    noisy = augmented(Examples(np.ceil(x), records.y, 10), np.random.default_rng(1), shift=0, noise=0.4).x
    noise = (noisy - np.ceil(x)).ravel()
    assert abs(noise.std() / 0.4 - 1) < 5 / math.sqrt(2 * noise.size)
    assert abs((np.abs(noise) > 0.8).mean() - 2 * norm.sf(2)) < 1e-3


def test_small_pictures_do_not_move_and_other_records_stay_as_they_are() -> None:
    rng = np.random.default_rng(2)
    small = Examples(rng.integers(0, 2, (20, 8, 8, 1)), np.zeros(20, int), 2)
    assert np.array_equal(augmented(small, rng, shift=2, noise=0.0).x, small.x)
    plain = Examples(rng.random((20, 30)), np.zeros(20, int), 2)
    assert augmented(plain, rng, shift=2, noise=0.4) is plain


def test_binary_features_of_other_records_are_drawn_with_their_chance() -> None:
    x = np.tile([0.3, 0.3, 0.8], (20000, 1))
    drawn = augmented(Examples(x, np.zeros(20000, int), 2), np.random.default_rng(3), shift=2, noise=0.4, binary=(0, 2))
    assert (drawn.x[:, 1] == np.float32(0.3)).all()
    assert set(np.unique(drawn.x[:, [0, 2]])) == {0, 1}
    for k, chance in ((0, 0.3), (2, 0.8)):
        assert abs(drawn.x[:, k].mean() - chance) < 5 * math.sqrt(chance * (1 - chance) / 20000)
