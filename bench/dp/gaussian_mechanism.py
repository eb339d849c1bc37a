"""The Gaussian mechanism on numbers that are no gradients: the one door for private sums outside of training."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def gaussian(
    values: NDArray[Any], l2_sensitivity: float, noise_multiplier: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """`values` with independent normal noise of standard deviation `noise_multiplier` * `l2_sensitivity` on each.

    l2_sensitivity: how far, in Euclidean distance over all values at once, one record can move them when it is added or
    removed; so this is one step of `accounting.training_event(1.0, noise_multiplier, steps)`, and rows with a bound
    each are as many steps (Dwork and Roth 2014, appendix A).
    """
    return np.asarray(values, np.float64) + rng.normal(0.0, noise_multiplier * l2_sensitivity, values.shape)
