"""Modified entropy: members are those on whom the model is sure and right, each class by a threshold of its own."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option, attack
from bench.core.dataset import Examples
from bench.core.release import Release
from bench.games import MEMBERSHIP, Targets

LEAST = 1e-30
AS_MANY = 10.0  # records' worth of trust in what holds for all classes, where a class has few known records


@attack("modified_entropy", game=MEMBERSHIP, needs={"predict"}, floor=0.85)
def modified_entropy(
    release: Release,
    targets: Targets,
    public: Examples,
    *,
    seed: int,
    by_class: Annotated[bool, Option("standardise scores by the known non-members of the same class")] = True,
) -> NDArray[Any]:
    """Modified entropy threshold (Song and Mittal 2021, section 4.2): sure and right, against others of its class.

    by_class: scores are standard deviations above the known non-members of the same class, so that one threshold on
    them is a threshold for each class on the entropy; false: the bare entropy, one threshold for all.
    """
    assert release.predict is not None
    records, others = targets.records, targets.known[~targets.known_member]
    found = -np.log(_modified_entropy(release.predict(records.x), records.y))
    if not by_class:
        return np.asarray(found)
    calibration = -np.log(_modified_entropy(release.predict(others.x), others.y))
    mean, spread = _by_class(calibration, others.y, records.classes)
    return np.asarray((found - mean[records.y]) / spread[records.y])


def _modified_entropy(probabilities: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """Equation 8 there, (n,); 1 - p is added up from the other classes, which p itself rounded to 1 hides."""
    others, rows = probabilities.astype(np.float64), np.arange(len(y))
    own = others[rows, y]
    others[rows, y] = 0
    wrong = -(others * np.log(np.maximum(1 - others, LEAST))).sum(1)
    return np.asarray(np.maximum(wrong - others.sum(1) * np.log(np.maximum(own, LEAST)), LEAST))


def _by_class(scores: NDArray[Any], y: NDArray[Any], classes: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean and standard deviation of each class, drawn towards those of all as if by AS_MANY more records.

    On the scale of logarithms: the few large entropies among seven known records of a class would decide alone.
    """
    count = np.bincount(y, minlength=classes) + AS_MANY
    mean = (np.bincount(y, scores, classes) + AS_MANY * scores.mean()) / count
    variance = (np.bincount(y, (scores - mean[y]) ** 2, classes) + AS_MANY * scores.var()) / count
    return mean, np.sqrt(variance) + LEAST
