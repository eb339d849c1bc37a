"""Scores in, figures out. Larger scores mean "member"; ties never depend on the order; every interval is at 95 %."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Figure = dict[str, float]
Z = 1.959963984540054
TAIL = 0.025  # of a 95 % interval
ROC_POINTS = 200


def auc(scores: NDArray[Any], member: NDArray[Any], *, spread: float = 1.0) -> Figure:
    """Area under the ROC curve, ties counted half, with DeLong's interval on the logit scale.

    scores, member: (n,). spread widens the standard error, for scores whose variance DeLong understates. Where the two
    sides do not overlap DeLong's variance is 0 and the interval is Clopper-Pearson's for as many trials as the smaller
    side has records. Raises ValueError for scores that no attack should return. DeLong et al., Biometrics 44 (1988).
    """
    scores, member = _checked(scores, member)
    of_members, of_others = _placements(scores, member)
    value = float(of_members.mean())
    if scores.min() == scores.max():
        return {"value": 0.5, "low": 0.5, "high": 0.5, "se": 0.0}
    if not (of_members.std() or of_others.std()):
        low, high = _clopper_pearson(round(value) * (k := min(len(of_members), len(of_others))), k)
        return {"value": value, "low": low, "high": high, "se": (high - low) / (2 * Z)}
    se = spread * math.sqrt(of_members.var(ddof=1) / len(of_members) + of_others.var(ddof=1) / len(of_others))
    centre, half = math.log(value / (1 - value)), min(Z * se / (value * (1 - value)), 300.0)
    low, high = (1 / (1 + math.exp(-(centre + side * half))) for side in (-1, 1))
    return {"value": value, "low": low, "high": high, "se": se}


def paired_gain(a: NDArray[Any], b: NDArray[Any], member: NDArray[Any], *, spread: float = 1.0) -> Figure:
    """AUC of a less AUC of b on the same records, with DeLong's covariance; spread belongs to b, as in `auc`."""
    first, second = auc(a, member), auc(b, member, spread=spread)
    value = first["value"] - second["value"]
    at_edge = {first["value"], second["value"]} & {0.0, 1.0}
    if at_edge:  # DeLong's variance is 0 there, and so would be its covariance
        variance = first["se"] ** 2 + second["se"] ** 2
    else:
        parts = zip(_placements(*_checked(a, member)), _placements(*_checked(b, member)), strict=True)
        variance = sum(float((x - y).var(ddof=1)) / len(x) for x, y in parts)
        variance += second["se"] ** 2 * (1 - 1 / spread**2)
    return _around(value, math.sqrt(variance))


