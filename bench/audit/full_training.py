"""White box, whole training: scores of many trainings of full length, with a canary in and with it out.

The adversary sees every noised sum and knows all but whether the canary is in and when it was drawn. TensorFlow inside.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bench.audit.canary import replay
from bench.audit.replayed_mechanisms import Say, Sides, Training, at_once
from bench.core.randomness import derive
from bench.dp.recipe import Privacy
from bench.lint.white_box_steps import Steps


def scores(door: Training, pairs: int, seed: int, say: Say) -> Sides:
    """Log likelihood ratios of `pairs` trainings with the canary in and as many with it out, (pairs,) each."""
    found: list[Sides] = []
    many = at_once(door.canary, pairs)
    for start in range(0, pairs, many):

        def heard(what: str, done: int, steps: int, start: int = start) -> None:
            say(f"{what}, step {done} of {steps}", start, pairs)

        found.append(_chunk(door, min(many, pairs - start), derive(seed, "chunk", start), heard))
    held_in, held_out = (np.concatenate(side) for side in zip(*found, strict=True))
    return held_in, held_out


def _chunk(door: Training, half: int, seed: int, say: Say) -> Sides:
    """Trainings side by side; beside each step, what the canary adds at the weights before it, without noise.

    They train on the canary or on nothing: whoever knows all other records subtracts what they add. So the canary is
    the first of whatever lot it is in, and meets the draws of the network that the silent step meets.
    """
    canary, recipe = door.canary, replace(door.trained.recipes[door.k], ema=0.0)
    assert recipe.privacy
    clip = recipe.privacy.l2_norm_clip
    seeds = [derive(seed, "trial", i) for i in range(2 * half)]
    parts = [canary.record] * half + [canary.record[:0]] * half
    training = Steps([recipe] * len(parts), parts, seeds)
    silent = replay(recipe, recipe.steps, Privacy(clip, 0.0))
    alone = Steps([silent] * len(parts), [canary.record] * len(parts), seeds)
    total = np.zeros(len(parts))
    for done in range(recipe.steps):
        alone.set_weights(training.weights)
        added = alone.step()
        total += log_ratio(training.step(), added, recipe.rate, recipe.privacy.noise_multiplier * clip)
        say("whole training", done + 1, recipe.steps)
    return total[:half], total[half:]


def log_ratio(sums: NDArray[np.float64], added: NDArray[np.float64], rate: float, noise: float) -> NDArray[np.float64]:
    """Of sums (models, parameters): how much likelier with a record that adds `added` at this rate than without it."""
    shift: NDArray[np.float64] = ((sums - added / 2) * added).sum(1)
    if not noise:  # every ratio is infinite or 0: the sums decide
        return shift
    out = math.log1p(-rate) if rate < 1 else -math.inf
    return np.asarray(np.logaddexp(out, math.log(rate) + shift / noise**2), np.float64)
