"""The usual lower bound on epsilon, from Clopper-Pearson confidence bounds on both error rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.audit.bounds.rank import Rule
from bench.games.intervals import clopper_pearson_upper as upper


@dataclass(frozen=True)
class Rates:
    """Bounds for k rules that each classify one side: false positive rate at most `high`, true at least `low` (k,)."""

    high: NDArray[Any]
    low: NDArray[Any]


def at_counts(false: NDArray[Any] | int, n_false: int, true: NDArray[Any] | int, n_true: int, alpha: float) -> Rates:
    """Rates at one threshold, fixed before these trials, for the rules "member" above it and "non-member" below.

    false of n_false non-member and true of n_true member trials lie above. With several thresholds alpha is for each.
    """
    high, low = upper(false, n_false, alpha / 2), 1 - upper(n_true - np.asarray(true), n_true, alpha / 2)
    return Rates(np.append(high, 1 - low), np.append(low, 1 - high))


def at_ranks(rules: list[Rule], alpha: float) -> Rates:
    """Rates of rules that are fixed by rank; with probability 1 - alpha all hold together (Bonferroni)."""
    tail = alpha / (2 * len(rules))
    caught, own, allowed, other = np.array(rules).T
    return Rates(upper(allowed, other, tail), 1 - upper(own - caught, own, tail))


def epsilon(rates: Rates, delta: float) -> float:
    """The largest epsilon that one of the rules rejects: TPR <= e^epsilon FPR + delta. Jagielski et al. (2020)."""
    sure = rates.low > delta
    return max(0.0, float(np.log((rates.low[sure] - delta) / rates.high[sure]).max(initial=0.0)))