def placements(scores: NDArray[Any], member: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """What an AUC is made of, for `paired`: DeLong's components of the members and of the others."""
    members, others = _placements(*_checked(scores, member))
    return {"units_members": members.astype(np.float32), "units_others": others.astype(np.float32)}


def recalls(correct: NDArray[Any], group: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """What a `balanced_recall` is made of, for `paired`: of each group, who was right, over the number of groups."""
    groups = np.unique(group)
    return {f"units_{g}": (correct[group == g] / len(groups)).astype(np.float32) for g in groups}


def paired(a: Mapping[str, NDArray[Any]], b: Mapping[str, NDArray[Any]]) -> float:
    """Standard error of the difference of two headline figures on the same targets.

    a, b: `answers` of two cells. What is called `units...` are strata of units, the same on both sides, of which the
    figure is a sum of means: its variance is the sum of the variances of the means of their differences. Raises
    ValueError where the two were not asked the same.
    """
    strata = [name for name in a if name.startswith("units")]
    if set(strata) != {name for name in b if name.startswith("units")} or any(a[s].shape != b[s].shape for s in strata):
        raise ValueError("two cells can be compared only where they were asked about the same targets")
    differences = [a[s].astype(np.float64) - b[s] for s in strata]
    return math.sqrt(math.fsum(d.var(ddof=1) / len(d) for d in differences if len(d) > 1))


def advantage(scores: NDArray[Any], member: NDArray[Any], rng: np.random.Generator) -> Figure:
    """TPR less FPR at a threshold that is chosen on one random half and scored on the other, both ways, pooled.

    Chosen and scored on the same records it would be positive on pure noise. The interval is Newcombe's hybrid score
    interval, Statistics in Medicine 17 (1998), method 10; the standard error is read off it. Raises like `auc`.
    """
    scores, member = _checked(scores, member)
    half = np.zeros(len(scores), bool)
    for side in (True, False):
        rows = rng.permutation(np.flatnonzero(member == side))
        half[rows[: (len(rows) + int(rng.integers(2))) // 2]] = True
    guess = np.zeros(len(scores), bool)
    for fit, held in ((half, ~half), (~half, half)):
        guess[held] = scores[held] >= _best_threshold(scores[fit], member[fit])
    hits, alarms = guess[member], guess[~member]
    return _difference(int(hits.sum()), len(hits), int(alarms.sum()), len(alarms))


def balanced_accuracy(found: Figure) -> Figure:
    """Mean of the two sides' accuracies at the threshold behind an `advantage`: (1 + advantage) / 2."""
    return {**{key: (1 + found[key]) / 2 for key in ("value", "low", "high")}, "se": found["se"] / 2}


def tpr_at_fpr(scores: NDArray[Any], member: NDArray[Any], fpr: float) -> dict[str, Any]:
    """TPR at the lowest threshold whose share of false alarms is at most fpr, and where TPR at a true fpr can lie.

    A figure with both counts and the FPR that was realised, or {"not_measurable": why} with fewer than 10 / fpr
    non-members. The threshold is itself an estimate, so the interval spends half of its 5 % on where the true one is
    among the non-members (binomial quantiles) and half on the members above it (Clopper-Pearson); Clopper-Pearson at
    the chosen threshold alone covers under 70 % where members are many. Raises like `auc`.
    """
    from scipy import stats

    scores, member = _checked(scores, member)
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
    low = _clopper_pearson(at(fewest - 1)[0], members, TAIL / 2)[0] if fewest else 0.0
    high = _clopper_pearson(at(most)[0], members, TAIL / 2)[1]
    fpr_low, fpr_high = _clopper_pearson(alarms, others)
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
    fp, tp, _ = _cumulative(*_checked(scores, member))
    top = np.append(fp[1:] != fp[:-1], True)
    fp, tp = fp[top], tp[top]
    grid = np.geomspace(1, fp[-1], ROC_POINTS - 2)
    keep = np.unique(np.concatenate([[0], np.searchsorted(fp, grid, "right") - 1, [len(fp) - 1]]))
    return {"fp": fp[keep].tolist(), "tp": tp[keep].tolist()}


def accuracy(correct: NDArray[Any]) -> Figure:
    """Share of true entries of a boolean (n,) array, with Wilson's interval. Raises ValueError where it is empty."""
    correct = np.asarray(correct)
    if correct.dtype != bool or correct.ndim != 1 or not len(correct):
        raise ValueError(f"expected a boolean array (n,), n > 0, but got {correct.dtype} {correct.shape}")
    low, high = _wilson(int(correct.sum()), len(correct))
    return {"value": float(correct.mean()), "low": low, "high": high}


def balanced_recall(correct: NDArray[Any], group: NDArray[Any]) -> Figure:
    """Mean over groups of the share of true entries of a boolean (n,) array; group: (n,) integers.

    The interval adds up the groups' Wilson intervals as Newcombe does (Statistics in Medicine 17, 1998, method 10; for
    means, Zou and Donner 2008); the standard error is read off it. Raises ValueError where the array is empty.
    """
    shares = [accuracy(np.asarray(correct)[group == g]) for g in np.unique(group)] or [accuracy(correct)]
    value = math.fsum(one["value"] for one in shares) / len(shares)
    low = value - math.hypot(*(one["value"] - one["low"] for one in shares)) / len(shares)
    high = value + math.hypot(*(one["high"] - one["value"] for one in shares)) / len(shares)
    return {"value": value, "low": low, "high": high, "se": (high - low) / (2 * Z)}


def paired_recall(a: NDArray[Any], b: NDArray[Any], group: NDArray[Any]) -> Figure:
    """`balanced_recall` of a less that of b on the same records.

    The variance is of the records on which they differ, as in McNemar's test, with half a record added to each of the
    four cells of each group (Agresti and Min, Statistics in Medicine 24, 2005), so that it is never 0.
    """
    value, variance, groups = 0.0, 0.0, np.unique(group)
    for g in groups:
        first, second = a[group == g], b[group == g]
        only_a, only_b, n = int((first & ~second).sum()), int((~first & second).sum()), len(first)
        value += (only_a - only_b) / n / len(groups)
        p, q = (only_a + 0.5) / (n + 2), (only_b + 0.5) / (n + 2)
        variance += (p + q - (p - q) ** 2) / (n + 2) / len(groups) ** 2
    return _around(value, math.sqrt(variance))


def difference(a: Figure, b: Figure) -> Figure:
    """a less b, of different records."""
    return _around(a["value"] - b["value"], math.hypot(a["se"], b["se"]))


def _around(value: float, se: float) -> Figure:
    return {"value": value, "low": max(-1.0, value - Z * se), "high": min(1.0, value + Z * se), "se": se}


def share(shares: NDArray[Any]) -> Figure:
    """Mean of numbers in [0, 1], one a unit (n,), with Wilson's interval of n trials.

    No numbers in [0, 1] of that mean vary more than those that are 0 or 1, so it is not too narrow. Raises ValueError
    for other numbers.
    """
    shares = _shares(shares)
    low, high = _wilson(float(shares.sum()), len(shares))
    return {"value": float(shares.mean()), "low": low, "high": high, "se": (high - low) / (2 * Z)}


def share_gain(a: NDArray[Any], b: NDArray[Any]) -> Figure:
    """Mean of a less mean of b, numbers in [0, 1] of the same units (n,), with Newcombe's interval for paired shares.

    Statistics in Medicine 17 (1998) 2635, method 10: two Wilson intervals and the correlation over the units, but only
    a negative one, which widens it: ten units do not tell how far a positive one may narrow it (it would cover 87 %).
    Raises ValueError like `share`, and for unequal lengths.
    """
    a, b = _shares(a), _shares(b)
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} units cannot be paired")
    (p, q), ((p_low, p_high), (q_low, q_high)) = (a.mean(), b.mean()), (_wilson(float(x.sum()), len(x)) for x in (a, b))
    against = max(0.0, -float(np.corrcoef(a, b)[0, 1])) if a.std() and b.std() else 0.0

    def half(x: float, y: float) -> float:
        return math.sqrt(x**2 + y**2 + 2 * against * x * y)

    low, high = p - q - half(p - p_low, q_high - q), p - q + half(p_high - p, q - q_low)
    return {"value": float(p - q), "low": float(low), "high": float(high), "se": float(high - low) / (2 * Z)}


def average(values: NDArray[Any]) -> dict[str, Any]:
    """Mean of numbers in [-1, 1], one a unit (n,), with Student's interval, or why a single one has none."""
    from scipy import special

    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values) or not (abs(values) <= 1).all():
        raise ValueError(f"expected numbers (n,), n > 0, from -1 to 1, but got shape {values.shape}")
    if len(values) == 1:
        return {"not_measurable": "one class alone has no spread"}
    value, se = float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))
    half = float(special.stdtrit(len(values) - 1, 1 - TAIL)) * se
    return {"value": value, "low": max(-1.0, value - half), "high": min(1.0, value + half), "se": se}


