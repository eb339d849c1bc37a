"""Record sensitivity: how far one record changes the inputs of DP.

It may change its own row in each training, and each sum by at most the stated L2 sensitivity.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples
from bench.lint.instrumentation import Averaged, Seen, Summed
from bench.store.records import LintFinding

PROBE = "record sensitivity"
CLOSE = 1e-5  # rounding of rows that were computed in another batch
TOLERANCE = 1e-3
AGREE = 1e-3  # of updates, trained as one program

Arrays = NDArray[Any]


@dataclass(frozen=True)
class Participation:
    """What one record contributed to: (training, data set) once for each of its rows, and (sum, change of it)."""

    trained: tuple[tuple[int, int], ...]
    summed: tuple[tuple[int, float], ...]


def record_sensitivity(before: Seen, after: Seen, *, swapped: bool) -> tuple[list[LintFinding], Participation]:
    """Compare two runs with constant inputs on data sets that differ in one record: added, or replaced if `swapped`."""
    if _counts(before) != _counts(after):
        what = "the number of trainings, data sets or sums depends on private records: fix it by options and classes"
        return [LintFinding(PROBE, what)], Participation((), ())
    most = 1 + swapped
    found, participation = _trained(before, after, most)
    changes, too_far = [], list[LintFinding]()
    for i, (one, other) in enumerate(zip(before.summed, after.summed, strict=True)):
        sentence, far = _sum_change(one, other, most)
        too_far += sentence
        changes.append((i, far / most))
    found += too_far[:1]  # later sums may depend on the first one
    if swapped:  # with another number of records the pace of every client differs, which is public
        found += _changed_updates(before.averaged, after.averaged)
    summed = tuple((i, far) for i, far in changes if far > 0)
    return list(dict.fromkeys(found)), Participation(tuple(participation), summed)


def _counts(seen: Seen) -> tuple[list[int], int, int]:
    return [len(one.parts) for one in seen.trained], len(seen.summed), len(seen.averaged)


def _trained(before: Seen, after: Seen, most: int) -> tuple[list[LintFinding], list[tuple[int, int]]]:
    found, participation = [], []
    for i, (one, other) in enumerate(zip(before.trained, after.trained, strict=True)):
        rows = [(unmatched_rows(a, b), unmatched_rows(b, a)) for a, b in zip(one.parts, other.parts, strict=True)]
        for k, (removed, added) in enumerate(rows):
            participation += [(i, k)] * (max(len(removed), len(added)) if most == 1 else len(added))
        if changed := _excess_rows(rows, most):
            found.append(
                LintFinding(
                    PROBE,
                    f"one record changes {changed} of the {max(map(len, other.parts))} rows of a private training, "
                    "where it may change its own row alone: give each record to a training once, and scale, encode and "
                    "assign it by public values and the record itself",
                )
            )
    return found, participation


def _excess_rows(rows: Sequence[tuple[Arrays, Arrays]], most: int) -> int:
    """The number of changed rows in one data set, or in all where a record was replaced, if too large; else 0.

    rows: the removed and the added rows of each data set.
    """
    sizes = [(len(removed), len(added)) for removed, added in rows]
    if most > 1:
        removed, added = (np.unique(np.concatenate(part), axis=0) for part in zip(*rows, strict=True))
        sizes.append((len(removed), len(added)))
    return max((max(size) for size in sizes if max(size) > 1 or sum(size) > most), default=0)


def unmatched(a: Examples, b: Examples) -> int:
    """The number of rows of `a` that have no match in `b`, matched one to one."""
    return len(unmatched_rows(a, b))


def unmatched_rows(a: Examples, b: Examples) -> Arrays:
    """The rows of `a` without a match in `b`, one to one and up to rounding; features, then the label."""
    keys = [Counter(_keys(part)) for part in (a, b)]
    left = [_rows(part, own - other) for part, own, other in zip((a, b), keys, keys[::-1], strict=True)]
    mine, theirs = left
    free, found = np.ones(len(theirs), bool), []
    for i, row in enumerate(mine):
        close = np.abs(theirs - row).max(axis=1, initial=0) <= CLOSE * max(1.0, np.abs(row).max())
        near = np.flatnonzero(free & close)
        if len(near):
            free[near[0]] = False
        else:
            found.append(i)
    return np.asarray(mine[np.array(found, int)])


def _flat(part: Examples) -> Arrays:
    features = part.x.reshape(len(part), math.prod(part.shape))  # -1 would fail without records
    return np.column_stack([features, part.y.astype(np.float32)])


def _keys(part: Examples) -> list[bytes]:
    return [row.tobytes() for row in np.ascontiguousarray(_flat(part))]


def _rows(part: Examples, selected: Counter[bytes]) -> Arrays:
    flat = _flat(part)
    rows = [np.frombuffer(key, flat.dtype) for key in selected.elements()]
    return np.array(rows).reshape(len(rows), flat.shape[1])


def _sum_change(one: Summed, other: Summed, most: int) -> tuple[list[LintFinding], float]:
    """The L2 change of the values, and a finding beyond the bound.

    Each row may change by the bound: it is then accounted for as a step of its own.
    """
    if one.values.shape != other.values.shape:
        what = "the shape of the input of the Gaussian mechanism depends on private records: fix it"
        return [LintFinding(PROBE, what)], 0.0
    moves = np.atleast_1d(np.asarray(other.values, np.float64) - one.values)
    rows = np.sqrt(np.square(moves).sum(axis=tuple(range(1, moves.ndim))))
    far = float(rows.max(initial=0)) / most
    whole = float(np.linalg.norm(moves))
    if far <= one.l2_sensitivity * (1 + TOLERANCE):
        return [], whole
    what = (
        f"one record changes the input of the Gaussian mechanism by {far:.3g}, more than the stated l2_sensitivity of "
        f"{one.l2_sensitivity:.3g}: clip every record, or state the whole Euclidean distance, and where records are "
        "sampled, draw a number for each of them from a generator that is used for this sum alone"
    )
    return [LintFinding(PROBE, what)], whole


def exceeds_bound(before: Seen, participation: Participation) -> bool:
    """Whether a record changed a sum, all its rows together, by more than the L2 sensitivity."""
    return any(far > before.summed[i].l2_sensitivity * (1 + TOLERANCE) for i, far in participation.summed)


def removed_rows(before: Seen, after: Seen) -> float:
    """The largest number of distinct rows removed from all data sets of one training together."""
    if _counts(before) != _counts(after):
        return math.inf
    pairs = [zip(a.parts, b.parts, strict=True) for a, b in zip(before.trained, after.trained, strict=True)]
    removed = [np.concatenate([unmatched_rows(*parts) for parts in one]) for one in pairs]
    return max((len(np.unique(rows, axis=0)) for rows in removed), default=0)


def is_additive(before: Seen, *changed: Seen, records: int = 1) -> bool:
    """Whether two records together change each sum by the total of their separate changes.

    changed: runs with the one record, with the other, and with both. records: the number of records n where a change
    may depend on n, which is public; it then differs by about 1/n of itself with the next record.
    """
    shapes = {tuple(one.values.shape for one in seen.summed) for seen in (before, *changed)}
    if len(shapes) > 1:
        return False
    sums = zip(*(seen.summed for seen in (before, *changed)), strict=True)
    return all(
        np.abs(d.values - b.values - c.values + a.values).max(initial=0) <= TOLERANCE * a.l2_sensitivity / records
        for a, b, c, d in sums
    )


def is_deterministic(one: Seen, other: Seen) -> bool:
    """Whether a run with another seed has the same rows in every data set and the same sums: no random assignment."""
    if _counts(one) != _counts(other) or not (one.trained or one.summed):
        return False
    parts = [[part for trained in seen.trained for part in trained.parts] for seen in (one, other)]
    same = all(len(a) == len(b) and not unmatched(a, b) for a, b in zip(*parts, strict=True))
    return same and all(np.array_equal(a.values, b.values) for a, b in zip(one.summed, other.summed, strict=True))


def sizes_are_random(one: Seen, other: Seen) -> bool:
    """Whether a run with another seed has data sets of other sizes, as where each record is assigned independently."""
    if _counts(one) != _counts(other):
        return False
    parts = [[len(part) for trained in seen.trained for part in trained.parts] for seen in (one, other)]
    return parts[0] != parts[1]


def order_dependence(before: Seen, permuted: Seen) -> list[LintFinding]:
    """Whether the assignment of records to data sets and sums depends on their order; `permuted` has another order."""
    if _counts(before) != _counts(permuted):
        return []  # reported by `record_sensitivity`
    moved = 0
    for one, other in zip(before.trained, permuted.trained, strict=True):
        rows = [unmatched(a, b) + unmatched(b, a) for a, b in zip(one.parts, other.parts, strict=True)]
        moved = max(moved, sum(rows))
    sums = zip(before.summed, permuted.summed, strict=True)
    if not moved and not any(_sum_change(one, other, 1)[0] for one, other in sums):
        return []
    what = (
        "records in another order are assigned to other data sets, or as other rows: assign records by their content, "
        "or at random from the seed, never by their position"
    )
    return [LintFinding(PROBE, what)]


def class_size_dependence(sparse: Seen, grown: Seen, more: int) -> list[LintFinding]:
    """Whether `more` added records change more than as many rows, as where class sizes or means select records."""
    if _counts(sparse) != _counts(grown):
        what = "the number of trainings, data sets or sums depends on the size of a class: fix it by options"
        return [LintFinding(PROBE, what)]
    for one, other in zip(sparse.trained, grown.trained, strict=True):
        for a, b in zip(one.parts, other.parts, strict=True):
            changed = unmatched(a, b) + unmatched(b, a)
            if changed > more:
                what = (
                    f"{more} added records change {changed} rows of a private training: select and transform records "
                    "neither by the size of a class nor by a statistic of many records"
                )
                return [LintFinding(PROBE, what)]
    return [found for a, b in zip(sparse.summed, grown.summed, strict=True) for found in _sum_change(a, b, more)[0]]


def _changed_updates(before: Sequence[Averaged], after: Sequence[Averaged]) -> list[LintFinding]:
    for one, other in zip(before, after, strict=True):
        if len(one.updates) != len(other.updates):
            continue  # one was refused, and the others cannot be matched
        changed = sum(
            not np.allclose(_vector(a), _vector(b), rtol=0, atol=AGREE * float(np.linalg.norm(_vector(a))))
            for a, b in zip(one.updates, other.updates, strict=True)
        )
        if changed > 2:  # of the client that lost the record, and of the one that received the other record
            sentence = (
                f"one record changes the updates of {changed} clients: assign each record to one client, by itself"
            )
            return [LintFinding(PROBE, sentence)]
    return []


def _vector(update: Sequence[Arrays]) -> Arrays:
    return np.concatenate([np.ravel(part) for part in update])
