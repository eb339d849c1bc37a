"""Random scores, and a naive computation of DeLong's components."""

from __future__ import annotations

import numpy as np


def drawn(seed: int, members: int, others: int, shift: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.arange(members + others) < members)
    return rng.normal(size=len(member)) + shift * member, member


def delong_truth(scores: np.ndarray, member: np.ndarray) -> tuple[float, float, np.ndarray, np.ndarray]:
    members, others = scores[member], scores[~member]
    wins = np.array([[float(a > b) + 0.5 * float(a == b) for b in others] for a in members])
    v10, v01 = wins.mean(1), wins.mean(0)
    return wins.mean(), v10.var(ddof=1) / len(v10) + v01.var(ddof=1) / len(v01), v10, v01
