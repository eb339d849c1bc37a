"""Checks that the parameter update is a function of the noised sum alone, and that the last weights are returned."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bench.dp.networks import Weights
from bench.lint.replay import NOISE_MULTIPLIER, ReplayedTraining
from bench.lint.white_box_steps import Steps, Sums
from bench.store.records import LintFinding

if TYPE_CHECKING:
    from bench.dp.recipe import Recipe

PROBE = "optimizer update"
LENGTHS = 5, 12  # steps of two trainings: code that returns the best step seldom returns the last one of both
TOLERANCE = 0.01  # of the largest change in a step; the sums are computed from float32 moments
RETURNED = 1e-5  # of the largest weight


def optimizer_update(training: ReplayedTraining, steps: Steps, seed: int) -> list[LintFinding]:
    """Take the first steps of a noised training with this seed; steps: not begun."""
    recipes = training.recipes(NOISE_MULTIPLIER)
    sums, after, weights_after = [], [steps.variables], {}
    for taken in range(1, max(LENGTHS) + 1):
        sums.append(steps.step())
        after.append(steps.variables)
        if taken in LENGTHS:
            weights_after[taken] = [np.copy(weights) for weights in steps.weights]
    what = type(training.recipe.net).__name__
    batch = np.array([[recipe.batch_size] for recipe in recipes])
    expected = optimizer_moves(recipes[0], [one / batch for one in sums])
    for before, now, move in zip(after, after[1:], expected, strict=False):
        if not np.abs(now - before - move).max() <= TOLERANCE * np.abs(move).max():  # also true for NaN
            return [
                LintFinding(
                    PROBE,
                    f"a training step of {what} updates the weights by more than the noised sum: compute the learning "
                    "rate and the state of the optimizer from clipped and noised sums alone",
                )
            ]
    if not all(_returns_last_weights(training, taken, weights, seed) for taken, weights in weights_after.items()):
        return [
            LintFinding(
                PROBE,
                f"a training of {what} returns other weights than those after its last step: return these, since only "
                "private records tell which step is best",
            )
        ]
    return []


def optimizer_moves(recipe: Recipe, gradients: list[Sums]) -> list[Sums]:
    """The updates of the plain Keras optimizer of a recipe for these gradients, one after the other."""
    from bench.dp.tensorflow_setup import tensorflow
    from bench.dp.training_program import apply_gradients, make_optimizer

    tf = tensorflow()
    plain = make_optimizer([replace(recipe, privacy=None)], [])
    variable, found = tf.Variable(np.zeros(gradients[0].shape, np.float32)), []
    for gradient in gradients:
        variable.assign(tf.zeros_like(variable))
        apply_gradients(plain, [tf.constant(gradient, tf.float32)], [variable])
        found.append(np.asarray(variable.numpy(), np.float64))
    return found


def _returns_last_weights(training: ReplayedTraining, taken: int, weights: Weights, seed: int) -> bool:
    """Whether `train` with `taken` steps returns these weights."""
    from bench.dp.train import train

    fits = train(training.recipes(NOISE_MULTIPLIER, taken), [training.records] * training.models, training.seeds(seed))
    for i, expected in enumerate(weights):
        given = np.stack([fit.weights[i] for fit in fits])
        if not np.abs(given - expected).max(initial=0) <= RETURNED * np.abs(expected).max(initial=1):
            return False
    return True
