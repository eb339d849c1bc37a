"""What labelled public records achieve alone: the lower bound of every defense that uses them."""

from __future__ import annotations

from typing import Annotated

from bench.core.component import defense
from bench.core.dataset import Examples
from bench.core.randomness import derive
from bench.core.release import Release
from bench.dp import accounting
from bench.models.classifier import CLASSIFIER_STEPS, classify, standard


@defense("public_only", publishes={"predict", "model"}, private=True, public_knowledge=("the set of labels",))
def public_only(
    private: Examples, public: Examples, *, seed: int, classifier_steps: Annotated[int, CLASSIFIER_STEPS] = 600
) -> Release:
    """The classifier of dp_augm on the public records as they are: no private record read."""
    recipe = standard(public, steps=classifier_steps)
    trained = classify(public, derive(seed, "classifier"), recipe, "public_only: classifier")
    return Release(accounting.no_access(), predict=trained.predict, model=trained.model)
