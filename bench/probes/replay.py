"""A training that was asked for, tried again on records, lots, clip and noise of our own choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bench.data import Examples
from bench.nets import Weights
from bench.probes.doors import Trained
from bench.probes.steps import Steps

if TYPE_CHECKING:
    from bench.training import Recipe

MODELS = 3  # that stand for any number of them
STEPS = 1000  # more than any replay takes
# Of the recipe's own clip and noise, so that no chance number (a clip of 1) hides a slip.
CLIP, NOISE = 0.3, 2.7


@dataclass(frozen=True)
class Asked:
    """One of the distinct recipes that a defense trains with, how many models side by side, and some of its records."""

    recipe: Recipe
    models: int
    records: Examples

    @property
    def clip(self) -> float:
        """That of the replays."""
        assert self.recipe.privacy
        return CLIP * self.recipe.privacy.l2_norm_clip

    def steps(self, noise: float, seed: int, records: Examples | None = None, **changes: float) -> Steps:
        """Replay with this noise multiplier on the same records for every model; `changes` are of the recipe."""
        from bench.training import Privacy

        held = {"privacy": Privacy(self.clip, noise), "steps": STEPS, "schedule": "constant", "ema": 0.0, **changes}
        if self.recipe.optimizer == "sgd":  # weights then move by the sums themselves, which float32 holds best
            held["learning_rate"] = self.recipe.batch_size
        recipe: Recipe = replace(self.recipe, **held)  # type: ignore[arg-type]
        parts = [self.records if records is None else records] * self.models
        return Steps([recipe] * self.models, parts, [seed + k for k in range(self.models)])


def distinct(trained: Sequence[Trained]) -> list[Asked]:
    """The trainings that were asked for, each recipe once."""
    found: dict[object, Asked] = {}
    for one in trained:
        models = min(len(one.parts), MODELS)
        found.setdefault((one.recipes[0], models), Asked(one.recipes[0], models, canaries(one.parts)))
    return list(found.values())


def canaries(parts: Sequence[Examples]) -> Examples:
    """Records to try a training with: a few of its own, and some that pull as hard as records can, of all labels."""
    largest = max(parts, key=len)
    rng = np.random.default_rng(2)
    shape, classes = largest.shape, largest.classes
    own = largest.x[:4] if len(largest) >= 4 else rng.random((4, *shape))
    binary = rng.integers(0, 2, (6, *shape)).astype(np.float32)
    x = np.concatenate([own, np.zeros((2, *shape)), np.ones((2, *shape)), binary[:4], 30 * binary[4:], own[:2]])
    y = np.concatenate([rng.integers(0, classes, 4), np.arange(len(x) - 4) % classes])
    return Examples(x, y, classes)


def sharp(weights: Weights, seed: int) -> Weights:
    """Weights moved away from where they started, the same way for every model: what starts at 0 shows no gradient."""
    rng = np.random.default_rng(seed)
    return [w[:1] + rng.normal(0, 0.3, w[:1].shape).astype(np.float32) + np.zeros_like(w) for w in weights]
