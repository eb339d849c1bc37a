"""A training that was asked for, tried again on records, lots, clip and noise of our own choice."""

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
# In place of the recipe's own, so that no chance number (a clip or a deviation of 1) hides a slip.
CLIPS = 0.37, 0.55, 0.28  # of its clip, for the models in turn
NOISE = 11.0  # in multiples of the clip
WIDE = 1e6  # times a clip: what no gradient of an ordinary record reaches
ORDINARY = 12  # of the canaries, the first, have features in their range


@dataclass(frozen=True)
class Asked:
    """One of the distinct recipes that a defense trains with, how many models side by side, and some of its records."""

    recipe: Recipe
    models: int
    records: Examples

    @property
    def clips(self) -> NDArray[np.float64]:
        """Those of the replays, one a model."""
        assert self.recipe.privacy
        return np.array(CLIPS[: self.models]) * self.recipe.privacy.l2_norm_clip

    def recipes(self, noise: float, steps: int = STEPS, *, wide: float = 1.0) -> list[Recipe]:
        """One a model, with this noise multiplier, plain but for what decides the sums; wide: a factor of the clips."""
        from bench.dp.recipe import Privacy

        held: dict[str, Any] = {"steps": steps, "schedule": "constant", "ema": 0.0}
        if self.recipe.optimizer == "sgd":  # weights then move by the sums themselves, which float32 holds best
            held["learning_rate"] = self.recipe.batch_size
        return [replace(self.recipe, privacy=Privacy(float(clip), noise), **held) for clip in wide * self.clips]

    def seeds(self, seed: int) -> list[int]:
        """One a model."""
        return [seed + k for k in range(self.models)]

    def steps(self, noise: float, seed: int, *, wide: float = 1.0) -> Steps:
        """Replay with this noise multiplier, on the same records for every model."""
        return Steps(self.recipes(noise, wide=wide), [self.records] * self.models, self.seeds(seed))


def distinct(trained: Sequence[Trained]) -> list[Asked]:
    """The trainings that were asked for, each recipe once."""
    found: dict[object, Asked] = {}
    for one in trained:
        models = min(len(one.parts), len(CLIPS))
        for recipe in dict.fromkeys(one.recipes):
            found.setdefault((recipe, models), Asked(recipe, models, canaries(one.parts)))
    return list(found.values())


def canaries(parts: Sequence[Examples]) -> Examples:
    """Records to try a training with: a few of its own, and some that pull as hard as records can, of all labels."""
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


def sharp(weights: Weights, seed: int) -> Weights:
    """Weights moved away from where they started, the same way for every model: what starts at 0 shows no gradient."""
    rng = np.random.default_rng(seed)
    return [w[:1] + rng.normal(0, 0.3, w[:1].shape).astype(np.float32) + np.zeros_like(w) for w in weights]
