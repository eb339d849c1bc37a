"""The Gaussian mechanism: its noise has the accounted variance and is independent between numbers."""

from __future__ import annotations

import numpy as np
import pytest
from noise_checks import variance_fits

from bench.dp.gaussian_mechanism import gaussian


def test_noise_has_the_accounted_scale() -> None:
    values = np.random.default_rng(0).integers(0, 100, (100, 20))
    noise = gaussian(values, 3.0, 0.7, np.random.default_rng(1)) - values
    assert variance_fits(noise, 2.1)
    for wrong in (2.1 / np.sqrt(2), 2.1 * np.sqrt(2), 3.0, 0.7):  # the scales of a wrong sensitivity or multiplier
        assert not variance_fits(noise, wrong)


def test_noise_is_independent_between_numbers() -> None:
    noise = gaussian(np.zeros((400, 6)), 1.0, 1.0, np.random.default_rng(2))
    assert len(np.unique(noise)) == noise.size
    correlations = np.corrcoef(noise.T)[np.triu_indices(6, 1)]
    assert np.abs(correlations).max() < 6 / np.sqrt(400)  # six standard deviations


def test_a_scale_of_zero_returns_the_values() -> None:
    seed = 0
    values = np.arange(6.0).reshape(2, 3)
    assert np.array_equal(gaussian(values, 5.0, 0.0, np.random.default_rng(seed)), values)
    again = [gaussian(values, 5.0, 1.0, np.random.default_rng(seed)) for _ in range(2)]
    assert np.array_equal(*again)
    with pytest.raises(ValueError, match="scale"):
        gaussian(values, -1.0, 1.0, np.random.default_rng(seed))
