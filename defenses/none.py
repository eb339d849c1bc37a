"""The undefended classifier: what every defense is measured against."""

from __future__ import annotations

from bench.core.component import defense
from bench.core.dataset import Examples
from bench.core.release import Release
from bench.dp import accounting
from bench.models.classifier import classify, standard


@defense("none", publishes={"predict", "model"})
def none(
    private: Examples,
    public: Examples,
    *,
    seed: int,
    hidden: tuple[int, ...] = (128,),
    steps: int = 1500,
    batch_size: int = 128,
    learning_rate: float = 0.001,
) -> Release:
    """The undefended classifier, trained on the private records until it over-fits."""
    recipe = standard(private, hidden=hidden, steps=steps, batch_size=batch_size, learning_rate=learning_rate)
    trained = classify(private, seed, recipe, "none: classifier")
    return Release(accounting.no_privacy(), predict=trained.predict, model=trained.model)
