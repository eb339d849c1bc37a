"""Records, and the one way to split them into private, holdout and public parts that share no record."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError


@dataclass(frozen=True)
class Examples:
    """Labelled records: `x` float32 (n, *shape) with every feature in [0, 1], `y` int64 (n,), labels below `classes`.

    `shape` and `classes` are properties of the schema, public like it; an empty part still knows both.
    Raises UserError, naming the first bad record, where a value is not finite or a label is out of range.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    classes: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "x", np.ascontiguousarray(self.x, np.float32))
        object.__setattr__(self, "y", np.ascontiguousarray(self.y, np.int64))
        if len(self.x) != len(self.y):
            raise UserError(f"{len(self.x)} records came with {len(self.y)} labels: give every record one label.")
        # Not by reshape(n, -1), which an empty part does not know how to answer.
        bad = np.flatnonzero(~np.isfinite(self.x).all(axis=tuple(range(1, self.x.ndim))))
        if len(bad):
            raise UserError(f"record {bad[0]} holds a value that is not a finite number: repair or remove it.")
        bad = np.flatnonzero((self.y < 0) | (self.y >= self.classes))
        if len(bad):
            raise UserError(f"record {bad[0]} has label {self.y[bad[0]]}, outside of 0 to {self.classes - 1}.")
        self.x.setflags(write=False)
        self.y.setflags(write=False)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: NDArray[Any] | slice) -> Examples:
        return Examples(self.x[rows], self.y[rows], self.classes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one record."""
        return self.x.shape[1:]


@dataclass(frozen=True)
class Attribute:
    """A categorical attribute of a record: one-hot in the columns `start` to `stop - 1`, or one binary column."""

    name: str
    start: int
    stop: int


def flags(name: str, what: str, n: int, first: int) -> tuple[Attribute, ...]:
    """Each of `n` binary columns as an attribute `what_i`; the column `first` comes first."""
    if not 0 <= first < n:
        raise UserError(f"{name} has {what}s 0 to {n - 1}, so attribute={first} is none of them.")
    return tuple(Attribute(f"{what}_{i}", i, i + 1) for i in (first, *range(first), *range(first + 1, n)))


def first(name: str, known: Mapping[str, Attribute]) -> tuple[Attribute, ...]:
    """All attributes, the named one first: that is the one that attribute inference targets."""
    return (known[name], *(one for key, one in known.items() if key != name))


@dataclass(frozen=True)
class Split:
    """One data set, split: `private` trains, `holdout` is never shown to a defense, `public` is everybody's.

    attributes: those of flat records, the one that attribute inference targets first.
    """

    name: str
    private: Examples
    holdout: Examples
    public: Examples
    attributes: tuple[Attribute, ...] = ()


@dataclass(frozen=True)
class DataLocation:
    """Where records may come from: a folder of official files, and whether the network must not be used."""

    data_dir: Path | None = None
    offline: bool = False


def record_keys(examples: Examples) -> list[bytes]:
    """A digest of each record's features; records with equal features are the same record, whatever their labels."""
    return row_keys(examples.x)


def row_keys(x: NDArray[Any]) -> list[bytes]:
    """A digest of each row of an array (n, …)."""
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in x]


def split(
    name: str,
    records: Examples,
    rng: np.random.Generator,
    *,
    private: int,
    holdout: int,
    public: int,
    by_class: bool = False,
) -> Split:
    """Split records at random into three parts that share no content; later copies of a record are dropped first.

    by_class: each part has its share of each class, up to one record where classes are of one size.
    Raises UserError where there are fewer distinct records than requested.
    """
    first = {key: i for i, key in reversed(list(enumerate(record_keys(records))))}
    distinct = np.array(sorted(first.values()), np.int64)
    if min(private, holdout, public) < 1 or private + holdout + public > len(distinct):
        raise UserError(
            f"{name} has {len(distinct)} distinct records, but private={private}, holdout={holdout}, "
            f"public={public} were requested: each must be at least 1 and their sum at most {len(distinct)}."
        )
    order = rng.permutation(distinct)
    if by_class:  # in rounds of one record per class, so that any stretch of the order has its share of each class
        order = order[np.argsort(_rounds(records.y[order]), kind="stable")]
    ends = np.cumsum([private, holdout, public])
    parts = np.split(order[: ends[-1]], ends[:-1])
    return Split(name, records[parts[0]], records[parts[1]], records[parts[2]])


def _rounds(y: NDArray[Any]) -> NDArray[Any]:
    """For each label the number of equal labels before it."""
    by_label = np.argsort(y, kind="stable")
    _, starts, counts = np.unique(y[by_label], return_index=True, return_counts=True)
    rounds = np.empty(len(y), np.int64)
    rounds[by_label] = np.arange(len(y)) - np.repeat(starts, counts)
    return rounds


def shared(data: Split) -> int:
    """How many distinct records occur in more than one part, by content: 0 for every sound split."""
    parts = [set(record_keys(part)) for part in (data.private, data.holdout, data.public)]
    return sum(map(len, parts)) - len(set().union(*parts))


def unit(x: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
    """Scale numbers to [0, 1] by a public range; values outside of it are clipped."""
    span = np.where(
        high > low, high - low, 1
    )  # of a feature that is constant in public, values above become 1 and others 0
    return np.asarray(np.clip((x - low) / span, 0, 1))


def scaled(data: Split) -> Split:
    """Scale each feature to [0, 1] by the range of the public part alone, clipping the other parts.

    No private or holdout record influences the scaling, so a defense's guarantee holds. Raises UserError where the
    public part is too small for that: so many values are clipped that different records become equal.
    """
    low, high = data.public.x.min(0), data.public.x.max(0)

    def scale(part: Examples) -> Examples:
        return Examples(unit(part.x, low, high), part.y, part.classes)

    result = replace(data, private=scale(data.private), holdout=scale(data.holdout), public=scale(data.public))
    if shared(result):
        raise UserError(f"{data.name}: public={len(data.public)} records are too few to scale by: ask for more.")
    return result
