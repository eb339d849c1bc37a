"""Differences of two answers to the same question: their standard errors, and ranks with ties.

Two answers about the same records are compared record by record, which is much surer than two intervals side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.games.intervals import Estimate, Z, normal, placements, wilson
from bench.games.metrics import auc, checked, checked_shares

SAME = 1e-5  # what single precision loses of a mean
LEVEL = 0.05  # of a whole ranking


def auc_gain(a: NDArray[Any], b: NDArray[Any], member: NDArray[Any], *, spread: float = 1.0) -> Estimate:
    """AUC of a less AUC of b on the same records, with DeLong's covariance; spread, as in `metrics.auc`, is of b."""
    first, second = auc(a, member), auc(b, member, spread=spread)
    value = first["value"] - second["value"]
    at_edge = {first["value"], second["value"]} & {0.0, 1.0}
    if at_edge:  # DeLong's variance is 0 there, and so would be its covariance
        variance = first["se"] ** 2 + second["se"] ** 2
    else:
        parts = zip(placements(*checked(a, member)), placements(*checked(b, member)), strict=True)
        variance = sum(float((x - y).var(ddof=1)) / len(x) for x, y in parts)
        variance += second["se"] ** 2 * (1 - 1 / spread**2)
    return normal(value, math.sqrt(variance))


def recall_gain(a: NDArray[Any], b: NDArray[Any], group: NDArray[Any]) -> Estimate:
    """`metrics.balanced_recall` of a less that of b on the same records.

    The variance is of the records on which they differ, as in McNemar's test, with half a record added to each of the
    four cells of each group (Agresti and Min, Statistics in Medicine 24, 2005), so that it is never 0.
    """
    value, variance, groups = 0.0, 0.0, np.unique(group)
    for g in groups:
        first, second = a[group == g], b[group == g]
        only_a, only_b, n = int((first & ~second).sum()), int((~first & second).sum()), len(first)
        value += (only_a - only_b) / n / len(groups)
        p, q = (only_a + 0.5) / (n + 2), (only_b + 0.5) / (n + 2)
        variance += (p + q - (p - q) ** 2) / (n + 2) / len(groups) ** 2
    return normal(value, math.sqrt(variance))


def share_gain(a: NDArray[Any], b: NDArray[Any]) -> Estimate:
    """Mean of a less mean of b, numbers in [0, 1] of the same units (n,), with Newcombe's interval for paired shares.

    Statistics in Medicine 17 (1998) 2635, method 10: two Wilson intervals and the correlation over the units, but only
    a negative one, which widens it: ten units do not tell how far a positive one may narrow it (it would cover 87 %).
    Raises ValueError like `metrics.share`, and for unequal lengths.
    """
    a, b = checked_shares(a), checked_shares(b)
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} units cannot be paired")
    (p, q), ((p_low, p_high), (q_low, q_high)) = (a.mean(), b.mean()), (wilson(float(x.sum()), len(x)) for x in (a, b))
    against = max(0.0, -float(np.corrcoef(a, b)[0, 1])) if a.std() and b.std() else 0.0

    def half(x: float, y: float) -> float:
        return math.sqrt(x**2 + y**2 + 2 * against * x * y)

    low, high = p - q - half(p - p_low, q_high - q), p - q + half(p_high - p, q - q_low)
    return {"value": float(p - q), "low": float(low), "high": float(high), "se": float(high - low) / (2 * Z)}


def auc_units(scores: NDArray[Any], member: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """What an AUC is made of, for `standard_error`: DeLong's components of the members and of the others."""
    members, others = placements(*checked(scores, member))
    return {"units_members": members.astype(np.float32), "units_others": others.astype(np.float32)}


def recall_units(correct: NDArray[Any], group: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """What a balanced recall is made of, for `standard_error`: who was right, by group, over the number of groups."""
    groups = np.unique(group)
    return {f"units_{g}": (correct[group == g] / len(groups)).astype(np.float32) for g in groups}


def standard_error(a: Mapping[str, NDArray[Any]], b: Mapping[str, NDArray[Any]]) -> float:
    """Standard error of the difference of two headline estimates on the same targets.

    a, b: `answers` of two cells. What is called `units...` are strata of units, the same on both sides, of which the
    estimate is a sum of means: its variance is the sum of the variances of the means of their differences. Raises
    ValueError where the two cells do not have the same targets.
    """
    strata = [name for name in a if name.startswith("units")]
    if set(strata) != {name for name in b if name.startswith("units")} or any(a[s].shape != b[s].shape for s in strata):
        raise ValueError("two cells can be compared only where they have the same targets")
    differences = [a[s].astype(np.float64) - b[s] for s in strata]
    return math.sqrt(math.fsum(d.var(ddof=1) / len(d) for d in differences if len(d) > 1))


def is_made_of(units: Mapping[str, NDArray[Any]], value: float) -> bool:
    """Whether an estimate is made of these units: a cell from elsewhere may have replaced the one measured here.

    The means of the strata add up to it, or each is it (those of an AUC, see `auc_units`).
    """
    means = [float(np.mean(part)) for part in units.values()]
    return any(np.allclose(made, value, rtol=0, atol=SAME) for made in (sum(means), means)) if means else False


def ranks(count: int, p_value: Callable[[int, int], float | None]) -> list[int]:
    """Ranks with ties of `count` rows in order: a row shares the rank of the first of its group unless it differs.

    p_value: (first of the group, row) -> p that they differ by chance, None where it is unknown. Bonferroni's
    correction keeps the chance of one wrong split at LEVEL.
    """
    found: list[int] = []
    first = 0
    for i in range(count):
        p = p_value(first, i) if i else None
        if p is not None and p < LEVEL / max(1, count - 1):
            first = i
        found.append(first + 1)
    return found
