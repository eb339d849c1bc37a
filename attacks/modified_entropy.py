"""Modified entropy: the model is confident and correct on members; with one threshold per class."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option, attack
from bench.core.dataset import Examples
from bench.core.release import Release
from bench.games import MEMBERSHIP, Targets

LEAST = 1e-30
PRIOR_COUNT = 10.0  # records of all classes by which each class's statistics are regularised


@attack("modified_entropy", game=MEMBERSHIP, needs={"predict"}, required_score=0.85)
def modified_entropy(
    release: Release,
    targets: Targets,
    public: Examples,
    *,
    seed: int,
    by_class: Annotated[bool, Option("standardise scores by the known non-members of the same class")] = True,
) -> NDArray[Any]:
    """Modified entropy threshold (Song and Mittal 2021, section 4.2): confident and correct, relative to its class.

    by_class: scores are standard deviations above the known non-members of the same class, so that one threshold on
    them is one threshold per class on the entropy; false: the entropy itself, one threshold for all.
    """
    assert release.predict is not None
    records, non_members = targets.records, targets.known[~targets.known_member]
    scores = -np.log(entropy_of_truth(release.predict(records.x), records.y))
    if not by_class:
        return np.asarray(scores)
    calibration = -np.log(entropy_of_truth(release.predict(non_members.x), non_members.y))
    mean, spread = _by_class(calibration, non_members.y, records.classes)
    return np.asarray((scores - mean[records.y]) / spread[records.y])


def entropy_of_truth(probabilities: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """Equation 8 there, (n,); 1 - p is the sum over the other classes, as p may be rounded to 1."""
    others, rows = probabilities.astype(np.float64), np.arange(len(y))
    true = others[rows, y]
    others[rows, y] = 0
    wrong = -(others * np.log(np.maximum(1 - others, LEAST))).sum(1)
    return np.asarray(np.maximum(wrong - others.sum(1) * np.log(np.maximum(true, LEAST)), LEAST))


def _by_class(scores: NDArray[Any], y: NDArray[Any], classes: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean and standard deviation of each class, shrunk towards those of all by PRIOR_COUNT records.

    On the scale of logarithms: otherwise the few large entropies among seven known records of a class would dominate.
    """
    count = np.bincount(y, minlength=classes) + PRIOR_COUNT
    mean = (np.bincount(y, scores, classes) + PRIOR_COUNT * scores.mean()) / count
    variance = (np.bincount(y, (scores - mean[y]) ** 2, classes) + PRIOR_COUNT * scores.var()) / count
    return mean, np.sqrt(variance) + LEAST
