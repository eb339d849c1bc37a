"""The noised sums of a private training, step by step, as an adversary with white-box access sees them.

They are computed from the state of the optimizer, so the code that runs is the one that ships. TensorFlow is imported
inside the functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples
from bench.dp.networks import Weights

if TYPE_CHECKING:
    from bench.dp.recipe import Recipe

Sums = NDArray[np.float64]


class Steps:
    """A private training of which each step gives what its optimizer was handed.

    A model per data set, as in `bench.dp.train.train`: recipes differ in rate, batch_size and privacy alone. Sums are
    the noised ones of clipped gradients, before they were divided, (models, parameters). alike: a seed from which every
    model has its first weights, batches and noise inputs; only noise then comes from the seed of the model.
    """

    def __init__(
        self, recipes: Sequence[Recipe], parts: Sequence[Examples], seeds: Sequence[int], alike: int | None = None
    ) -> None:
        from bench.dp.sampling import streams
        from bench.dp.training_loop import Training

        each = [streams(seed) for seed in seeds]
        if alike is not None:
            each = [replace(streams(alike), noise=one.noise) for one in each]
        self._training = Training(recipes, parts, seeds, each)
        self._recipe = recipes[0]
        self._variables = self._training.variables
        self._divisors = np.array([recipe.batch_size for recipe in recipes], np.float64)[:, None]
        self._begun = False
        self.initial_weights = self._training.weights  # before any step
        models = len(recipes)
        self.sizes = [w.shape.num_elements() // models for w in self._variables]  # of the variables in a sum
        self.shapes = [tuple(w.shape[1:] if models > 1 else w.shape) for w in self._variables]

    def step(self) -> Sums:
        """Take one step on the next Poisson batches."""
        [sums] = self.run(1)
        return np.asarray(sums)

    def run(self, steps: int, held: Weights | None = None) -> NDArray[np.float64]:
        """Take several in one go: the sums (steps, models, parameters). held: the weights at which each is taken."""
        found = []
        if held:
            self._training.set_steps(0)
        for rows in self._training.draw(steps):
            if held:
                self._training.set_weights(held)
            found.append(self._sum(rows))
        return np.array(found)

    def batch_sums(self, rows: Sequence[Sequence[int]], weights: Weights, number: int = 0) -> Sums:
        """The sums of batches with these rows of each data set, at these weights, were they those of step `number`."""
        width = max(1, *map(len, rows))
        padded = np.array([[*one, *[-1] * (width - len(one))] for one in rows], np.int32)
        self._training.set_weights(weights)
        self._training.set_steps(number)
        return self._sum(padded)

    def _sum(self, rows: NDArray[Any]) -> Sums:
        rate = float(self._training.optimizer._decayed_lr("float32").numpy())
        old = self._read()
        self._training.take(rows[None])
        self._begun = True
        new = self._read()
        momentum = self._recipe.momentum
        if self._recipe.optimizer == "adam":  # m' = b m + (1 - b) g
            decay = 0.9 if momentum is None else momentum
            gradients = (new - decay * old) / (1 - decay)
        else:  # v' = b v - rate g, and without momentum the weights move by -rate g
            gradients = ((momentum or 1.0) * old - new) / rate
        return np.asarray(gradients * self._divisors)

    @property
    def weights(self) -> Weights:
        """Of each variable, with a leading model axis."""
        return self._training.weights

    @property
    def variables(self) -> Sums:
        """All numbers that records train, (models, parameters), in the order of the sums."""
        return self._flat([v.numpy() for v in self._variables])

    def set_weights(self, weights: Weights) -> None:
        """Take the next step from these, each with a leading model axis; noise and noise inputs go on."""
        self._training.set_weights(weights)

    def _read(self) -> Sums:
        """The optimizer's first moments of each variable, or the variable itself, (models, parameters)."""
        if self._recipe.optimizer == "adam":
            held = [self._slot(v, "m") for v in self._variables]
        elif self._recipe.momentum:
            held = [self._slot(v, "momentum") for v in self._variables]
        else:
            return self.variables
        return self._flat(held)

    def _flat(self, arrays: Sequence[NDArray[Any]]) -> Sums:
        models = len(self._divisors)
        return np.concatenate([np.asarray(one, np.float64).reshape(models, -1) for one in arrays], axis=1)

    def _slot(self, variable: Any, name: str) -> NDArray[Any]:
        if not self._begun:
            return np.zeros(variable.shape)
        found: NDArray[Any] = self._training.optimizer.get_slot(variable, name).numpy()
        return found
