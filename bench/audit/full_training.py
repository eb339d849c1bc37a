"""White-box audits of whole trainings: scores of many trainings of full length, with and without a canary.

The adversary sees every noised sum and knows everything but whether the canary takes part and in which batches.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bench.audit.canary import replay_recipe
from bench.audit.replayed_mechanisms import OnProgress, ReplayedTraining, Sides, at_once
from bench.core.randomness import derive
from bench.dp.recipe import Privacy
from bench.lint.white_box_steps import Steps


def scores(trained: ReplayedTraining, pairs: int, seed: int, on_progress: OnProgress) -> Sides:
    """Log-likelihood ratios of `pairs` trainings with the canary and of as many without it, (pairs,) each."""
    found: list[Sides] = []
    many = at_once(trained.canary, pairs)
    for start in range(0, pairs, many):

        def on_step(what: str, done: int, steps: int, start: int = start) -> None:
            on_progress(f"{what}, step {done} of {steps}", start, pairs)

        found.append(_chunk(trained, min(many, pairs - start), derive(seed, "chunk", start), on_step))
    held_in, held_out = (np.concatenate(side) for side in zip(*found, strict=True))
    return held_in, held_out


def _chunk(trained: ReplayedTraining, half: int, seed: int, on_progress: OnProgress) -> Sides:
    """Train models side by side, and compute the contribution of the canary at the weights before each step.

    They train on the canary or on no record, since an adversary who knows all other records subtracts their
    contributions. So the canary is first in each batch, with the noise inputs of the step without noise.
    """
    canary, recipe = trained.canary, replace(trained.trained.recipes[trained.k], ema=0.0)
    assert recipe.privacy
    clip = recipe.privacy.l2_norm_clip
    seeds = [derive(seed, "trial", i) for i in range(2 * half)]
    parts = [canary.record] * half + [canary.record[:0]] * half
    training = Steps([recipe] * len(parts), parts, seeds)
    silent = replay_recipe(recipe, recipe.steps, Privacy(clip, 0.0))
    alone = Steps([silent] * len(parts), [canary.record] * len(parts), seeds)
    total = np.zeros(len(parts))
    for done in range(recipe.steps):
        alone.set_weights(training.weights)
        added = alone.step()
        total += log_ratio(training.step(), added, recipe.rate, recipe.privacy.noise_multiplier * clip)
        on_progress("whole training", done + 1, recipe.steps)
    return total[:half], total[half:]


def log_ratio(sums: NDArray[np.float64], added: NDArray[np.float64], rate: float, noise: float) -> NDArray[np.float64]:
    """Log-likelihood ratios of sums (models, parameters) with a record that adds `added` at this rate and without."""
    shift: NDArray[np.float64] = ((sums - added / 2) * added).sum(1)
    if not noise:  # every ratio is infinite or 0, so the shift decides
        return shift
    out = math.log1p(-rate) if rate < 1 else -math.inf
    return np.asarray(np.logaddexp(out, math.log(rate) + shift / noise**2), np.float64)
