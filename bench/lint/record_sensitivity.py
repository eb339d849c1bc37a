"""What one record more changes of what reaches the doors: its own row in each training, its bound in each sum."""

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
from bench.store.lint_verdicts import LintFinding

CLOSE = 1e-5  # rounding of rows that were computed among others
TOLERANCE = 1e-3
AGREE = 1e-3  # of updates, trained as one program

Arrays = NDArray[Any]


@dataclass(frozen=True)
class Touched:
    """What a record took part in: (training, part) once for each row of it, sums with how far it moved them."""

    trained: tuple[tuple[int, int], ...]
    summed: tuple[tuple[int, float], ...]


def arrivals(before: Seen, after: Seen, *, swapped: bool) -> tuple[list[LintFinding], Touched]:
    """Compare two blindfolded runs on sets of which one has a record more; swapped: another in the place of one."""
    if _counts(before) != _counts(after):
        what = "how many trainings, parts or sums there are depends on private records: fix them by options and classes"
        return [LintFinding("arrivals", what)], Touched((), ())
    most = 1 + swapped
    found, touched = _trained(before, after, most)
    moved, too_far = [], list[LintFinding]()
    for i, (one, other) in enumerate(zip(before.summed, after.summed, strict=True)):
        sentence, far = _moved(one, other, most)
        too_far += sentence
        moved.append((i, far / most))
    found += too_far[:1]  # what comes after it may follow from it
    if swapped:  # with another number of records the pace of every client differs, which is public
        found += _updated(before.averaged, after.averaged)
    return list(dict.fromkeys(found)), Touched(tuple(touched), tuple((i, far) for i, far in moved if far > 0))


def _counts(seen: Seen) -> tuple[list[int], int, int]:
    return [len(one.parts) for one in seen.trained], len(seen.summed), len(seen.averaged)


def _trained(before: Seen, after: Seen, most: int) -> tuple[list[LintFinding], list[tuple[int, int]]]:
    found, touched = [], []
    for i, (one, other) in enumerate(zip(before.trained, after.trained, strict=True)):
        rows = [(alone(a, b), alone(b, a)) for a, b in zip(one.parts, other.parts, strict=True)]
        for k, (gone, come) in enumerate(rows):
            touched += [(i, k)] * (max(len(gone), len(come)) if most == 1 else len(come))
        if changed := _changed(rows, most):
            found.append(
                LintFinding(
                    "arrivals",
                    f"one record changes {changed} of the {max(map(len, other.parts))} rows of a private training, "
                    "where it should be its own alone: give each record to a training once, scaled, encoded and "
                    "assigned by public numbers and the record itself",
                )
            )
    return found, touched


def _changed(rows: Sequence[tuple[Arrays, Arrays]], most: int) -> int:
    """How many rows of a part, or of all parts where one record has another's place, are others, if too many; else 0.

    rows: of each part those that went, and those that came.
    """
    sizes = [(len(gone), len(come)) for gone, come in rows]
    if most > 1:
        gone, come = (np.unique(np.concatenate(part), axis=0) for part in zip(*rows, strict=True))
        sizes.append((len(gone), len(come)))
    return max((max(size) for size in sizes if max(size) > 1 or sum(size) > most), default=0)


def unmatched(a: Examples, b: Examples) -> int:
    """How many rows of `a` are not in `b`, each row of which stands for one."""
    return len(alone(a, b))


def alone(a: Examples, b: Examples) -> Arrays:
    """The rows of `a`, labels behind them, that are not in `b`, each row of which stands for one."""
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
    features = part.x.reshape(len(part), math.prod(part.shape))  # of an empty part, too
    return np.column_stack([features, part.y.astype(np.float32)])


def _keys(part: Examples) -> list[bytes]:
    return [row.tobytes() for row in np.ascontiguousarray(_flat(part))]


def _rows(part: Examples, wanted: Counter[bytes]) -> Arrays:
    flat = _flat(part)
    rows = [np.frombuffer(key, flat.dtype) for key in wanted.elements()]
    return np.array(rows).reshape(len(rows), flat.shape[1])


def _moved(one: Summed, other: Summed, most: int) -> tuple[list[LintFinding], float]:
    """How far the values moved in all. Rows may each have the bound, and are then accounted as so many steps."""
    if one.values.shape != other.values.shape:
        what = "the shape of what the Gaussian mechanism is given depends on private records: fix it"
        return [LintFinding("arrivals", what)], 0.0
    moves = np.atleast_1d(np.asarray(other.values, np.float64) - one.values)
    rows = np.sqrt(np.square(moves).sum(axis=tuple(range(1, moves.ndim))))
    far = float(rows.max(initial=0)) / most
    whole = float(np.linalg.norm(moves))
    if far <= one.l2_sensitivity * (1 + TOLERANCE):
        return [], whole
    what = (
        f"one record moves the values of the Gaussian mechanism by {far:.3g}, more than the l2_sensitivity of "
        f"{one.l2_sensitivity:.3g} that it is told: clip every record, or give the whole Euclidean distance, and where "
        "chance decides which records come in, draw a number for each from a generator for this sum alone"
    )
    return [LintFinding("arrivals", what)], whole


