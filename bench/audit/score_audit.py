"""The bounds on epsilon that a file of scores proves, each with its assumption."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.audit.bounds import clopper_pearson, one_run, rank
from bench.audit.score_file import Scores
from bench.core.errors import UserError
from bench.core.randomness import stream
from bench.games import metrics
from bench.store.freshness import score_digest
from bench.store.score_rows import FPRS, RESTS_ON, ScoreRow, Words


def audit(scores: Scores, confidence: float = 0.95) -> ScoreRow:
    """All bounds, each at this confidence by itself, AUC and TPR at low FPR.

    The headline bound follows from what the file states about its scores, never from their values: the largest of
    several bounds would be wrong more often than 1 - confidence. Raises UserError for an invalid confidence.
    """
    if not 0.5 <= confidence < 1:
        raise UserError(f"a confidence lies between 0.5 and 1, as 0.95 does, but not at {confidence:g}.")
    alpha, delta = 1 - confidence, scores.delta
    held_in, held_out = (np.sort(scores.scores[side]) for side in (scores.member, ~scores.member))
    if scores.coins:
        headline, bounds = "one_run", _of_coins(scores, alpha)
    else:
        headline = "gaussian_dp" if scores.gaussian and delta else "beta_binomial"
        bounds = _of_trials(held_in, held_out, delta, alpha)
    ordered = np.concatenate([held_in, held_out])  # sorted runs halve the time of searches
    member = np.arange(len(ordered)) < len(held_in)
    tpr = {str(fpr): metrics.tpr_at_fpr(ordered, member, fpr) for fpr in FPRS}
    claim = "inf" if math.isinf(scores.epsilon) else scores.epsilon
    return ScoreRow(
        scores.defense, scores.data, scores.attack, scores.utility, claim, delta, confidence, len(held_in),
        len(held_out), headline, bounds, metrics.auc(ordered, member), tpr, score_digest(),
    )  # fmt: skip


def _of_trials(held_in: NDArray[Any], held_out: NDArray[Any], delta: float, alpha: float) -> dict[str, Words]:
    n, m = len(held_in), len(held_out)
    found, best = rank.rules(held_in, held_out), rank.perfect(n, m)
    bounds: dict[str, Words] = {
        "beta_binomial": {
            "value": rank.epsilon(found, delta, alpha),
            "most": max(rank.epsilon([one], delta, alpha) for one in best),
        },
        "clopper_pearson": {
            "value": clopper_pearson.epsilon(clopper_pearson.at_ranks(found, alpha), delta),
            "most": clopper_pearson.epsilon(clopper_pearson.at_counts(0, m, n, n, alpha), delta),
        },
        "gaussian_dp": {"not_measurable": "delta is 0"},
        "one_run": {"not_measurable": "no coins: the file holds no `included`"},
    }
    if delta:
        most = max(rank.mu([one], alpha) for one in best)
        both = ("value", rank.mu(found, alpha)), ("most", most)
        bounds["gaussian_dp"] = {name: rank.epsilon_of_mu(mu, delta) for name, mu in both}
    return bounds


def _of_coins(scores: Scores, alpha: float) -> dict[str, Words]:
    n = len(scores.scores)
    value = one_run.bound(scores.scores, scores.member, scores.delta, alpha, stream(0, "audit", "ties"))
    most = one_run.epsilon(n, n, n, scores.delta, alpha)
    dependent = {"not_measurable": "records of one training are not independent trials"}
    return dict.fromkeys(RESTS_ON, dependent) | {"one_run": {"value": value, "most": most}}
