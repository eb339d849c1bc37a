"""What the audit tests share: error rates, a Gaussian mechanism of known epsilon, selections of components."""

from __future__ import annotations

from typing import Any

from conftest import components
from scipy import stats

from bench.core.component import Choice
from bench.runner import selection

ERROR = 1e-6  # of each statistical test
ALPHA, DELTA = 0.05, 1e-5


def at_most(n: int, p: float) -> int:
    """More than this many of n events of probability p occur with probability at most ERROR."""
    return int(stats.binom.ppf(1 - ERROR, n, p))


def mu_of(epsilon: float, delta: float) -> float:
    """The mean shift of a Gaussian mechanism with this guarantee, by the delta of dp_accounting."""
    from dp_accounting.pld.privacy_loss_mechanism import GaussianPrivacyLoss

    low, high = 1e-3, 50.0
    for _ in range(60):
        mu = (low + high) / 2
        enough = GaussianPrivacyLoss(1 / mu).get_delta_for_epsilon(epsilon) < delta
        low, high = (mu, high) if enough else (low, mu)
    return mu


def quiet(what: str, done: int, total: int) -> None:
    """Ignore progress."""


def choice(kind: Any, words: str) -> Choice:
    """The one component of this kind that the words select."""
    [found] = selection.choose(components(), kind, words)
    return found
