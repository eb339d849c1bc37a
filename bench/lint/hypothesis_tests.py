"""The statistical tests of the probes, all at one significance level."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SIGNIFICANCE = 1e-6  # a p-value below it is a finding; one lint makes about a hundred tests
MAX_RANKED = 200_000  # values in a Kolmogorov-Smirnov test
MIN_OVERLAP = 20  # values that two sequences must share to be compared


def variance_p_value(values: NDArray[np.float64], variance: float) -> float:
    """Two-sided chi-square p-value that the values are independent N(0, variance)."""
    from scipy import stats

    square = float(np.square(values).sum()) / variance
    law = stats.chi2(values.size)
    return min(1.0, 2 * float(min(law.cdf(square), law.sf(square))))


def normality_p_value(values: NDArray[np.float64]) -> float:
    """Kolmogorov-Smirnov p-value that the values are independent N(0, 1)."""
    from scipy import stats

    return float(stats.kstest(np.ravel(values)[:MAX_RANKED], "norm").pvalue)


def correlation_p_value(a: NDArray[np.float64], b: NDArray[np.float64], deviation: float) -> float:
    """Two-sided p-value that `b` is N(0, deviation^2) noise independent of `a`; both have the same size.

    Exact for any size: given `a`, the inner product of both is normal with standard deviation |a| * deviation.
    """
    from scipy import stats

    length = float(np.linalg.norm(a))
    if not length:
        return 1.0
    return 2 * float(stats.norm.sf(abs(float(np.vdot(a, b))) / (length * deviation)))


def maximum_p_value(values: NDArray[np.float64]) -> float:
    """Two-sided p-value of the largest absolute value of independent N(0, 1): neither truncated nor heavy-tailed."""
    from scipy import stats

    exceeds = 2 * float(stats.norm.sf(np.abs(values).max()))
    all_smaller = math.exp(values.size * math.log1p(-exceeds)) if exceeds < 1 else 0.0
    any_larger = -math.expm1(values.size * math.log1p(-exceeds)) if exceeds < 1 else 1.0
    return min(1.0, 2 * min(all_smaller, any_larger))


def lagged_correlation_p_value(pairs: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> float:
    """p-value that the second of each pair is N(0, 1) noise independent of the first at every lag.

    All pairs have the same size, and a lag applies to all of them. A vector paired with itself is tested at non-zero
    lags only. Given the earlier values each product is nearly normal; the smallest p-value over all lags is corrected
    by their number (Bonferroni).
    """
    from scipy import signal, stats

    if not pairs:
        return 1.0
    itself, size = pairs[0][0] is pairs[0][1], len(pairs[0][0])
    if size <= MIN_OVERLAP:
        return 1.0
    total, energy = np.zeros(2 * size - 1), np.zeros(2 * size - 1)
    for a, b in pairs:
        total += signal.correlate(b, a, method="fft")
        energy += signal.correlate(np.ones(size), a * a, method="fft")
    lags = np.arange(-size + 1, size)
    tested = (np.abs(lags) <= size - MIN_OVERLAP) & ((lags > 0) | (not itself))
    z = np.abs(total[tested]) / np.sqrt(np.maximum(energy[tested], 1e-9))
    return float(min(1.0, 2 * stats.norm.sf(z.max()) * z.size))


def dispersion_p_value(counts: NDArray[np.float64], mean: float, variance: float, kurtosis: float) -> float:
    """Two-sided p-value that independent counts have this mean and variance; `kurtosis` is their excess kurtosis.

    The mean squared deviation is approximated by a gamma distribution with its exact mean and variance.
    """
    from scipy import stats

    found = float(np.mean((counts - mean) ** 2)) / variance
    law = stats.gamma(a=counts.size / (2 + kurtosis), scale=(2 + kurtosis) / counts.size)
    return min(1.0, 2 * float(min(law.cdf(found), law.sf(found))))
