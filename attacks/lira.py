"""The likelihood ratio attack: is this the confidence of models trained with the record, or without it?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option, attack
from bench.core.dataset import Examples
from bench.core.release import Release
from bench.games import MEMBERSHIP, Targets
from bench.games.shadow_models import check_same_distribution, query, train_shadows

MANY = 64  # shadows from which on each record has its own variance (Carlini et al. 2022, section VI-C)
LEAST = 1e-6  # standard deviation: the resolution of single precision
Array = NDArray[np.float64]


@attack("lira", game=MEMBERSHIP, needs={"predict", "retrain"}, required_score=0.8)
def lira(
    release: Release,
    targets: Targets,
    public: Examples,
    *,
    seed: int,
    shadows: Annotated[int, Option("shadow models to train", at_least=2)] = 16,
    online: Annotated[bool, Option("use shadows with the record, too")] = True,
) -> NDArray[Any]:
    """LiRA (Carlini et al. 2022): Gaussian likelihood ratio of confidences of shadows with and without the record.

    The shadows are trained through the defense. online=false uses only those without the record, as an adversary must
    who trained them before the targets were known, and tests how unusually high the release's confidence is.
    """
    trained = train_shadows(release, targets, public, shadows)
    confidence, shadow_confidence = query(release, logits, targets.records), trained.query(logits, targets.records)
    check_same_distribution(confidence, shadow_confidence)
    return likelihood_ratio(confidence, shadow_confidence, trained.inside, online=online)


def logits(probabilities: Array, y: NDArray[Any]) -> Array:
    """log(p / (1 - p)) of the true label, (n,): nearly Gaussian, where p concentrates at 1 (section V-B).

    1 - p is the sum over the other classes, which keeps its digits where p is rounded to 1.
    """
    rows = np.arange(len(y))
    others = probabilities.copy()
    others[rows, y] = 0
    p = probabilities[rows, y]
    return np.asarray(np.log(np.maximum(p, 1e-30)) - np.log(np.maximum(others.sum(1), 1e-30)))


def likelihood_ratio(confidence: Array, shadows: Array, inside: NDArray[np.bool_], *, online: bool = True) -> Array:
    """Scores (n,) of the release's confidences (n,) against those of shadows (k, n), `inside` where trained with it.

    Online: log of the ratio of the two Gaussian densities. Offline: standard deviations above the shadows without the
    record, which is monotone in the paper's one-sided test. A record that no shadow was trained with, or all were, gets
    the mean that it lacks from the average gap between the two.
    """
    sides = (inside, ~inside)
    means = [_mean(shadows, side) for side in sides]
    in_both = inside.any(0) & ~inside.all(0)
    gap = float(np.mean((means[0] - means[1])[in_both])) if in_both.any() else 0.0
    means = [np.where(inside.any(0), means[0], means[1] + gap), np.where(inside.all(0), means[0] - gap, means[1])]
    variances = _variances(shadows, sides, means)
    if not online:
        return np.asarray((confidence - means[1]) / np.sqrt(variances[1]))
    surprise = [(confidence - mean) ** 2 / v + np.log(v) for mean, v in zip(means, variances, strict=True)]
    return np.asarray((surprise[1] - surprise[0]) / 2)


def _mean(shadows: Array, side: NDArray[np.bool_]) -> Array:
    return np.asarray(np.where(side, shadows, 0).sum(0) / np.maximum(side.sum(0), 1))


def _variances(shadows: Array, sides: Sequence[NDArray[np.bool_]], means: Sequence[Array]) -> list[Array]:
    """Variances (n,) around the means of either side: one for all records, from MANY shadows on one per record."""
    squares = [np.where(side, (shadows - mean) ** 2, 0).sum(0) for side, mean in zip(sides, means, strict=True)]
    freedom = [np.maximum(side.sum(0) - 1, 0) for side in sides]
    overall = sum(s.sum() for s in squares) / max(1, sum(f.sum() for f in freedom))  # of few shadows
    variances = []
    for s, f in zip(squares, freedom, strict=True):
        pooled = s.sum() / f.sum() if f.any() else overall
        each = np.where(f > 0, s / np.maximum(f, 1), pooled) if len(shadows) >= MANY else np.full(len(s), pooled)
        variances.append(np.maximum(each, LEAST**2))
    return variances
