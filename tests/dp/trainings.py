"""Small networks, records, recipes and trainings for the tests of this folder."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np

from bench.core.dataset import Examples
from bench.dp.networks import Classifier
from bench.dp.recipe import Privacy, Recipe
from bench.dp.train import train
from bench.dp.vae import VAE

TINY = 1e-6  # the error rate of each statistical test
CLASSIFIER = Classifier((6,), 3, (5,), "tanh")
SMALL_VAE = VAE((6,), (5,), 2, "tanh")
CONVOLUTIONS = Classifier((3, 2, 1), 3, (4,), "tanh", (2, 3))
HUGE_CLIP = Privacy(1e6, 0.0)


def examples(n: int = 20, seed: int = 0, shape: tuple[int, ...] = (6,)) -> Examples:
    rng = np.random.default_rng(seed)
    return Examples(rng.random((n, *shape)), rng.integers(0, 3, n), 3)


def changed(part: Examples, row: int, value: float) -> Examples:
    """The same records with one changed, without the check that refuses such values."""
    x = part.x.copy()
    x[row, ::2] = value
    out = copy(part)
    object.__setattr__(out, "x", x)
    return out


def recipe(net: Any = CLASSIFIER, **changes: Any) -> Recipe:
    values = {"steps": 4, "rate": 0.5, "batch_size": 10.0, "learning_rate": 0.1, "optimizer": "sgd"}
    return Recipe(net, **{**values, "privacy": Privacy(0.5, 1.0), **changes})


def layered(*layers: Any, shape: tuple[int, ...] = (4,)) -> Any:
    """A Keras model of these layers, one after the other."""
    from tensorflow import keras

    x = h = keras.Input(shape)
    for layer in layers:
        h = layer(h)
    return keras.Model(x, h)


def flat(fit: Any) -> np.ndarray[Any, Any]:
    return np.concatenate([np.ravel(w) for w in fit.weights])


def one(made: Recipe, part: Examples, seed: int = 1) -> np.ndarray[Any, Any]:
    return flat(train(made, [part], [seed])[0])
