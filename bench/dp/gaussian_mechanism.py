"""The Gaussian mechanism on numbers that are no gradients: the one way to release private sums outside of training."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.dp.instrumentation import current_observer


def gaussian(
    values: NDArray[Any], l2_sensitivity: float, noise_multiplier: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """`values` with independent normal noise of standard deviation `noise_multiplier` * `l2_sensitivity` on each.

    l2_sensitivity: how far, in Euclidean distance over all values at once, one record can move them when it is added or
    removed; so this is one step of `accounting.training_event(1.0, noise_multiplier, steps)`, and rows with a bound
    each are as many steps (Dwork and Roth 2014, appendix A).
    """
    if observer := current_observer():
        return observer.gaussian(add_noise, values, l2_sensitivity, noise_multiplier, rng)
    return add_noise(values, l2_sensitivity, noise_multiplier, rng)


def add_noise(
    values: NDArray[Any], l2_sensitivity: float, noise_multiplier: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """What `gaussian` returns, without consulting an observer."""
    return np.asarray(values, np.float64) + rng.normal(0.0, noise_multiplier * l2_sensitivity, values.shape)
