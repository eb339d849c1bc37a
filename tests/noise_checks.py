"""Statistical checks of noise that several tests share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

ERROR = 1e-6  # of each check


def variance_fits(noise: NDArray[np.float64], deviation: float) -> bool:
    """Whether normal numbers of mean 0 may have this standard deviation; wrongly refused with probability ERROR."""
    total = (noise.ravel() ** 2).sum() / deviation**2
    return bool(chi2.ppf(ERROR / 2, noise.size) <= total <= chi2.isf(ERROR / 2, noise.size))
