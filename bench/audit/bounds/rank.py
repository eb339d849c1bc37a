"""Lower bounds on epsilon, and on mu of Gaussian DP, from independent trials and guessing rules that are fixed by rank.

The rule "member: all that score above all but j of the n non-members" has a false positive rate U that is
Beta(j + 1, n - j) for every distribution of scores (stochastically at most that with ties). If the trade-off curve of a
mechanism allows a true positive rate of at most g(U), at most Binomial(m, g(U)) of the m members are classified as
such. So the p-value of a count under a claim is one integral without unknowns; and since no threshold is selected,
every trial counts. Two tails of Clopper and Pearson (`clopper_pearson`) allow for the worst case of both rates at once,
and so prove less.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

STEP = 4  # each rule allows a fourth of the false positives of the one before
TINY = 1e-14  # probability beyond either end of the integral
PANELS, MOST_PANELS, NODES = 5, 100, 40  # of the integral, for as many members as non-members; nodes of each


class Rule(NamedTuple):
    """The rule "own: all that score beyond all but `allowed` of the `other` trials" `caught` this many of its `own`."""

    caught: int
    own: int
    allowed: int
    other: int


class Curve(NamedTuple):
    """A trade-off curve: the largest true positive rate at a false positive rate; from `full` on it is 1."""

    most: Callable[[NDArray[Any]], NDArray[Any]]
    full: float


def rules(held_in: NDArray[Any], held_out: NDArray[Any]) -> list[Rule]:
    """The counts of a fixed set of rules, from above and from below; scores sorted, larger: more likely a member."""
    found = []
    for own, other in ((held_in, held_out), (-held_out[::-1], -held_in[::-1])):
        n = len(other)
        allowed = np.unique([0, *(n // STEP**i for i in range(1, n.bit_length()))])
        caught = len(own) - np.searchsorted(own, other[n - 1 - allowed], "right")
        found += [Rule(int(c), len(own), int(j), n) for c, j in zip(caught, allowed, strict=True)]
    return found


def perfect(held_in: int, held_out: int) -> list[Rule]:
    """The count of one rule, from above or from below, if all trials are classified correctly: the largest bound."""
    return [Rule(held_in, held_in, 0, held_out), Rule(held_out, held_out, 0, held_in)]


def epsilon(rules: list[Rule], delta: float, alpha: float) -> float:
    """The largest epsilon that a rule rejects, wrong with probability at most alpha over all rules (Bonferroni)."""

    def curve(epsilon: float) -> Curve:
        return Curve(lambda u: np.exp(epsilon) * u + delta, (1 - delta) * math.exp(-epsilon))

    return _largest(rules, curve, alpha)


def mu(rules: list[Rule], alpha: float) -> float:
    """The largest mu of Gaussian DP that a rule rejects, like `epsilon`. Dong, Roth, Su (2022)."""
    from scipy import special

    return _largest(rules, lambda mu: Curve(lambda u: np.asarray(special.ndtr(special.ndtri(u) + mu)), 1.0), alpha)


def epsilon_of_mu(mu: float, delta: float) -> float:
    """The epsilon at which a mu-GDP mechanism has this delta > 0. Dong, Roth, Su (2022), corollary 2.13."""
    from scipy import optimize, special

    def excess(epsilon: float) -> float:
        first = float(special.log_ndtr(mu / 2 - epsilon / mu))
        second = epsilon + float(special.log_ndtr(-mu / 2 - epsilon / mu))
        return first + math.log(-math.expm1(min(second - first, -1e-300))) - math.log(delta)

    if mu == 0 or excess(0.0) <= 0:
        return 0.0
    most = mu * mu / 2 + mu * math.sqrt(2 * math.log(1 / delta))  # there the first term alone is below delta
    return float(optimize.brentq(excess, 0.0, most, xtol=1e-12))


def p_value(rule: Rule, curve: Curve) -> float:
    """The largest probability, under the curve, that the rule catches as many as it did."""
    from scipy import special

    caught, own, allowed, other = rule
    if not caught:
        return 1.0
    a, b = allowed + 1, other - allowed
    low, high = float(special.betaincinv(a, b, TINY)), float(special.betainccinv(a, b, TINY))
    high = min(high, curve.full)  # nodes must not straddle the corner of the curve: beyond it the rate is 1
    if high <= low:
        return 1.0
    share, weights = _nodes(min(MOST_PANELS, math.ceil(PANELS * math.sqrt(1 + own / other))))
    u = low + (high - low) * share
    density = np.exp((a - 1) * np.log(u) + (b - 1) * np.log1p(-u) - special.betaln(a, b)) * (high - low)
    inside = weights @ (density * special.betainc(caught, own - caught + 1, np.minimum(curve.most(u), 1.0)))
    return min(1.0, float(inside) + float(special.betaincc(a, b, high)))


def _largest(rules: list[Rule], curve: Callable[[float], Curve], alpha: float) -> float:
    from scipy import optimize

    best = 0.0
    for rule in rules:

        def excess(claim: float, rule: Rule = rule) -> float:
            return p_value(rule, curve(claim)) - alpha / len(rules)

        if excess(best) < 0:  # else this rule proves no more than an earlier one
            most = max(1.0, 2 * best)
            while excess(most) < 0:
                most *= 2
            best = float(optimize.brentq(excess, best, most, xtol=1e-9))
    return best


@cache
def _nodes(panels: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Nodes and weights of Gauss-Legendre quadrature on equal panels of [0, 1]."""
    points, weights = np.polynomial.legendre.leggauss(NODES)  # type: ignore[no-untyped-call]
    places = (np.arange(panels)[:, None] + (points + 1) / 2) / panels
    return places.ravel(), np.tile(weights / (2 * panels), panels)
