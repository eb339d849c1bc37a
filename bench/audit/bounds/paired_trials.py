"""Lower bounds on epsilon, and on mu of Gaussian DP, from pairs of trials: which of the two was held in?

A held-in and a held-out trial in random order are the mechanism on (D, D') or on (D', D), which two uses of it tell
apart no better than its guarantee composed with itself. So that the held-in score is the larger one has a chance of at
most Phi(mu / sqrt(2)) under mu-GDP (two uses are sqrt(2) mu-GDP: Dong, Roth and Su 2022, corollary 3.3), and of at most
1 - (1 - delta)^2 / (1 + e^epsilon) under (epsilon, delta)-DP (either trial is given away with chance delta, else both
are randomised responses: Kairouz, Oh and Viswanath 2015, theorem 3.4). Nothing is said of how scores are distributed
and no threshold is chosen, so one bound on one chance remains; where mu is small, as it is of one step, that takes a
third of the trials that the rules of `ranks` take.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.games.intervals import clopper_pearson_upper


def won(held_in: NDArray[Any], held_out: NDArray[Any], rng: np.random.Generator) -> int:
    """Pairs, trial i with trial i (n,), in which the held-in score is larger; rng breaks ties."""
    return int((held_in > held_out).sum()) + int(rng.binomial(int((held_in == held_out).sum()), 0.5))


def chance(won: int, pairs: int, alpha: float) -> float:
    """The least chance of a pair to be won, wrong with probability alpha (Clopper and Pearson)."""
    return float(1 - clopper_pearson_upper(pairs - won, pairs, alpha)) if pairs else 0.0


def mu(won: int, pairs: int, alpha: float) -> float:
    """The largest mu of Gaussian DP that so many pairs won rule out with confidence 1 - alpha."""
    from scipy import special

    return max(0.0, math.sqrt(2) * float(special.ndtri(chance(won, pairs, alpha))))


def epsilon(won: int, pairs: int, delta: float, alpha: float) -> float:
    """The largest epsilon that so many pairs won rule out with confidence 1 - alpha."""
    lost = (1 - chance(won, pairs, alpha)) / (1 - delta) ** 2
    return max(0.0, math.log(1 / lost - 1)) if lost < 1 else 0.0
