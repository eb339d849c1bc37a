"""Tests that one record changes the sum of a training step, without noise, by at most the clip, whatever the batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.lint.replay import ORDINARY, WIDE, ReplayedTraining, perturbed
from bench.lint.white_box_steps import Steps, Sums
from bench.store.records import LintFinding

PROBE = "step sensitivity"
TOLERANCE = 1e-3  # of float32 sums
# None contains the record that overflows: its effect depends on its position in a matrix product.
BASES = ((0,), (8,), (1, 5), (4, 7), (9, 12), (6, 8, 10), (2, 3, 9, 12), (0, 1, 2, 3, 4, 5, 6))
ADDED = (0, 4, 7, 13)  # records that are added to them
ORDINARY_BATCHES = (((0, 4, 7), (1, 6, 9)), ((2, 5, 8, 10), (4, 6, 7, 11)))  # pairs of equal size
Pair = tuple[tuple[int, ...], tuple[int, ...]]


def step_sensitivity(training: ReplayedTraining, quiet: Steps, seed: int) -> list[LintFinding]:
    """Compare batches with and without one record, at initial and other weights; quiet: the steps without noise."""
    start = [np.broadcast_to(w[:1], w.shape) for w in quiet.initial_weights]
    pairs = neighbouring_batches(len(training.records), anywhere=not training.recipe.net.noise_inputs)
    moves, of_nothing = [], 0.0  # in units of the clip
    for weights, some in ((start, pairs[::4]), (perturbed(start, seed), pairs)):
        empty: tuple[tuple[int, ...], ...] = ((),) * training.models
        sums = {empty: quiet.batch_sums(empty, weights)}
        of_nothing = max(of_nothing, float((norms(sums[empty]) / training.clips).max()))
        for first in range(0, len(some), training.models):  # another pair for each model
            of_models = [some[(first + k) % len(some)] for k in range(training.models)]
            without = tuple(pair[0] for pair in of_models)
            if without not in sums:
                sums[without] = quiet.batch_sums(without, weights)
            within = quiet.batch_sums([pair[1] for pair in of_models], weights)
            moves.append(norms(within - sums[without]) / training.clips)
    farthest = float(np.max(moves))
    what = type(training.recipe.net).__name__
    if not farthest <= 1 + TOLERANCE:  # also true for NaN
        return [
            LintFinding(
                PROBE,
                f"one record changes the sum of a training step of {what} by {farthest:.3g} times its clip, "
                "for which the noise is too small: clip the whole gradient of every record once, to l2_norm_clip "
                "over all layers together, then add up",
            )
        ]
    if of_nothing > TOLERANCE:
        what = (
            f"the sum of a training step of {what} is not 0 for an empty batch: sum over the records of the batch alone"
        )
        return [LintFinding(PROBE, what)]
    if not _dependence_on_others(training, seed) <= TOLERANCE:
        what = (
            f"what one record adds to the sum of a training step of {what} depends on the other records of its batch: "
            "clip it by l2_norm_clip alone, which is fixed before any record is seen"
        )
        return [LintFinding(PROBE, what)]
    return []


def _dependence_on_others(training: ReplayedTraining, seed: int) -> float:
    """How much the contribution of a record varies with the rest of the batch, relative to the sum, without clipping.

    The clip is wider than every gradient, since a clip that adapts to the batch shows only there: below it, where most
    norms are late in a training.
    """
    open_wide = training.steps(0.0, seed, wide=WIDE)
    weights = perturbed([np.broadcast_to(w[:1], w.shape) for w in open_wide.initial_weights], seed)

    def total(rows: tuple[int, ...]) -> Sums:
        return open_wide.batch_sums([rows] * training.models, weights)

    off = 0.0
    for batches in ORDINARY_BATCHES:  # of equal size, so that a record in the same position meets the same noise inputs
        sums = [total(batch) for batch in batches]
        for i in range(ORDINARY):
            if all(i not in batch for batch in batches):
                one, other = (total((*batch, i)) - before for batch, before in zip(batches, sums, strict=True))
                size = norms(one) + max(map(norms, sums), key=np.max)
                off = max(off, float((norms(one - other) / size).max()))
    return off


def neighbouring_batches(records: int, *, anywhere: bool) -> list[Pair]:
    """Pairs of batches that differ in one added record, at the end, or `anywhere` in the batch."""
    return list(dict.fromkeys(_neighbouring_batches(records, anywhere)))


def _neighbouring_batches(records: int, anywhere: bool) -> Iterator[Pair]:
    for i in range(records):
        yield (), (i,)
    for base in BASES:
        for i in ADDED:
            for place in {0, len(base)} if anywhere else {len(base)}:
                if i not in base:
                    yield base, (*base[:place], i, *base[place:])


def norms(sums: Sums) -> Sums:
    """The L2 norm of each model's sum."""
    return np.asarray(np.linalg.norm(sums, axis=1))
