"""The statistical tests of the probes, and their one error rate."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SURE = 1e-6  # a test this unlikely speaks; a lint makes some hundred of them
MANY = 200_000  # numbers that are ranked
LEAST = 20  # numbers that two stretches must share to be held against each other


def spread(values: NDArray[np.float64], variance: float) -> float:
    """Two-sided p-value of the values being independent normal numbers of mean 0 and this variance (chi-square)."""
    from scipy import stats

    square = float(np.square(values).sum()) / variance
    law = stats.chi2(values.size)
    return min(1.0, 2 * float(min(law.cdf(square), law.sf(square))))


def normal(values: NDArray[np.float64]) -> float:
    """p-value of the values being independent standard normal numbers (Kolmogorov and Smirnov)."""
    from scipy import stats

    return float(stats.kstest(np.ravel(values)[:MANY], "norm").pvalue)


def alike(a: NDArray[np.float64], b: NDArray[np.float64], deviation: float) -> float:
    """Two-sided p-value of `b` being normal numbers of this standard deviation, independent of `a` of the same size.

    Given `a`, their product is normal with the length of `a`; so it is exact for any number of them.
    """
    from scipy import stats

    length = float(np.linalg.norm(a))
    if not length:
        return 1.0
    return 2 * float(stats.norm.sf(abs(float(np.vdot(a, b))) / (length * deviation)))


def tail(values: NDArray[np.float64]) -> float:
    """Two-sided p-value of the largest of independent standard normal numbers: not cut off, nor far too large."""
    from scipy import stats

    beyond = 2 * float(stats.norm.sf(np.abs(values).max()))
    below = math.exp(values.size * math.log1p(-beyond)) if beyond < 1 else 0.0  # that all are nearer
    return min(1.0, 2 * min(below, -math.expm1(values.size * math.log1p(-beyond)) if beyond < 1 else 1.0))


def echo(pairs: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> float:
    """p-value of the second of each pair being independent standard normal numbers, laid anywhere along the first.

    All pairs are laid alike, and have one size. A vector paired with itself is laid beside itself. Given the numbers
    before it each product is normal, and so are their sums, nearly; of all places the most unlikely one counts.
    """
    from scipy import signal, stats

    if not pairs:
        return 1.0
    itself, size = pairs[0][0] is pairs[0][1], len(pairs[0][0])
    if size <= LEAST:
        return 1.0
    total, energy = np.zeros(2 * size - 1), np.zeros(2 * size - 1)
    for a, b in pairs:
        total += signal.correlate(b, a, method="fft")
        energy += signal.correlate(np.ones(size), a * a, method="fft")
    places = np.arange(-size + 1, size)
    tried = (np.abs(places) <= size - LEAST) & ((places > 0) | (not itself))
    z = np.abs(total[tried]) / np.sqrt(np.maximum(energy[tried], 1e-9))
    return float(min(1.0, 2 * stats.norm.sf(z.max()) * z.size))


def dispersion(counts: NDArray[np.float64], mean: float, variance: float, kurtosis: float) -> float:
    """Two-sided p-value of independent counts having this variance about their mean; `kurtosis` is the excess one.

    The mean of squared deviations is taken to be gamma distributed, with its exact mean and variance.
    """
    from scipy import stats

    found = float(np.mean((counts - mean) ** 2)) / variance
    law = stats.gamma(a=counts.size / (2 + kurtosis), scale=(2 + kurtosis) / counts.size)
    return min(1.0, 2 * float(min(law.cdf(found), law.sf(found))))
