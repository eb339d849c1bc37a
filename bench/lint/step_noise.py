"""Tests that the noise of a training step has the promised variance in every parameter and is never reused."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from bench.lint.hypothesis_tests import (
    SIGNIFICANCE,
    correlation_p_value,
    lagged_correlation_p_value,
    maximum_p_value,
    normality_p_value,
    variance_p_value,
)
from bench.lint.replay import NOISE_MULTIPLIER, STEPS, ReplayedTraining
from bench.lint.white_box_steps import Steps
from bench.store.records import LintFinding

PROBE = "step noise"
MIN_VALUES, MAX_STEPS = 10_000, 40  # values for one test, and steps to collect them
# The steps that are tested. Every distance up to 103 occurs between two of them, for noise with a period, and the last
# step of the replay is among them.
RULER = (*range(8), *range(15, 104, 8), STEPS - 1)
NEARLY_NONE = 0.25  # of the variance
MAX_LENGTH = 20_000  # values of a step that are compared with those of another
MAX_PARAMETERS = 50_000  # of a model, in every step of RULER
EMPTY, SINGLE, FULL = "an empty batch", "a batch of one record", "a batch of all records"
Noise = NDArray[np.float64]


def step_noise(training: ReplayedTraining, quiet: Steps, noisy: Steps, other: Steps) -> list[LintFinding]:
    """Test the difference of the same steps with noise and without (`quiet`); other: noisy, with another seed."""
    assert training.recipe.privacy
    if not training.recipe.privacy.noise_multiplier:
        return []  # the accounting reports it
    batches = {EMPTY: [], SINGLE: [0], FULL: list(range(len(training.records)))}
    steps = min(MAX_STEPS, max(2, math.ceil(MIN_VALUES / (sum(noisy.sizes) * training.models))))
    numbers = (*RULER, *range(200, 200 + 7 * (steps - len(RULER)), 7))
    own = {
        kind: _noise(noisy, quiet, training, rows, numbers[:steps] if rows else numbers)
        for kind, rows in batches.items()
    }
    foreign = _noise(other, quiet, training, [], numbers[:1])[0]
    wrong = itertools.chain(
        _reuse_defects(own[EMPTY], numbers, foreign), _variable_defects(own[FULL], noisy), _law_defects(own)
    )
    what = f"the noise of a training step of {type(training.recipe.net).__name__}"
    return [LintFinding(PROBE, f"{what} {first}") for first in itertools.islice(wrong, 1)]


def _noise(
    noisy: Steps, quiet: Steps, training: ReplayedTraining, rows: Sequence[int], numbers: Sequence[int]
) -> Noise:
    """The noise added to batches of these rows, in units of its standard deviation: (steps, models, parameters)."""
    weights, batch = noisy.initial_weights, [rows] * training.models
    quiet_numbers = numbers if rows else numbers[:1]  # the sum of an empty batch is the same in every step
    silent = [quiet.batch_sums(batch, weights, number) for number in quiet_numbers]
    kept = slice(None if rows else MAX_PARAMETERS)
    found = [
        (noisy.batch_sums(batch, weights, number) - silent[i % len(silent)])[:, kept]
        for i, number in enumerate(numbers)
    ]
    return np.asarray(np.array(found) / (NOISE_MULTIPLIER * training.clips[:, None]))


def _law_defects(own: dict[str, Noise]) -> Iterator[str]:
    for kind, found in own.items():
        if variance_p_value(found, 1.0) < SIGNIFICANCE:
            share = float(np.sqrt(np.mean(found**2)))
            yield (
                f"has {share:.3g} times the promised standard deviation in {kind}: add noise "
                "of noise_multiplier * l2_norm_clip to the sum, then divide by the constant batch_size"
            )
        if normality_p_value(found) < SIGNIFICANCE:
            yield f"is not normal in {kind}: the accounting holds for the Gaussian mechanism alone, draw from N(0, 1)"
    if maximum_p_value(own[EMPTY]) < SIGNIFICANCE:
        yield "is truncated or heavy-tailed: the accounting holds for normal noise, so use it as drawn"


def _variable_defects(found: Noise, steps: Steps) -> Iterator[str]:
    """Each variable has the promised noise, which differs between its rows and columns and from other variables."""
    ends = np.cumsum(steps.sizes)[:-1]
    parts = [np.concatenate(part) for part in np.split(found, ends, axis=2)]  # (steps * models, size)
    right = [variance_p_value(part, 1.0) >= SIGNIFICANCE for part in parts]
    bare = [np.mean(part**2) < NEARLY_NONE for part in parts]
    if any(right) and any(bare):
        yield "is missing from some variables: add it to all variables that are trained on records"
    for part, shape, has_variance in zip(parts, steps.shapes, right, strict=True):
        if not has_variance:
            continue  # `_law_defects` tests how much there is
        whole = part.reshape(len(part), *shape)
        for axis in range(1, whole.ndim):
            if variance_p_value(whole.sum(axis), whole.shape[axis]) < SIGNIFICANCE:
                yield "is shared by several parameters: draw it for each parameter"
    for a, b in itertools.combinations(parts, 2):
        size = min(a.shape[1], b.shape[1])
        if correlation_p_value(a[:, :size], b[:, :size], 1.0) < SIGNIFICANCE:
            yield "is the same in two variables: draw it for each of them"


def _reuse_defects(found: Noise, numbers: Sequence[int], foreign: Noise) -> Iterator[str]:
    """Whether the noise of a step or model is also that of another one, of another seed, or repeats at some lag."""
    cut = found[..., :MAX_LENGTH]
    steps, models = list(cut[:, 0]), list(cut[0])
    if _any_correlated(itertools.combinations(steps, 2)):
        yield "is the same in two steps: draw it anew in each of them"
    if _any_correlated(itertools.combinations(models, 2)):
        yield "is the same in two models: give every model a noise stream of its own"
    if _any_correlated(itertools.product(models, foreign[:, :MAX_LENGTH])):
        yield "is the same for two seeds: derive the noise stream from the seed"
    following = [(a, b) for a, b, i, j in zip(steps, steps[1:], numbers, numbers[1:], strict=False) if j == i + 1]
    if lagged_correlation_p_value(following) < SIGNIFICANCE:
        yield "depends on that of the step before: draw all of it anew in each step"
    if lagged_correlation_p_value([(step, step) for step in steps]) < SIGNIFICANCE:
        yield "repeats within one step: draw it for every number"


def _any_correlated(pairs: Iterable[tuple[Noise, Noise]]) -> bool:
    """Whether one of the pairs is correlated, corrected for their number (Bonferroni)."""
    p_values = [correlation_p_value(a, b, 1.0) for a, b in pairs]
    return bool(p_values) and min(p_values) * len(p_values) < SIGNIFICANCE
