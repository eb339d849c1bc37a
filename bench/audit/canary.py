"""Selects a canary: the record that changes the sum of a private training most, and the direction of the change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples
from bench.dp.networks import Weights
from bench.dp.recipe import Privacy, Recipe
from bench.lint.instrumentation import Trained
from bench.lint.white_box_steps import Steps

BASE = 4  # records beside the canary; more of them only add their own contributions
REAL = 8  # real candidates, each with its own label and with another one
DRAWS = 16  # of the noise inputs of a network, over which a direction is averaged


@dataclass(frozen=True, eq=False)
class Canary:
    """A record beside `base` ones, at the weights `start` (leading model axis of 1), and its contribution to the sum.

    direction: (parameters,), of length 1. length: of its mean contribution, in multiples of the clip.
    """

    record: Examples
    base: Examples
    start: Weights
    direction: NDArray[np.float64]
    length: float
    what: str


def concatenated(parts: Sequence[Examples]) -> Examples:
    """All records of the parts, in order."""
    return Examples(np.concatenate([p.x for p in parts]), np.concatenate([p.y for p in parts]), parts[0].classes)


def candidates(trained: Trained, k: int, shape: tuple[int, ...], rng: np.random.Generator) -> dict[str, Examples]:
    """Records that data set k could contain: real ones, also mislabelled, and extremes if features are not encoded."""
    own, every = trained.parts[k], concatenated([part for part in trained.parts if len(part)])
    rows = rng.permutation(len(every))[:REAL]
    found = {}
    for i in rows:
        for step, what in enumerate(("a real record", "a mislabelled record")):
            label = (every.y[[i]] + step) % own.classes
            found[f"{what} ({i})"] = Examples(every.x[[i]], label, own.classes)
    if own.shape == shape:
        coins = rng.integers(0, 2, (1, *shape)).astype(np.float32)
        for what, x in {"all zeros": np.zeros_like(coins), "all ones": np.ones_like(coins), "coins": coins}.items():
            found[what] = Examples(x, np.zeros(1, np.int64), own.classes)
    return found


def select_canary(trained: Trained, k: int, shape: tuple[int, ...], rng: np.random.Generator) -> Canary:
    """The candidate with the longest contribution to the sum of data set k, computed by the optimizer without noise.

    All candidates have the same base records, weights and noise inputs, so the difference of sums is the contribution;
    with noise inputs its mean counts, so that a canary whose gradient hardly depends on them is selected.
    """
    recipe, part = trained.recipes[k], trained.parts[k]
    assert recipe.privacy
    base, found = part[rng.permutation(len(part))[:BASE]], candidates(trained, k, shape, rng)
    rounds = DRAWS if recipe.net.noise_inputs else 1
    silent = replay_recipe(recipe, rounds, Privacy(recipe.privacy.l2_norm_clip, 0.0))
    parts = [base, *(concatenated([base, record]) for record in found.values())]
    steps = Steps([silent] * len(parts), parts, range(len(parts)), alike=trained.seeds[k])
    start, moved = steps.weights, np.zeros(())
    for _ in range(rounds):
        steps.set_weights(start)
        sums = steps.step()
        moved = moved + (sums[1:] - sums[0]) / rounds
    lengths = np.linalg.norm(moved, axis=1)
    best = int(lengths.argmax())
    what, record = list(found.items())[best]
    one = [weight[:1] for weight in start]
    length = float(lengths[best])
    direction = moved[best] / (length or 1.0)
    return Canary(record, base, one, direction, length / recipe.privacy.l2_norm_clip, what)


def replay_recipe(recipe: Recipe, steps: int, privacy: Privacy | None) -> Recipe:
    """The recipe with `steps` steps on all records, without a schedule or averaging."""
    return replace(recipe, rate=1.0, steps=steps, schedule="constant", ema=0.0, privacy=privacy)


def parameters(weights: Weights) -> int:
    """The number of parameters of one model."""
    return sum(int(np.prod(weight.shape[1:])) for weight in weights)


def repeated_weights(weights: Weights, models: int) -> list[Any]:
    """The same weights for each of `models`."""
    return [np.repeat(weight[:1], models, axis=0) for weight in weights]
