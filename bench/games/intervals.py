"""Confidence intervals at 95 %: Wilson, Clopper-Pearson, Newcombe, DeLong, and Student's over seeds."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Estimate = dict[str, float]
"""A number with its interval: `value`, `low`, `high`, and where it has one the standard error `se`."""

Z = 1.959963984540054
TAIL = 0.025  # of a 95 % interval
# Student's quantile at 1 - TAIL for 1 to 9 degrees of freedom, from SciPy, whose import takes longer than a board.
STUDENT = (
    12.706204736174694,
    4.302652729749462,
    3.1824463052837078,
    2.7764451051977934,
    2.5705818356363146,
    2.4469118511449786,
    2.364624251592784,
    2.306004135204166,
    2.262157162798205,
)


def wilson(hits: float, n: int) -> tuple[float, float]:
    """Wilson's score interval for a rate after `hits` of n trials."""
    p = hits / n
    centre, half = p + Z**2 / (2 * n), Z * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    low, high = (centre - half) / (1 + Z**2 / n), (centre + half) / (1 + Z**2 / n)
    return (low if hits else 0.0), (high if hits < n else 1.0)  # rounding would leave the ends a hair off


def clopper_pearson(hits: int, n: int, tail: float = TAIL) -> tuple[float, float]:
    """Clopper and Pearson's exact interval for a rate; each end is wrong with probability `tail` at most."""
    from scipy import special

    low = float(special.betaincinv(hits, n - hits + 1, tail)) if hits else 0.0
    return low, float(clopper_pearson_upper(hits, n, tail))


def clopper_pearson_upper(hits: NDArray[np.int_] | int, n: NDArray[np.int_] | int, tail: float) -> NDArray[np.float64]:
    """The upper end alone, for arrays of counts too."""
    from scipy import special

    hits, n = np.asarray(hits), np.asarray(n)
    return np.where(hits < n, special.betaincinv(hits + 1, np.maximum(n - hits, 1), 1 - tail), 1.0)


def newcombe(hits: int, members: int, alarms: int, non_members: int) -> Estimate:
    """True less false positive rate with Newcombe's hybrid score interval (Statistics in Medicine 17, 1998, method 10).

    The standard error is read off the interval.
    """
    tpr, fpr = hits / members, alarms / non_members
    (tpr_low, tpr_high), (fpr_low, fpr_high) = wilson(hits, members), wilson(alarms, non_members)
    low = tpr - fpr - math.hypot(tpr - tpr_low, fpr_high - fpr)
    high = tpr - fpr + math.hypot(tpr_high - tpr, fpr - fpr_low)
    return {"value": tpr - fpr, "low": low, "high": high, "se": (high - low) / (2 * Z)}


def normal(value: float, se: float) -> Estimate:
    """A difference in [-1, 1] with the interval of the normal distribution."""
    return {"value": value, "low": max(-1.0, value - Z * se), "high": min(1.0, value + Z * se), "se": se}


def independent_difference(a: Estimate, b: Estimate) -> Estimate:
    """a less b, of different records."""
    return normal(a["value"] - b["value"], math.hypot(a["se"], b["se"]))


def placements(
    scores: NDArray[np.float64], member: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """DeLong's components of an AUC: per member the share of non-members below it, per non-member of members above it.

    Ties count half.
    """
    members, others = np.sort(scores[member]), np.sort(scores[~member])
    below = np.searchsorted(others, scores[member], "left") + np.searchsorted(others, scores[member], "right")
    not_above = np.searchsorted(members, scores[~member], "left") + np.searchsorted(members, scores[~member], "right")
    return below / (2 * len(others)), 1 - not_above / (2 * len(members))


def delong(value: float, se: float) -> tuple[float, float]:
    """DeLong's interval of an AUC strictly between 0 and 1, on the logit scale."""
    centre, half = math.log(value / (1 - value)), min(Z * se / (value * (1 - value)), 300.0)
    low, high = (1 / (1 + math.exp(-(centre + side * half))) for side in (-1, 1))
    return low, high


def student(degrees: int) -> float:
    """Half of the width of Student's interval, in standard errors."""
    if degrees <= len(STUDENT):
        return STUDENT[degrees - 1]
    from scipy import special

    return float(special.stdtrit(degrees, 1 - TAIL))


def over_seeds(values: list[float], ses: list[float], *, between: bool = True) -> Estimate:
    """Mean over seeds; the interval is the wider of Student's, between seeds, and the one within them.

    between=False leaves Student's out: what holds for these very seeds, not for others. For paired differences.
    Raises ValueError unless there is one standard error for each of one or more values.
    """
    k = len(values)
    if not k or len(ses) != k:
        raise ValueError(f"{k} values came with {len(ses)} standard errors")
    mean = math.fsum(values) / k
    half = Z * math.sqrt(math.fsum(se**2 for se in ses)) / k
    if k > 1 and between:
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (k - 1))
        half = max(half, student(k - 1) * deviation / math.sqrt(k))
    return {"value": mean, "low": mean - half, "high": mean + half}
