"""The likelihood ratio attack: is this the confidence of models that saw the record, or of those that did not?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option, attack
from bench.core.dataset import Examples
from bench.core.release import Release
from bench.games import MEMBERSHIP, Targets
from bench.games.shadow_models import ask, check_alike, train_shadows

MANY = 64  # shadows from which on a record has a variance of its own (Carlini et al. 2022, section VI-C)
LEAST = 1e-6  # of a standard deviation: what single precision tells apart
Array = NDArray[np.float64]


@attack("lira", game=MEMBERSHIP, needs={"predict", "retrain"}, floor=0.8)
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

    The shadows are trained through the defense. online=false asks only those that did not see the record how unusually
    high its confidence is, as an adversary must who has trained them before there was anything to ask.
    """
    trained = train_shadows(release, targets, public, shadows)
    own, theirs = ask(release, logits, targets.records), trained.ask(logits, targets.records)
    check_alike(own, theirs)
    return likelihood_ratio(own, theirs, trained.inside, online=online)


def logits(probabilities: Array, y: NDArray[Any]) -> Array:
    """log(p / (1 - p)) of the true label, (n,): nearly Gaussian, where p itself piles up at 1 (section V-B).

    1 - p is added up from the other classes, which stay apart where p itself is rounded to 1.
    """
    rows = np.arange(len(y))
    others = probabilities.copy()
    others[rows, y] = 0
    p = probabilities[rows, y]
    return np.asarray(np.log(np.maximum(p, 1e-30)) - np.log(np.maximum(others.sum(1), 1e-30)))


def likelihood_ratio(confidence: Array, shadows: Array, inside: NDArray[np.bool_], *, online: bool = True) -> Array:
    """Scores (n,) of the release's confidences (n,) against those of shadows (k, n), of which `inside` (k, n) saw it.

    Online: log of the ratio of the two Gaussian densities. Offline: standard deviations above those that did not see
    it, which is monotone in the paper's one-sided test. A record that no shadow saw, or that all saw, borrows the mean
    that it lacks from the usual distance between the two.
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
    """Variances (n,) around the means of either side: one for all records, from MANY shadows on each record's own."""
    squares = [np.where(side, (shadows - mean) ** 2, 0).sum(0) for side, mean in zip(sides, means, strict=True)]
    freedom = [np.maximum(side.sum(0) - 1, 0) for side in sides]
    together = sum(s.sum() for s in squares) / max(1, sum(f.sum() for f in freedom))  # of few shadows
    found = []
    for s, f in zip(squares, freedom, strict=True):
        pooled = s.sum() / f.sum() if f.any() else together
        own = np.where(f > 0, s / np.maximum(f, 1), pooled) if len(shadows) >= MANY else np.full(len(s), pooled)
        found.append(np.maximum(own, LEAST**2))
    return found
