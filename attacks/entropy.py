"""Prediction entropy: the model is more confident on members, correct or not (Salem et al. 2019)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import attack
from bench.core.dataset import Examples
from bench.core.release import Release
from bench.games import MEMBERSHIP, Targets


@attack("entropy", game=MEMBERSHIP, needs={"predict"}, required_score=0.55)
def entropy(release: Release, targets: Targets, public: Examples, *, seed: int) -> NDArray[Any]:
    """Entropy threshold: how confident the prediction is, correct or not (Salem et al. 2019, section V)."""
    assert release.predict is not None
    p = np.maximum(release.predict(targets.records.x).astype(np.float64), 1e-30)
    return np.asarray((p * np.log(p)).sum(1))
