"""The private data sets of the probes: a base set, neighbours of it, and data sets that share nothing with it.

Features of the base set lie in the middle half of their range, and the first of several classes has no record. So one
added record can change every maximum, minimum, set of labels and norm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples

EXTREMES = ("binary", "ones", "zeros", "copied")
FEW = 40
CLASSES = 10  # where a data set has two, and more are tested
SPARSE, GROWN = 3, 30  # records per class: below any usual minimum, and how many are added to exceed it


def base_records(private: Examples, most: int) -> Examples:
    """At most `most` records, scaled to [0.25, 0.75], without the first class where several others remain."""
    several = private.classes > 2 and (private.y > 0).any()
    kept = private[private.y > 0] if several else private
    kept = kept[:most]
    return Examples(0.25 + 0.5 * kept.x, kept.y, kept.classes)


def extreme_record(records: Examples, kind: str, seed: int) -> Examples:
    """One record of the first class with extreme features (one of EXTREMES), or a copy with another label."""
    rng = np.random.default_rng(seed)
    x: NDArray[np.float64] = {
        "binary": rng.integers(0, 2, (1, *records.shape)),
        "ones": np.ones((1, *records.shape)),
        "zeros": np.zeros((1, *records.shape)),
        "copied": records.x[:1],
    }[kind]
    return Examples(x, np.zeros(1, int), records.classes)


def mean_record(records: Examples, label: int) -> Examples:
    """One record at the mean of the others: few records elsewhere leave it decisive for statistics near the mean."""
    return Examples(records.x.mean(0, keepdims=True), np.array([label]), records.classes)


def with_added(records: Examples, added: Examples) -> Examples:
    """The records followed by the added ones: at the end, since a defense may draw a number for each position."""
    return Examples(np.concatenate([records.x, added.x]), np.concatenate([records.y, added.y]), records.classes)


def few_records(records: Examples) -> Examples:
    """A few records with random features at both ends of the base range and shuffled labels: each has much weight."""
    rng, rows = np.random.default_rng(3), np.arange(min(FEW, len(records)))
    x = rng.choice([0.25, 0.75], (len(rows), *records.shape))
    return Examples(x, rng.permutation(records.y)[rows], records.classes)


def with_rare_class(records: Examples) -> Examples:
    """The same records with at most one of the first class, so that a second one has the largest weight there."""
    y = records.y.copy()
    y[np.flatnonzero(y == 0)[1:]] = records.classes - 1
    return Examples(records.x, y, records.classes)


def with_more_classes(records: Examples) -> Examples:
    """The same records in CLASSES classes of equal size, ordered by mean feature."""
    y = np.empty(len(records), int)
    y[records.x.reshape(len(records), -1).mean(1).argsort(kind="stable")] = np.arange(len(records)) * CLASSES
    return Examples(records.x, y // max(1, len(records)), CLASSES)


def sparse_classes(records: Examples) -> Examples:
    """SPARSE records of each class, with features at and between both ends of their range."""
    rng, y = np.random.default_rng(4), np.repeat(np.arange(records.classes), SPARSE)
    return Examples(rng.choice([0.0, 0.25, 0.75, 1.0], (len(y), *records.shape)), y, records.classes)


def grown_classes(records: Examples) -> Examples:
    """The records followed by GROWN more of each class."""
    rng, y = np.random.default_rng(5), np.repeat(np.arange(records.classes), GROWN)
    return with_added(records, Examples(rng.choice([0.25, 0.75], (len(y), *records.shape)), y, records.classes))


def one_large_class(records: Examples) -> Examples:
    """As many records as `grown_classes`: the same first ones, all others in the last class with halved features."""
    x, y, first = records.x.copy(), records.y.copy(), SPARSE * records.classes
    x[first:] *= 0.5
    y[first:] = records.classes - 1
    return Examples(x, y, records.classes)


def permuted(records: Examples) -> Examples:
    """The same records in another order."""
    return records[np.random.default_rng(6).permutation(len(records))]


def with_replaced(records: Examples, one: Examples, place: int | None = None) -> Examples:
    """With the record at `place` (by default the middle) replaced by another one."""
    x, y, there = records.x.copy(), records.y.copy(), len(records) // 2 if place is None else place
    x[there], y[there] = one.x[0], one.y[0]
    return Examples(x, y, records.classes)


def disjoint_records(records: Examples, seed: int = 1) -> Examples:
    """As many records that share nothing with these: other values, scale and class sizes, and no last class."""
    rng = np.random.default_rng(seed)
    y = np.minimum(*rng.integers(0, max(1, records.classes - 1), (2, len(records))))
    return Examples(0.1 * rng.random(records.x.shape, np.float32), y, records.classes)