def _shares(shares: NDArray[Any]) -> NDArray[Any]:
    shares = np.asarray(shares, np.float64)
    if shares.ndim != 1 or not len(shares) or not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError(f"expected shares (n,), n > 0, from 0 to 1, but got shape {shares.shape}")
    return shares


def over_seeds(values: list[float], ses: list[float], *, between: bool = True) -> Figure:
    """Mean over seeds; the interval is the wider of Student's, between seeds, and the one within them.

    between=False leaves Student's out: what holds for these very seeds, not for others. For paired differences.
    """
    from scipy import special

    k = len(values)
    if not k or len(ses) != k:
        raise ValueError(f"{k} values came with {len(ses)} standard errors")
    mean = math.fsum(values) / k
    half = Z * math.sqrt(math.fsum(se**2 for se in ses)) / k
    if k > 1 and between:
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (k - 1))
        half = max(half, float(special.stdtrit(k - 1, 0.975)) * deviation / math.sqrt(k))
    return {"value": mean, "low": mean - half, "high": mean + half}


def _checked(scores: NDArray[Any], member: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
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


def _placements(scores: NDArray[Any], member: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Of each member the share of non-members below it, of each non-member the share of members above; ties half."""
    ours, others = np.sort(scores[member]), np.sort(scores[~member])
    above = np.searchsorted(others, scores[member], "left") + np.searchsorted(others, scores[member], "right")
    below = np.searchsorted(ours, scores[~member], "left") + np.searchsorted(ours, scores[~member], "right")
    return above / (2 * len(others)), 1 - below / (2 * len(ours))


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


def _clopper_pearson(hits: int, n: int, tail: float = TAIL) -> tuple[float, float]:
    from scipy import special

    low = float(special.betaincinv(hits, n - hits + 1, tail)) if hits else 0.0
    high = float(special.betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
    return low, high


def _wilson(hits: float, n: int) -> tuple[float, float]:
    p = hits / n
    centre, half = p + Z**2 / (2 * n), Z * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    low, high = (centre - half) / (1 + Z**2 / n), (centre + half) / (1 + Z**2 / n)
    return (low if hits else 0.0), (high if hits < n else 1.0)  # rounding would leave the ends a hair off


def _difference(hits: int, members: int, alarms: int, others: int) -> Figure:
    tpr, fpr = hits / members, alarms / others
    (tpr_low, tpr_high), (fpr_low, fpr_high) = _wilson(hits, members), _wilson(alarms, others)
    low = tpr - fpr - math.hypot(tpr - tpr_low, fpr_high - fpr)
    high = tpr - fpr + math.hypot(tpr_high - tpr, fpr - fpr_low)
    return {"value": tpr - fpr, "low": low, "high": high, "se": (high - low) / (2 * Z)}
