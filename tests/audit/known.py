"""Audits of Gaussian mechanisms whose epsilon is known, in Markdown, for the README: `python -m tests.audit.known`.

Medians of 200 repeats with 20,000 trials in all, at 95 %, delta 1e-5; behind each, the share of bounds above the truth.
The last line is of uninformative scores (2,000 repeats), where that is every bound above 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from bench.audit.bounds import clopper_pearson, one_run, rank

TRIALS, DELTA, ALPHA = 20_000, 1e-5, 0.05


def bounds(mu: float, rng: np.random.Generator) -> list[float]:
    """Of one audit: gaussian_dp, beta_binomial, clopper_pearson and one_run, each on its kind of trials."""
    half = TRIALS // 2
    rules = rank.rules(np.sort(rng.normal(mu, 1, half)), np.sort(rng.normal(0, 1, half)))
    coins = rng.random(TRIALS) < 0.5
    return [
        rank.epsilon_of_mu(rank.mu(rules, ALPHA), DELTA),
        rank.epsilon(rules, DELTA, ALPHA),
        clopper_pearson.epsilon(clopper_pearson.at_ranks(rules, ALPHA), DELTA),
        one_run.bound(rng.normal(0, 1, TRIALS) + mu * coins, coins, DELTA, ALPHA, rng),
    ]


def row(epsilon: float, mu: float, repeats: int) -> str:
    """One line of the table."""
    rng = np.random.default_rng(11)
    found: NDArray[np.float64] = np.array([bounds(mu, rng) for _ in range(repeats)])
    cells = zip(np.median(found, axis=0), (found > epsilon).mean(axis=0), strict=True)
    return f"| {epsilon} | " + " | ".join(f"{value:.2f} ({above * 100:.2g} %)" for value, above in cells) + " |"


if __name__ == "__main__":
    for epsilon in (1, 2, 4):
        mu = optimize.brentq(lambda mu, epsilon=epsilon: rank.epsilon_of_mu(mu, DELTA) - epsilon, 0.01, 5)
        print(row(epsilon, float(mu), 200), flush=True)
    print(row(0, 0.0, 2_000))
