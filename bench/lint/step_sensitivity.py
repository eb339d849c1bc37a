"""How far one record moves the sum of a training step, without noise: at most by the clip, whoever else is there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.lint.replay import ORDINARY, WIDE, Asked, sharp
from bench.lint.white_box_steps import Steps, Sums
from bench.store.lint_verdicts import LintFinding

TOLERANCE = 1e-3  # of float32 sums
# None with the record that overflows: what comes of it hangs on where in a product of matrices it stands.
BASES = ((0,), (8,), (1, 5), (4, 7), (9, 12), (6, 8, 10), (2, 3, 9, 12), (0, 1, 2, 3, 4, 5, 6))
MORE = (0, 4, 7, 13)  # records that are put to them
BESIDE = (((0, 4, 7), (1, 6, 9)), ((2, 5, 8, 10), (4, 6, 7, 11)))  # lots of as many ordinary records
Pair = tuple[tuple[int, ...], tuple[int, ...]]


def sensitivity(asked: Asked, quiet: Steps, seed: int) -> list[LintFinding]:
    """Try lots with and without one record, at the start and away from it; quiet: the training without noise."""
    start = [np.broadcast_to(w[:1], w.shape) for w in quiet.begun]
    tried = pairs(len(asked.records), anywhere=not asked.recipe.net.noise_inputs)
    moves, nothing = [], 0.0  # in units of the clip
    for weights, some in ((start, tried[::4]), (sharp(start, seed), tried)):
        nobody: tuple[tuple[int, ...], ...] = ((),) * asked.models
        sums = {nobody: quiet.lot(nobody, weights)}
        nothing = max(nothing, float((lengths(sums[nobody]) / asked.clips).max()))
        for turn in range(0, len(some), asked.models):  # another pair for each model
            turns = [some[(turn + k) % len(some)] for k in range(asked.models)]
            without = tuple(pair[0] for pair in turns)
            if without not in sums:
                sums[without] = quiet.lot(without, weights)
            within = quiet.lot([pair[1] for pair in turns], weights)
            moves.append(lengths(within - sums[without]) / asked.clips)
    farthest = float(np.max(moves))
    what = type(asked.recipe.net).__name__
    if not farthest <= 1 + TOLERANCE:  # NaN is not
        return [
            LintFinding(
                "sensitivity",
                f"one record moves the sum of a training step of {what} by {farthest:.3g} times its clip, "
                "for which the noise is too little: clip the whole gradient of every record once, to l2_norm_clip "
                "over all layers together, then add up",
            )
        ]
    if nothing > TOLERANCE:
        what = f"a training step of {what} adds up something for a lot without any record: sum over its records alone"
        return [LintFinding("sensitivity", what)]
    if not _alone(asked, seed) <= TOLERANCE:
        what = (
            f"what one record adds to the sum of a training step of {what} depends on the others in its lot: clip it "
            "by l2_norm_clip alone, which is fixed before any record is seen"
        )
        return [LintFinding("sensitivity", what)]
    return []


def _alone(asked: Asked, seed: int) -> float:
    """How much what a record adds differs with the others, beside the sum, where the clip is so wide that none is cut.

    A clip that follows from the lot is seen only there: below it, where most norms are late in a training.
    """
    open_wide = asked.steps(0.0, seed, wide=WIDE)
    weights = sharp([np.broadcast_to(w[:1], w.shape) for w in open_wide.begun], seed)

    def added(rows: tuple[int, ...]) -> Sums:
        return open_wide.lot([rows] * asked.models, weights)

    off = 0.0
    for lots in BESIDE:  # in the same place, for there its draws are the same
        sums = [added(lot) for lot in lots]
        for i in range(ORDINARY):
            if all(i not in lot for lot in lots):
                one, other = (added((*lot, i)) - total for lot, total in zip(lots, sums, strict=True))
                size = lengths(one) + max(map(lengths, sums), key=np.max)
                off = max(off, float((lengths(one - other) / size).max()))
    return off


def pairs(records: int, *, anywhere: bool) -> list[Pair]:
    """Lots with one record less and more: the others in their places, it at the end, or anywhere in the lot."""
    return list(dict.fromkeys(_pairs(records, anywhere)))


def _pairs(records: int, anywhere: bool) -> Iterator[Pair]:
    for i in range(records):
        yield (), (i,)
    for base in BASES:
        for i in MORE:
            for place in {0, len(base)} if anywhere else {len(base)}:
                if i not in base:
                    yield base, (*base[:place], i, *base[place:])


def lengths(sums: Sums) -> Sums:
    """The norm of each model's sum."""
    return np.asarray(np.linalg.norm(sums, axis=1))
