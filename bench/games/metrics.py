"""Scores in, estimates out. Larger scores mean "member"; ties never depend on the order; every interval is at 95 %."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.games import intervals
from bench.games.intervals import TAIL, Estimate, Z, clopper_pearson, wilson

ROC_POINTS = 200


def auc(scores: NDArray[Any], member: NDArray[Any], *, spread: float = 1.0) -> Estimate:
    """Area under the ROC curve, ties counted half, with DeLong's interval on the logit scale.

    scores, member: (n,). spread widens the standard error, for scores whose variance DeLong understates. Where the two
    sides do not overlap DeLong's variance is 0 and the interval is Clopper-Pearson's for as many trials as the smaller
    side has records. Raises ValueError for scores that no attack should return. DeLong et al., Biometrics 44 (1988).
    """
    scores, member = checked(scores, member)
    of_members, of_others = intervals.placements(scores, member)
    value = float(of_members.mean())
    if scores.min() == scores.max():
        return {"value": 0.5, "low": 0.5, "high": 0.5, "se": 0.0}
    if not (of_members.std() or of_others.std()):
        low, high = clopper_pearson(round(value) * (k := min(len(of_members), len(of_others))), k)
        return {"value": value, "low": low, "high": high, "se": (high - low) / (2 * Z)}
    se = spread * math.sqrt(of_members.var(ddof=1) / len(of_members) + of_others.var(ddof=1) / len(of_others))
    low, high = intervals.delong(value, se)
    return {"value": value, "low": low, "high": high, "se": se}


def advantage(scores: NDArray[Any], member: NDArray[Any], rng: np.random.Generator) -> Estimate:
    """TPR less FPR at a threshold that is chosen on one random half and scored on the other, both ways, pooled.

    Chosen and scored on the same records it would be positive on pure noise. The interval is Newcombe's. Raises like
    `auc`.
    """
    scores, member = checked(scores, member)
    half = np.zeros(len(scores), bool)
    for side in (True, False):
        rows = rng.permutation(np.flatnonzero(member == side))
        half[rows[: (len(rows) + int(rng.integers(2))) // 2]] = True
    guess = np.zeros(len(scores), bool)
    for fit, scored in ((half, ~half), (~half, half)):
        guess[scored] = scores[scored] >= _best_threshold(scores[fit], member[fit])
    hits, alarms = guess[member], guess[~member]
    return intervals.newcombe(int(hits.sum()), len(hits), int(alarms.sum()), len(alarms))


def balanced_accuracy(advantage: Estimate) -> Estimate:
    """Mean of the two sides' accuracies at the threshold behind an `advantage`: (1 + advantage) / 2."""
    return {**{key: (1 + advantage[key]) / 2 for key in ("value", "low", "high")}, "se": advantage["se"] / 2}


def tpr_at_fpr(scores: NDArray[Any], member: NDArray[Any], fpr: float) -> dict[str, Any]:
    """TPR at the lowest threshold whose share of false alarms is at most fpr, and where TPR at a true fpr can lie.

    An estimate with both counts and the FPR that was realised, or {"not_measurable": why} with fewer than 10 / fpr
    non-members. The threshold is itself an estimate, so the interval spends half of its 5 % on where the true one is
    among the non-members (binomial quantiles) and half on the members above it (Clopper-Pearson); Clopper-Pearson at
    the chosen threshold alone covers under 70 % where members are many. Raises like `auc`.
    """
    from scipy import stats

    scores, member = checked(scores, member)
    members, others = int(member.sum()), int((~member).sum())
    needed = math.ceil(round(10 / fpr, 6))
    if others < needed:
        return {"not_measurable": f"{others} non-members; {needed} are needed"}
    fp, tp, _ = _cumulative(scores, member)

    def at(allowed: float) -> tuple[int, int]:
        last = int(np.flatnonzero(fp <= allowed)[-1])
        return int(tp[last]), int(fp[last])

    hits, alarms = at(fpr * others * (1 + 1e-12))
    fewest, most = (int(stats.binom.ppf(q, others, fpr)) for q in (TAIL / 2, 1 - TAIL / 2))
    # Strictly fewer alarms than at the true threshold can only miss members, at most as many more can only add some.
    low = clopper_pearson(at(fewest - 1)[0], members, TAIL / 2)[0] if fewest else 0.0
    high = clopper_pearson(at(most)[0], members, TAIL / 2)[1]
    fpr_low, fpr_high = clopper_pearson(alarms, others)
    return {
        "value": hits / members,
        "low": low,
        "high": high,
        "fpr": alarms / others,
        "fpr_low": fpr_low,
        "fpr_high": fpr_high,
        "true_positives": hits,
        "members": members,
        "false_positives": alarms,
        "non_members": others,
    }


