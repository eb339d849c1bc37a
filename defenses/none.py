"""The undefended classifier: the baseline of every defense."""

from __future__ import annotations

from typing import Annotated

from bench.core.component import defense
from bench.core.dataset import Examples
from bench.core.release import Release
from bench.dp import accounting
from bench.dp.layers import HIDDEN
from bench.dp.recipe import BATCH_SIZE, LEARNING_RATE
from bench.models.classifier import CLASSIFIER_STEPS, classify, standard


@defense("none", publishes={"predict", "model"}, undefended=True)
def none(
    private: Examples,
    public: Examples,
    *,
    seed: int,
    hidden: Annotated[tuple[int, ...], HIDDEN] = (128,),
    steps: Annotated[int, CLASSIFIER_STEPS] = 1500,
    batch_size: Annotated[int, BATCH_SIZE] = 128,
    learning_rate: Annotated[float, LEARNING_RATE] = 0.001,
) -> Release:
    """The undefended classifier, trained on the private records until it over-fits."""
    recipe = standard(private, hidden=hidden, steps=steps, batch_size=batch_size, learning_rate=learning_rate)
    trained = classify(private, seed, recipe, "none: classifier")
    return Release(accounting.no_privacy(), predict=trained.predict, model=trained.model)
