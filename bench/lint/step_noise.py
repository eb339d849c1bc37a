"""The noise of a training step: as much as was promised, on every number, and never the same twice."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from bench.lint.hypothesis_tests import SURE, alike, echo, normal, spread, tail
from bench.lint.replay import NOISE, STEPS, Asked
from bench.lint.white_box_steps import Steps
from bench.store.lint_verdicts import LintFinding

ENOUGH, MOST = 10_000, 40  # numbers for one test, and steps to collect them
# Steps that are tried. Any two up to 103 apart are among them, for draws that come again, and the last of the replay.
RULER = (*range(8), *range(15, 104, 8), STEPS - 1)
BARE = 0.25  # of the variance: what has less has next to none
LONGEST = 20_000  # numbers of a step that are laid along another's
KEPT = 50_000  # numbers of a model that are looked at in every step of the ruler
Noise = NDArray[np.float64]


def noise(asked: Asked, quiet: Steps, noisy: Steps, other: Steps) -> list[LintFinding]:
    """Take the same steps with and without (`quiet`) noise; what is between them is the noise. other: another seed."""
    assert asked.recipe.privacy
    if not asked.recipe.privacy.noise_multiplier:
        return []  # the account says so
    everybody = range(len(asked.records))
    lots = {"an empty lot": [], "a lot of one record": [0], "a lot of all records": list(everybody)}
    steps = min(MOST, max(2, math.ceil(ENOUGH / (sum(noisy.sizes) * asked.models))))
    numbers = (*RULER, *range(200, 200 + 7 * (steps - len(RULER)), 7))
    own = {kind: _noise(noisy, quiet, asked, rows, numbers[:steps] if rows else numbers) for kind, rows in lots.items()}
    foreign = _noise(other, quiet, asked, [], numbers[:1])[0]
    wrong = itertools.chain(
        _repeats(own["an empty lot"], numbers, foreign), _places(own["a lot of all records"], noisy), _amount(own)
    )
    what = f"the noise of a training step of {type(asked.recipe.net).__name__}"
    return [LintFinding("noise", f"{what} {first}") for first in itertools.islice(wrong, 1)]


def _noise(noisy: Steps, quiet: Steps, asked: Asked, rows: Sequence[int], numbers: Sequence[int]) -> Noise:
    """What it adds to lots of these rows, in units of its standard deviation: (steps, models, parameters)."""
    weights, lot = noisy.begun, [rows] * asked.models
    draws = numbers if rows else numbers[:1]  # nobody's sum is the same in every step
    silent = [quiet.lot(lot, weights, number) for number in draws]
    kept = slice(None if rows else KEPT)
    found = [(noisy.lot(lot, weights, number) - silent[i % len(silent)])[:, kept] for i, number in enumerate(numbers)]
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
    if tail(own["an empty lot"]) < SURE:
        yield "is cut off, or at times far too large: the account holds for normal numbers, so leave them as drawn"


def _places(found: Noise, steps: Steps) -> Iterator[str]:
    """Of each variable: there is as much as promised, not the same in every row or column, nor that of another."""
    ends = np.cumsum(steps.sizes)[:-1]
    parts = [np.concatenate(part) for part in np.split(found, ends, axis=2)]  # (steps * models, size)
    right = [spread(part, 1.0) >= SURE for part in parts]
    bare = [np.mean(part**2) < BARE for part in parts]
    if any(right) and any(bare):
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


def _repeats(found: Noise, numbers: Sequence[int], foreign: Noise) -> Iterator[str]:
    """Of each step and model: it is no other's, wherever the two are laid beside each other."""
    cut = found[..., :LONGEST]
    steps, models = list(cut[:, 0]), list(cut[0])
    if _alike(itertools.combinations(steps, 2)):
        yield "is the same in two steps: draw it anew in each of them"
    if _alike(itertools.combinations(models, 2)):
        yield "is the same in two models: give every model a noise stream of its own"
    if _alike(itertools.product(models, foreign[:, :LONGEST])):
        yield "is the same for two seeds: derive the noise stream from the seed"
    following = [(a, b) for a, b, i, j in zip(steps, steps[1:], numbers, numbers[1:], strict=False) if j == i + 1]
    if echo(following) < SURE:
        yield "of a step is not independent of the one before it: draw all of it anew in each of them"
    if echo([(step, step) for step in steps]) < SURE:
        yield "comes again within one step: draw it for every number"


def _alike(pairs: Iterable[tuple[Noise, Noise]]) -> bool:
    """Whether two of a pair are alike; of more pairs each must be more so."""
    chances = [alike(a, b, 1.0) for a, b in pairs]
    return bool(chances) and min(chances) * len(chances) < SURE
