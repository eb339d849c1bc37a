"""The hypothesis tests of the probes have their error rate and reject wrong values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench.lint.hypothesis_tests import (
    SIGNIFICANCE,
    correlation_p_value,
    dispersion_p_value,
    lagged_correlation_p_value,
    maximum_p_value,
    variance_p_value,
)


def test_tests_have_their_error_rate_and_reject_the_wrong_value() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 2, (400, 300))
    rates = np.array([variance_p_value(row, 4.0) for row in values])
    assert stats.kstest(rates, "uniform").pvalue > SIGNIFICANCE
    assert variance_p_value(values[0], 1.0) < SIGNIFICANCE
    pairs = np.array([correlation_p_value(a, b, 2.0) for a, b in zip(values[::2], values[1::2], strict=True)])
    assert stats.kstest(pairs, "uniform").pvalue > SIGNIFICANCE
    assert correlation_p_value(values[0], values[0], 2.0) < SIGNIFICANCE
    batch_sizes = rng.binomial(64, 0.3, (400, 60)).astype(float)
    moments = (64 * 0.3, 64 * 0.3 * 0.7, (1 - 6 * 0.21) / (64 * 0.21))
    assert np.mean([dispersion_p_value(row, *moments) < 0.01 for row in batch_sizes]) < 0.03
    assert dispersion_p_value(np.full(60, 19.0), *moments) < SIGNIFICANCE
    assert dispersion_p_value(np.repeat(batch_sizes[0][:2], 30) * 3, *moments) < SIGNIFICANCE


@pytest.mark.parametrize(("size", "many"), [(25, 1), (266, 5)])
def test_lagged_correlation_is_detected_with_its_error_rate(size: int, many: int) -> None:
    rng = np.random.default_rng(1)
    same = [[(row, row) for row in rng.normal(size=(many, size))] for _ in range(500)]
    independent = [[(a, b) for a, b in rng.normal(size=(many, 2, size))] for _ in range(500)]
    for pairs in (same, independent):
        assert np.mean([lagged_correlation_p_value(one) < 0.01 for one in pairs]) < 0.01 + 5 * (0.01 / 500) ** 0.5
    long = rng.normal(size=(many, 2 * size))
    assert lagged_correlation_p_value([(row[:size], row[5 : size + 5]) for row in long] * 3) < SIGNIFICANCE
    assert (
        lagged_correlation_p_value([(row, row) for row in np.tile(rng.normal(size=(3 * many, size)), 3)]) < SIGNIFICANCE
    )
    assert lagged_correlation_p_value([]) == 1


def test_truncated_and_heavy_tails_are_detected() -> None:
    rng = np.random.default_rng(2)
    rates = np.array([maximum_p_value(rng.normal(size=2000)) for _ in range(500)])
    assert stats.kstest(rates, "uniform").pvalue > SIGNIFICANCE
    z = rng.normal(size=10_000)
    assert maximum_p_value(np.clip(z, -3, 3)) < SIGNIFICANCE < maximum_p_value(z)
    assert maximum_p_value(np.append(z, 8.0)) < SIGNIFICANCE