def beyond(before: Seen, touched: Touched) -> bool:
    """Whether a record moved a sum, all rows of it together, by more than its bound."""
    return any(far > before.summed[i].l2_sensitivity * (1 + TOLERANCE) for i, far in touched.summed)


def lost(before: Seen, after: Seen) -> float:
    """The most different rows that went from all parts of a training together."""
    if _counts(before) != _counts(after):
        return math.inf
    pairs = [zip(a.parts, b.parts, strict=True) for a, b in zip(before.trained, after.trained, strict=True)]
    gone = [np.concatenate([alone(*parts) for parts in one]) for one in pairs]
    return max((len(np.unique(rows, axis=0)) for rows in gone), default=0)


def additive(before: Seen, *changed: Seen, records: int = 1) -> bool:
    """Whether two records change each sum by what each does alone, as where it is one of records.

    changed: with the one, with the other, and with both. records: how many there are, where what each does may follow
    from that; one more then changes it by a part as small as one in so many.
    """
    shapes = {tuple(one.values.shape for one in seen.summed) for seen in (before, *changed)}
    if len(shapes) > 1:
        return False
    sums = zip(*(seen.summed for seen in (before, *changed)), strict=True)
    return all(
        np.abs(d.values - b.values - c.values + a.values).max(initial=0) <= TOLERANCE * a.l2_sensitivity / records
        for a, b, c, d in sums
    )


def placed(one: Seen, other: Seen) -> bool:
    """Whether another seed leaves every row in its part and every sum as it was: then chance deals out nothing."""
    if _counts(one) != _counts(other) or not (one.trained or one.summed):
        return False
    parts = [[part for trained in seen.trained for part in trained.parts] for seen in (one, other)]
    same = all(len(a) == len(b) and not unmatched(a, b) for a, b in zip(*parts, strict=True))
    return same and all(np.array_equal(a.values, b.values) for a, b in zip(one.summed, other.summed, strict=True))


def scattered(one: Seen, other: Seen) -> bool:
    """Whether another seed gives parts of other sizes, as where chance deals out each record by itself."""
    if _counts(one) != _counts(other):
        return False
    parts = [[len(part) for trained in seen.trained for part in trained.parts] for seen in (one, other)]
    return parts[0] != parts[1]


def dealt(before: Seen, turned: Seen) -> list[LintFinding]:
    """Whether records go by where they stand; in `turned` they stand otherwise."""
    if _counts(before) != _counts(turned):
        return []  # which is said elsewhere
    moved = 0
    for one, other in zip(before.trained, turned.trained, strict=True):
        rows = [unmatched(a, b) + unmatched(b, a) for a, b in zip(one.parts, other.parts, strict=True)]
        moved = max(moved, sum(rows))
    sums = zip(before.summed, turned.summed, strict=True)
    if not moved and not any(_moved(one, other, 1)[0] for one, other in sums):
        return []
    what = (
        "records in another order are given to other parts, or as other rows: assign records by what they are, or by "
        "chance from the seed, never by their place"
    )
    return [LintFinding("arrivals", what)]


def crowded(sparse: Seen, grown: Seen, more: int) -> list[LintFinding]:
    """Whether so many records more change more than so many rows, as where classes of some size or means decide."""
    if _counts(sparse) != _counts(grown):
        what = "how many trainings, parts or sums there are depends on the size of a class: fix them by options"
        return [LintFinding("arrivals", what)]
    for one, other in zip(sparse.trained, grown.trained, strict=True):
        for a, b in zip(one.parts, other.parts, strict=True):
            changed = unmatched(a, b) + unmatched(b, a)
            if changed > more:
                what = (
                    f"{more} records more change {changed} rows of a private training: let neither the size of a class "
                    "nor what is true of many records decide which records come in, and as what"
                )
                return [LintFinding("arrivals", what)]
    return [found for a, b in zip(sparse.summed, grown.summed, strict=True) for found in _moved(a, b, more)[0]]


def _updated(before: Sequence[Averaged], after: Sequence[Averaged]) -> list[LintFinding]:
    for one, other in zip(before, after, strict=True):
        if len(one.updates) != len(other.updates):
            continue  # one was refused, and who is who cannot be told
        changed = sum(
            not np.allclose(_vector(a), _vector(b), rtol=0, atol=AGREE * float(np.linalg.norm(_vector(a))))
            for a, b in zip(one.updates, other.updates, strict=True)
        )
        if changed > 2:  # one record left a client, and one came to another
            what = (
                f"one record changes the updates of {changed} clients: give every record to one client, by itself alone"
            )
            return [LintFinding("arrivals", what)]
    return []


def _vector(update: Sequence[Arrays]) -> Arrays:
    return np.concatenate([np.ravel(part) for part in update])