def roc(scores: NDArray[Any], member: NDArray[Any]) -> dict[str, list[int]]:
    """Counts of false and true positives as the threshold falls: at most 200 corners, spaced for a log axis.

    Of the corners with one fp the highest is kept; the first has fp 0, the last is everything. Raises like `auc`.
    """
    fp, tp, _ = _cumulative(*checked(scores, member))
    top = np.append(fp[1:] != fp[:-1], True)
    fp, tp = fp[top], tp[top]
    grid = np.geomspace(1, fp[-1], ROC_POINTS - 2)
    keep = np.unique(np.concatenate([[0], np.searchsorted(fp, grid, "right") - 1, [len(fp) - 1]]))
    return {"fp": fp[keep].tolist(), "tp": tp[keep].tolist()}


def accuracy(correct: NDArray[Any]) -> Estimate:
    """Share of true entries of a boolean (n,) array, with Wilson's interval. Raises ValueError where it is empty."""
    correct = np.asarray(correct)
    if correct.dtype != bool or correct.ndim != 1 or not len(correct):
        raise ValueError(f"expected a boolean array (n,), n > 0, but got {correct.dtype} {correct.shape}")
    low, high = wilson(int(correct.sum()), len(correct))
    return {"value": float(correct.mean()), "low": low, "high": high}


def balanced_recall(correct: NDArray[Any], group: NDArray[Any]) -> Estimate:
    """Mean over groups of the share of true entries of a boolean (n,) array; group: (n,) integers.

    The interval adds up the groups' Wilson intervals as Newcombe does (Statistics in Medicine 17, 1998, method 10; for
    means, Zou and Donner 2008); the standard error is read off it. Raises ValueError where the array is empty.
    """
    shares = [accuracy(np.asarray(correct)[group == g]) for g in np.unique(group)] or [accuracy(correct)]
    value = math.fsum(one["value"] for one in shares) / len(shares)
    low = value - math.hypot(*(one["value"] - one["low"] for one in shares)) / len(shares)
    high = value + math.hypot(*(one["high"] - one["value"] for one in shares)) / len(shares)
    return {"value": value, "low": low, "high": high, "se": (high - low) / (2 * Z)}


def share(shares: NDArray[Any]) -> Estimate:
    """Mean of numbers in [0, 1], one per unit (n,), with Wilson's interval of n trials.

    No numbers in [0, 1] of that mean vary more than those that are 0 or 1, so it is not too narrow. Raises ValueError
    for other numbers.
    """
    shares = checked_shares(shares)
    low, high = wilson(float(shares.sum()), len(shares))
    return {"value": float(shares.mean()), "low": low, "high": high, "se": (high - low) / (2 * Z)}


def average(values: NDArray[Any]) -> dict[str, Any]:
    """Mean of numbers in [-1, 1], one per unit (n,), with Student's interval, or why a single one has none."""
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values) or not (abs(values) <= 1).all():
        raise ValueError(f"expected numbers (n,), n > 0, from -1 to 1, but got shape {values.shape}")
    if len(values) == 1:
        return {"not_measurable": "one class alone has no spread"}
    value, se = float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))
    half = intervals.student(len(values) - 1) * se
    return {"value": value, "low": max(-1.0, value - half), "high": min(1.0, value + half), "se": se}


def checked(scores: NDArray[Any], member: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores (n,) as float64, and who is a member. Raises ValueError for what no attack should return."""
    member, scores = np.asarray(member), np.asarray(scores)
    if member.dtype != bool or member.ndim != 1 or min(member.sum(), (~member).sum()) < 2:
        raise ValueError("member must be a boolean array (n,) with at least 2 members and 2 non-members")
    if scores.shape != member.shape or scores.dtype.kind not in "biuf":
        raise ValueError(f"expected real scores of shape {member.shape}, but got {scores.dtype} {scores.shape}")
    scores = scores.astype(np.float64)
    bad = int((~np.isfinite(scores)).sum())
    if bad:
        raise ValueError(f"{bad} of {len(scores)} scores are not finite")
    return scores, member


def checked_shares(shares: NDArray[Any]) -> NDArray[np.float64]:
    """Shares (n,) as float64. Raises ValueError for what is none."""
    shares = np.asarray(shares, np.float64)
    if shares.ndim != 1 or not len(shares) or not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError(f"expected shares (n,), n > 0, from 0 to 1, but got shape {shares.shape}")
    return shares


def _cumulative(scores: NDArray[Any], member: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """fp and tp counts of "score >= threshold" at thresholds inf and then every distinct score, falling."""
    order = np.argsort(-scores, kind="stable")
    falling, is_member = scores[order], member[order]
    ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
    tp, fp = np.cumsum(is_member)[ends], np.cumsum(~is_member)[ends]
    return np.append(0, fp), np.append(0, tp), np.append(np.inf, falling[ends])


def _best_threshold(scores: NDArray[Any], member: NDArray[Any]) -> float:
    fp, tp, thresholds = _cumulative(scores, member)
    return float(thresholds[np.argmax(tp / tp[-1] - fp / fp[-1])])
