"""The sets of private records that a defense is tried on: a plain one, neighbours of it, and quite other ones.

Features of the plain set keep to the middle half of their range, and the first of several classes has no record, so
that one record more can change every maximum, minimum, list of labels and norm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples

NEIGHBOURS = ("binary", "ones", "zeros", "copied")
FEW = 40
CLASSES = 10  # where there are two, and more are tried
SPARSE, GROWN = 3, 30  # of each class: fewer than what people call enough, and by how many more it becomes more


def plain(private: Examples, most: int) -> Examples:
    """At most so many of the records, shrunk to [0.25, 0.75], without the first class where there are several more."""
    several = private.classes > 2 and (private.y > 0).any()
    kept = private[private.y > 0] if several else private
    kept = kept[:most]
    return Examples(0.25 + 0.5 * kept.x, kept.y, kept.classes)


def extreme(records: Examples, kind: str, seed: int) -> Examples:
    """One record (of the first class) as far out as features may be, or a copy under another label."""
    rng = np.random.default_rng(seed)
    x: NDArray[np.float64] = {
        "binary": rng.integers(0, 2, (1, *records.shape)),
        "ones": np.ones((1, *records.shape)),
        "zeros": np.zeros((1, *records.shape)),
        "copied": records.x[:1],
    }[kind]
    return Examples(x, np.zeros(1, int), records.classes)


def middle(records: Examples, label: int) -> Examples:
    """One record in the midst of others: among few that lie elsewhere it decides what is said of them all."""
    return Examples(records.x.mean(0, keepdims=True), np.array([label]), records.classes)


def more(records: Examples, added: Examples) -> Examples:
    """With one record, or some, behind the others: a defense may draw something for each place."""
    return Examples(np.concatenate([records.x, added.x]), np.concatenate([records.y, added.y]), records.classes)


def few(records: Examples) -> Examples:
    """A few that agree on nothing, their features as far apart as plain ones may be: each sways what it meets."""
    rng, rows = np.random.default_rng(3), np.arange(min(FEW, len(records)))
    x = rng.choice([0.25, 0.75], (len(rows), *records.shape))
    return Examples(x, rng.permutation(records.y)[rows], records.classes)


def rare(records: Examples) -> Examples:
    """The same with one record at most of the first class, which another one sways most of all."""
    y = records.y.copy()
    y[np.flatnonzero(y == 0)[1:]] = records.classes - 1
    return Examples(records.x, y, records.classes)


def classed(records: Examples) -> Examples:
    """The same records in CLASSES classes of equal number, from the darkest to the brightest."""
    y = np.empty(len(records), int)
    y[records.x.reshape(len(records), -1).mean(1).argsort(kind="stable")] = np.arange(len(records)) * CLASSES
    return Examples(records.x, y // max(1, len(records)), CLASSES)


def sparse(records: Examples) -> Examples:
    """So few of each class that they may be too few, with features at and between both ends of their range."""
    rng, y = np.random.default_rng(4), np.repeat(np.arange(records.classes), SPARSE)
    return Examples(rng.choice([0.0, 0.25, 0.75, 1.0], (len(y), *records.shape)), y, records.classes)


def grown(records: Examples) -> Examples:
    """With GROWN more of each class behind them."""
    rng, y = np.random.default_rng(5), np.repeat(np.arange(records.classes), GROWN)
    return more(records, Examples(rng.choice([0.25, 0.75], (len(y), *records.shape)), y, records.classes))


def lopsided(records: Examples) -> Examples:
    """As many as `grown`, whose first ones they share; all others are of the last class, and darker."""
    x, y, first = records.x.copy(), records.y.copy(), SPARSE * records.classes
    x[first:] *= 0.5
    y[first:] = records.classes - 1
    return Examples(x, y, records.classes)


def turned(records: Examples) -> Examples:
    """The same in another order."""
    return records[np.random.default_rng(6).permutation(len(records))]


def replaced(records: Examples, one: Examples, place: int | None = None) -> Examples:
    """With one record in the place of another, by default of that in the middle."""
    x, y, there = records.x.copy(), records.y.copy(), len(records) // 2 if place is None else place
    x[there], y[there] = one.x[0], one.y[0]
    return Examples(x, y, records.classes)


def others(records: Examples, seed: int = 1) -> Examples:
    """As many records that share nothing with these: other values, another scale, other counts, the last class gone."""
    rng = np.random.default_rng(seed)
    y = np.minimum(*rng.integers(0, max(1, records.classes - 1), (2, len(records))))
    return Examples(0.1 * rng.random(records.x.shape, np.float32), y, records.classes)
