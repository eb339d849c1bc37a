"""The standard classifier: what everybody downstream trains, on private, public, encoded or synthetic records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench import nets
from bench.data import Examples
from bench.errors import UserError
from bench.release import Map
from bench.training import Fit, Privacy, Recipe, train


@dataclass(frozen=True)
class Classified:
    """A trained classifier: its Keras model (logits), records -> probabilities, and its fit."""

    model: Any
    predict: Map
    fit: Fit


def classify(
    examples: Examples,
    seed: int,
    *,
    hidden: Sequence[int] = (128,),
    steps: int = 400,
    rate: float | None = None,
    learning_rate: float = 1e-3,
    activation: str = "relu",
    privacy: Privacy | None = None,
    what: str = "classifier",
) -> Classified:
    """Train the dense classifier on `examples`; with `privacy` by DP-SGD, else plainly.

    rate: chance of a record to be in a batch, by default 128 expected. The number of examples is taken as public.
    """
    n = max(1, len(examples))
    rate = min(1.0, 128 / n) if rate is None else rate
    net = nets.Classifier(examples.shape, examples.classes, tuple(hidden), activation)
    recipe = Recipe(net, steps, rate, max(1.0, rate * n), learning_rate, privacy=privacy)
    [fit] = train(recipe, [examples], [seed], what)
    model = nets.build(net, nets.Single())
    model.set_weights(fit.weights)
    return Classified(model, nets.mapping(model, after="softmax"), fit)


def uniform(classes: int) -> Any:
    """A predictor that says the same to everyone: every class equally likely."""
    return lambda x: np.full((len(x), classes), 1 / classes, np.float32)


def batch_rate(n: int, batch_size: int) -> float:
    """The Poisson rate that expects `batch_size` of n records; at most 1."""
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}.")
    return min(1.0, batch_size / max(1, n))
