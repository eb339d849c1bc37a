"""What a probe found, and the one error rate of all their tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SURE = 1e-6  # a test this unlikely speaks; a lint makes some hundred of them


@dataclass(frozen=True)
class Finding:
    """One thing wrong with a defense. what: a sentence that says what is wrong and what to do."""

    probe: str
    what: str


def spread(values: NDArray[np.float64], variance: float) -> float:
    """Two-sided p-value of the values being independent normal numbers of mean 0 and this variance (chi-square)."""
    from scipy import stats

    square = float(np.square(values).sum()) / variance
    law = stats.chi2(values.size)
    return min(1.0, 2 * float(min(law.cdf(square), law.sf(square))))


def normal(values: NDArray[np.float64]) -> float:
    """p-value of the values being independent standard normal numbers (Kolmogorov and Smirnov)."""
    from scipy import stats

    return float(stats.kstest(np.ravel(values), "norm").pvalue)


def alike(a: NDArray[np.float64], b: NDArray[np.float64], deviation: float) -> float:
    """Two-sided p-value of `b` being normal numbers of this standard deviation, independent of `a` of the same size.

    Given `a`, their product is normal with the length of `a`; so it is exact for any number of them.
    """
    from scipy import stats

    length = float(np.linalg.norm(a))
    if not length:
        return 1.0
    return 2 * float(stats.norm.sf(abs(float(np.vdot(a, b))) / (length * deviation)))


def dispersion(counts: NDArray[np.float64], mean: float, variance: float, kurtosis: float) -> float:
    """Two-sided p-value of independent counts having this variance about their mean; `kurtosis` is the excess one.

    The mean of squared deviations is taken to be gamma distributed, with its exact mean and variance.
    """
    from scipy import stats

    found = float(np.mean((counts - mean) ** 2)) / variance
    law = stats.gamma(a=counts.size / (2 + kurtosis), scale=(2 + kurtosis) / counts.size)
    return min(1.0, 2 * float(min(law.cdf(found), law.sf(found))))
