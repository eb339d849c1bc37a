"""The standard classifier, trained on private, public, encoded or synthetic records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.core.component import Option
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.release import Map
from bench.dp import networks
from bench.dp.layers import Single
from bench.dp.recipe import Fit, Recipe
from bench.dp.train import train

CLASSIFIER_STEPS = Option("training steps of the classifier", at_least=1)


@dataclass(frozen=True)
class Classified:
    """A trained classifier: its Keras model (logits), records -> probabilities, and its fit."""

    model: Any
    predict: Map
    fit: Fit


def standard(
    examples: Examples,
    *,
    hidden: tuple[int, ...] = (128,),
    steps: int = 400,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
) -> Recipe:
    """The usual plain training of a dense classifier on `examples`, whose number is taken as public."""
    rate = batch_rate(len(examples), batch_size)
    net = networks.Classifier(examples.shape, examples.classes, tuple(hidden))
    return Recipe(net, steps, rate, max(1.0, rate * len(examples)), learning_rate)


def classify(examples: Examples, seed: int, recipe: Recipe | None = None, what: str = "classifier") -> Classified:
    """Train a classifier (`recipe.net`) on `examples`, by default the standard one."""
    recipe = standard(examples) if recipe is None else recipe
    [fit] = train(recipe, [examples], [seed], what)
    model = networks.build(recipe.net, Single())
    model.set_weights(fit.weights)
    return Classified(model, networks.mapping(model, after="softmax"), fit)


def uniform(classes: int) -> Any:
    """A predictor that ignores its input: every class equally likely."""
    return lambda x: np.full((len(x), classes), 1 / classes, np.float32)


def batch_rate(n: int, batch_size: int) -> float:
    """The Poisson rate that expects `batch_size` of n records; at most 1."""
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}.")
    return min(1.0, batch_size / max(1, n))
