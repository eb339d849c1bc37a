"""The noise of a training step: as much as was promised, on every number, and never the same twice."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from bench.probes.finding import SURE, Finding, alike, normal, spread
from bench.probes.replay import CLIPS, NOISE, Asked
from bench.probes.steps import Steps

ENOUGH, MOST = 4000, 40  # numbers for one test, and steps to collect them
Noise = NDArray[np.float64]


def noise(asked: Asked, quiet: Steps, seed: int) -> list[Finding]:
    """Take the same steps with and without (`quiet`) noise; what is between them is the noise."""
    assert asked.recipe.privacy
    if not asked.recipe.privacy.noise_multiplier:
        return []  # the account says so
    noisy, other = asked.steps(NOISE, seed), asked.steps(NOISE, seed + len(CLIPS))
    everybody = range(len(asked.records))
    lots = {"an empty lot": [], "a lot of one record": [0], "a lot of all records": list(everybody)}
    steps = min(MOST, max(2, math.ceil(ENOUGH / (sum(noisy.sizes) * asked.models))))
    own = {kind: _noise(noisy, quiet, asked, rows, steps) for kind, rows in lots.items()}
    foreign = _noise(other, quiet, asked, [], 1)[0]
    wrong = itertools.chain(
        _repeats(own["an empty lot"], foreign), _places(own["a lot of all records"], noisy), _amount(own)
    )
    what = f"the noise of a training step of {type(asked.recipe.net).__name__}"
    return [Finding("noise", f"{what} {first}") for first in itertools.islice(wrong, 1)]


def _noise(noisy: Steps, quiet: Steps, asked: Asked, rows: Sequence[int], steps: int) -> Noise:
    """What it adds to lots of these rows, in units of its standard deviation: (steps, models, parameters)."""
    weights, lot = noisy.begun, [rows] * asked.models
    found = [noisy.lot(lot, weights, number) - quiet.lot(lot, weights, number) for number in range(steps)]
    return np.asarray(np.array(found) / (NOISE * asked.clips[:, None]))


def _amount(own: dict[str, Noise]) -> Iterator[str]:
    for kind, found in own.items():
        if spread(found, 1.0) < SURE:
            share = float(np.sqrt(np.mean(found**2)))
            yield (
                f"has {share:.3g} times the promised standard deviation in {kind}: add noise "
                "of noise_multiplier * l2_norm_clip to the sum, then divide by the constant batch_size"
            )
        if normal(found) < SURE:
            yield f"is not normal in {kind}: the account holds for the Gaussian mechanism alone, so draw normal numbers"


def _places(found: Noise, steps: Steps) -> Iterator[str]:
    """Of each variable: there is as much as promised, not the same in every row or column, nor that of another."""
    ends = np.cumsum(steps.sizes)[:-1]
    parts = [np.concatenate(part) for part in np.split(found, ends, axis=2)]  # (steps * models, size)
    right = [spread(part, 1.0) >= SURE for part in parts]
    if any(right) and not all(right):
        yield "does not reach every variable alike: draw it for all variables that are trained on records"
    for part, shape, whole_one in zip(parts, steps.shapes, right, strict=True):
        if not whole_one:
            continue  # how much there is of it is another matter
        whole = part.reshape(len(part), *shape)
        for axis in range(1, whole.ndim):
            if spread(whole.sum(axis), whole.shape[axis]) < SURE:
                yield "is not drawn for every number apart: give each weight its own"
    for a, b in itertools.combinations(parts, 2):
        size = min(a.shape[1], b.shape[1])
        if alike(a[:, :size], b[:, :size], 1.0) < SURE:
            yield "is the same in two variables: draw it for each of them"


def _repeats(found: Noise, foreign: Noise) -> Iterator[str]:
    """Of each step and model: it is no other's."""
    for a, b in itertools.combinations(found[:, 0], 2):
        if alike(a, b, 1.0) < SURE:
            yield "is the same in two steps: draw it anew in each of them"
    for a, b in itertools.combinations(found[0], 2):
        if alike(a, b, 1.0) < SURE:
            yield "is the same in two models: give every model a noise stream of its own"
    for a, b in itertools.product(found[0], foreign):
        if alike(a, b, 1.0) < SURE:
            yield "is the same for two seeds: derive the noise stream from the seed"
