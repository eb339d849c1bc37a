"""What a step makes of its noised sum: what any optimizer would, who never saw a record; and training returns that."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bench.dp.networks import Weights
from bench.lint.replay import NOISE, Asked
from bench.lint.white_box_steps import Steps, Sums
from bench.store.lint_verdicts import LintFinding

if TYPE_CHECKING:
    from bench.dp.recipe import Recipe

TAKEN = 5, 12  # steps of two trainings: whoever returns the best of them seldom returns the last of either
TOLERANCE = 0.01  # of the largest move of a step; float32 sums are read off moments
RETURNED = 1e-5  # of the largest weight


def update(asked: Asked, steps: Steps, seed: int) -> list[LintFinding]:
    """Take the first steps of a training with noise, whose `seed` is given; steps: one that has not begun."""
    recipes = asked.recipes(NOISE)
    sums, after, led_to = [], [steps.variables], {}
    for taken in range(1, max(TAKEN) + 1):
        sums.append(steps.step())
        after.append(steps.variables)
        if taken in TAKEN:
            led_to[taken] = [np.copy(held) for held in steps.weights]
    what = type(asked.recipe.net).__name__
    batch = np.array([[recipe.batch_size] for recipe in recipes])
    wanted = moves(recipes[0], [one / batch for one in sums])
    for before, now, move in zip(after, after[1:], wanted, strict=False):
        if not np.abs(now - before - move).max() <= TOLERANCE * np.abs(move).max():  # NaN is not
            return [
                LintFinding(
                    "update",
                    f"a training step of {what} moves the weights otherwise than by its noised sum alone: let the pace "
                    "and all that the optimizer remembers follow from what was clipped and noised",
                )
            ]
    if not all(_returned(asked, taken, weights, seed) for taken, weights in led_to.items()):
        return [
            LintFinding(
                "update",
                f"a training of {what} returns other weights than those after its last step: return these, for which "
                "step is best the records alone can tell",
            )
        ]
    return []


def moves(recipe: Recipe, gradients: list[Sums]) -> list[Sums]:
    """How far the plain Keras optimizer of a recipe moves weights that get these gradients, one after the other."""
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


def _returned(asked: Asked, taken: int, weights: Weights, seed: int) -> bool:
    """Whether `train` gives the weights that so many steps led to."""
    from bench.dp.train import train

    fits = train(asked.recipes(NOISE, taken), [asked.records] * asked.models, asked.seeds(seed))
    for i, held in enumerate(weights):
        given = np.stack([fit.weights[i] for fit in fits])
        if not np.abs(given - held).max(initial=0) <= RETURNED * np.abs(held).max(initial=1):
            return False
    return True
