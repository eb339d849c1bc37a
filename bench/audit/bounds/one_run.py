"""A lower bound on epsilon from one training with random inclusion of canaries. Steinke et al. (2023)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

STEP = 4


def p_value(right: int, guesses: int, canaries: int, epsilon: float, delta: float) -> float:
    """The largest probability of so many right guesses under (epsilon, delta)-DP (theorem 5.2, corollary D).

    Each of the `canaries` was included by a fair coin; `guesses` were made, of which `right` were right.
    """
    q = 1 / (1 + math.exp(-epsilon))
    at_least = _Tail(guesses, q)
    beta = at_least(right)
    if not delta or not right:
        return min(beta, 1.0)
    # The mean of the probabilities of right - 1, ..., right - i rises while the next one is above it, then falls.
    low, high = 1, right
    while low < high:
        i = (low + high) // 2
        if at_least.exactly(right - i - 1) * i > at_least(right - i) - beta:
            low = i + 1
        else:
            high = i
    return min(beta + 2 * canaries * delta * (at_least(right - low) - beta) / low, 1.0)


class _Tail:
    """The binomial distribution of right guesses: P(at least k), and P(exactly k)."""

    def __init__(self, n: int, q: float) -> None:
        self.n, self.q = n, q

    def __call__(self, k: int) -> float:
        from scipy import special

        return float(special.betainc(k, self.n - k + 1, self.q)) if k > 0 else 1.0

    def exactly(self, k: int) -> float:
        if not 0 <= k <= self.n:
            return 0.0
        n, q = self.n, self.q
        chosen = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        return math.exp(chosen + k * math.log(q) + ((n - k) * math.log1p(-q) if k < n else 0.0))


def epsilon(right: int, guesses: int, canaries: int, delta: float, alpha: float) -> float:
    """The largest epsilon that so many right guesses reject with confidence 1 - alpha."""
    from scipy import optimize

    def excess(epsilon: float) -> float:
        return p_value(right, guesses, canaries, epsilon, delta) - alpha

    if excess(0.0) >= 0:
        return 0.0
    most = 1.0
    while excess(most) < 0:
        most *= 2
    return float(optimize.brentq(excess, 0.0, most, xtol=1e-9))


def bound(scores: NDArray[Any], included: NDArray[Any], delta: float, alpha: float, rng: np.random.Generator) -> float:
    """The bound from guessing "included" for the k highest scores, and "excluded" for the k lowest ones or nothing.

    A fixed set of k is tested with a Bonferroni correction. rng breaks ties, which the order of records would else do.
    """
    mixed = rng.permutation(len(scores))
    order = mixed[np.argsort(scores[mixed], kind="stable")]
    coins = included[order]
    m = len(coins)
    sizes = np.unique([m // (2 * STEP**i) for i in range(m.bit_length() // 2 + 1)])
    sizes = sizes[sizes > 0]
    ins, outs = np.cumsum(coins[::-1]), np.cumsum(~coins)
    rules = [(int(ins[k - 1]), int(k)) for k in sizes]
    rules += [(int(ins[k - 1] + outs[k - 1]), int(2 * k)) for k in sizes]
    return max(epsilon(right, guesses, m, delta, alpha / len(rules)) for right, guesses in rules)
