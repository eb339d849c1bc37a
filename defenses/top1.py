"""Only the label is published, as many services do (Shokri et al. 2017, section VIII, with one class left)."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import defense
from bench.core.dataset import Examples
from bench.core.release import Release
from bench.models.classifier import CLASSIFIER_STEPS
from bench.models.output_perturbation import answering


@defense("top1", publishes={"predict"})
def top1(private: Examples, public: Examples, *, seed: int, steps: Annotated[int, CLASSIFIER_STEPS] = 1500) -> Release:
    """The undefended classifier, of which only the likeliest class is published: 1 for it, 0 for the others.

    Not by ART's ClassLabels: in 1.20.1 that sets a 1 for every class that any record of the batch has.
    """

    def label(probabilities: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(np.eye(probabilities.shape[1])[probabilities.argmax(axis=1)])

    return answering(private, seed, label, "top1: classifier", steps=steps)
