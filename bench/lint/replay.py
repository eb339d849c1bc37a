"""Replays a recorded training on records, batches, clips and noise of the linter's choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples
from bench.dp.networks import Weights
from bench.lint.instrumentation import Trained
from bench.lint.white_box_steps import Steps

if TYPE_CHECKING:
    from bench.dp.recipe import Recipe

STEPS = 1000  # more than any replay takes
# They replace the values of the recipe, since with a clip or deviation of 1 a wrong factor would not show.
CLIPS = 0.37, 0.55, 0.28  # of the clip of the recipe, for the models in turn
NOISE_MULTIPLIER = 11.0
WIDE = 1e6  # factor of the clip that no gradient of an ordinary record reaches
ORDINARY = 12  # of the replay records, the first ones, have features in the range


@dataclass(frozen=True)
class ReplayedTraining:
    """One recipe that a defense trains with, the number of models side by side, and records to replay it on."""

    recipe: Recipe
    models: int
    records: Examples

    @property
    def clips(self) -> NDArray[np.float64]:
        """The clips of the replay, one per model."""
        assert self.recipe.privacy
        return np.array(CLIPS[: self.models]) * self.recipe.privacy.l2_norm_clip

    def recipes(self, noise: float, steps: int = STEPS, *, wide: float = 1.0) -> list[Recipe]:
        """One recipe per model with this noise multiplier, no schedule and no averaging; wide: factor of the clips."""
        from bench.dp.recipe import Privacy

        changes: dict[str, Any] = {"steps": steps, "schedule": "constant", "ema": 0.0}
        if self.recipe.optimizer == "sgd":  # weights then move by the sums themselves, which float32 resolves best
            changes["learning_rate"] = self.recipe.batch_size
        return [replace(self.recipe, privacy=Privacy(float(clip), noise), **changes) for clip in wide * self.clips]

    def seeds(self, seed: int) -> list[int]:
        """One seed per model."""
        return [seed + k for k in range(self.models)]

    def steps(self, noise: float, seed: int, *, wide: float = 1.0) -> Steps:
        """The steps of the replay with this noise multiplier, on the same records for every model."""
        return Steps(self.recipes(noise, wide=wide), [self.records] * self.models, self.seeds(seed))


def distinct_trainings(trained: Sequence[Trained]) -> list[ReplayedTraining]:
    """The recorded trainings, each recipe once."""
    found: dict[object, ReplayedTraining] = {}
    for one in trained:
        models = min(len(one.parts), len(CLIPS))
        for recipe in dict.fromkeys(one.recipes):
            found.setdefault((recipe, models), ReplayedTraining(recipe, models, replay_records(one.parts)))
    return list(found.values())


def replay_records(parts: Sequence[Examples]) -> Examples:
    """A few of the recorded records, and some of all labels whose gradients are as long as possible or overflow."""
    largest = max(parts, key=len)
    rng = np.random.default_rng(2)
    shape, classes = largest.shape, largest.classes
    own = largest.x[:4] if len(largest) >= 4 else rng.random((4, *shape))
    binary = rng.integers(0, 2, (5, *shape)).astype(np.float32)
    overflowing = np.full((1, *shape), 3e38)
    x = np.concatenate(
        [own, np.zeros((2, *shape)), np.ones((2, *shape)), binary[:4], 30 * binary[4:], overflowing, own[:2]]
    )
    y = np.concatenate([rng.integers(0, classes, 4), np.arange(len(x) - 4) % classes])
    return Examples(x, y, classes)


def perturbed(weights: Weights, seed: int) -> Weights:
    """Weights away from their initial values, the same for every model: weights of 0 have no gradient."""
    rng = np.random.default_rng(seed)
    return [w[:1] + rng.normal(0, 0.3, w[:1].shape).astype(np.float32) + np.zeros_like(w) for w in weights]
