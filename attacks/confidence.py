"""The loss threshold: the model is more confident of the true label of members (Yeom et al. 2018, section 3)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import attack
from bench.core.dataset import Examples
from bench.core.release import Release
from bench.games import MEMBERSHIP, Targets


@attack("confidence", game=MEMBERSHIP, needs={"predict"}, required_score=0.9)
def confidence(release: Release, targets: Targets, public: Examples, *, seed: int) -> NDArray[Any]:
    """Loss threshold: the log probability of the true label, higher for members."""
    assert release.predict is not None
    records = targets.records
    probabilities = release.predict(records.x)[np.arange(len(records)), records.y]
    scores: NDArray[Any] = np.log(np.maximum(probabilities.astype(np.float64), 1e-30))
    return scores
