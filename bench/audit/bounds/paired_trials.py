"""Lower bounds on epsilon, and on mu of Gaussian DP, from pairs of trials: which of the two had the record?

A member and a non-member trial in random order are the mechanism on (D, D') or on (D', D), which two uses of it
distinguish no better than its guarantee composed with itself. The member's score is the larger one with probability at
most Phi(mu / sqrt(2)) under mu-GDP (two uses are sqrt(2) mu-GDP: Dong, Roth and Su 2022, corollary 3.3), and at most
1 - (1 - delta)^2 / (1 + e^epsilon) under (epsilon, delta)-DP (either trial is revealed with probability delta, else
both are randomised responses: Kairouz, Oh and Viswanath 2015, theorem 3.4). This assumes no distribution of scores and
selects no threshold, so a single probability has to be bounded; where mu is small, as for one step, it takes a third of
the trials that the rules of `rank` take.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.games.intervals import clopper_pearson_upper


def wins(held_in: NDArray[Any], held_out: NDArray[Any], rng: np.random.Generator) -> int:
    """The number of pairs, member and non-member trial i (n,), that the member wins; rng breaks ties."""
    return int((held_in > held_out).sum()) + int(rng.binomial(int((held_in == held_out).sum()), 0.5))


def win_probability(wins: int, pairs: int, alpha: float) -> float:
    """A lower bound on the probability of a win, wrong with probability alpha (Clopper and Pearson)."""
    return float(1 - clopper_pearson_upper(pairs - wins, pairs, alpha)) if pairs else 0.0


def mu(wins: int, pairs: int, alpha: float) -> float:
    """The largest mu of Gaussian DP that so many wins rule out with confidence 1 - alpha."""
    from scipy import special

    return max(0.0, math.sqrt(2) * float(special.ndtri(win_probability(wins, pairs, alpha))))


def epsilon(wins: int, pairs: int, delta: float, alpha: float) -> float:
    """The largest epsilon that so many wins rule out with confidence 1 - alpha."""
    losses = (1 - win_probability(wins, pairs, alpha)) / (1 - delta) ** 2
    return max(0.0, math.log(1 / losses - 1)) if losses < 1 else 0.0
