"""Parses files of records: my.csv, with the bounds of its columns in my.bounds.yaml, or my.npz."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.arrays import BadArrays, read_arrays
from bench.core.dataset import Attribute, unit
from bench.core.errors import UserError, suggest

MOST = 100  # unlisted categories of a column; a column with more is one of names, or of numbers and a word
LONGEST = 1 << 20  # bytes of bounds
HUGE = 1e100  # far from what float64 can hold, so that differences can be taken


@dataclass(frozen=True)
class Numbers:
    """A column of numbers (n, 1), or all features together (n, *shape), and their range where it was given."""

    name: str
    values: NDArray[Any]
    given: tuple[NDArray[Any], NDArray[Any]] | None = None

    def encoded(self, public: NDArray[Any]) -> NDArray[Any]:
        """Scaled to [0, 1] by the given range, else by that of the `public` rows."""
        known = self.values[public]
        return unit(self.values, *(self.given or (known.min(0), known.max(0))))


@dataclass(frozen=True)
class Words:
    """A column of categories (n,), and their list where it was given."""

    name: str
    values: NDArray[Any]
    given: tuple[str, ...] | None = None

    def encoded(self, public: NDArray[Any]) -> NDArray[Any]:
        """One-hot, (n, values), over the given values, else those of the `public` rows; other values are all zero."""
        known = self.given or sorted(set(self.values[public].tolist()))
        if not self.given and len(known) > MOST:
            raise UserError(
                f"the column {self.name!r} has {len(known)} different values in the public part, too many for "
                "categories: leave it out, or give its range or its values in the .bounds.yaml file."
            )
        return np.asarray(self.values[:, None] == np.array(known)[None], np.float64)


@dataclass(frozen=True)
class Records:
    """The distinct records of a file: features by column, labels as indices of `labels`; `n` counts copies too."""

    columns: tuple[Numbers | Words, ...]
    y: NDArray[Any]
    labels: tuple[str, ...]
    labels_given: bool
    n: int

    @property
    def given(self) -> bool:
        """Whether any range or list of values was given."""
        return self.labels_given or any(column.given is not None for column in self.columns)

    @property
    def pictures(self) -> bool:
        """Whether a record has height, width and colours."""
        return self.columns[0].values.ndim == 4

    @property
    def attributes(self) -> list[str]:
        """The names of the columns of categories."""
        return [column.name for column in self.columns if isinstance(column, Words)]

    def encoded(self, public: NDArray[Any]) -> tuple[NDArray[Any], dict[str, Attribute]]:
        """All records in [0, 1], and each category's columns, by given ranges and values, else by `public` rows."""
        parts = [column.encoded(public) for column in self.columns]
        ends = np.cumsum([part.shape[1] for part in parts]).tolist()
        known = {
            column.name: Attribute(column.name, end - part.shape[1], end)
            for column, part, end in zip(self.columns, parts, ends, strict=True)
            if isinstance(column, Words)
        }
        return (parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)), known

    @property
    def inferred(self) -> str:
        """What is inferred from the public part, in words; empty where everything was given."""
        ranges = [c.name for c in self.columns if isinstance(c, Numbers) and c.given is None]
        values = [c.name for c in self.columns if isinstance(c, Words) and c.given is None]
        parts = [f"the range of {_several(ranges)}"] if ranges else []
        return " and ".join([*parts, f"the values of {_several(values)}"] if values else parts)


def _several(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 6 else f"{len(names)} columns"


def bounds_file(path: Path) -> Path:
    """The file that may hold the bounds of a CSV's columns."""
    return path.with_suffix(".bounds.yaml")


def parse(path: Path, data: bytes, bounds: bytes, label: str) -> Records:
    """Records from the bytes of a file and of its bounds. Raises UserError, naming the line or the record."""
    if path.suffix == ".npz":
        return _npz(path.name, data, label)
    return _csv(path.name, data, _bounds(bounds_file(path).name, bounds) if bounds else {}, label)


Bounds = Mapping[str, tuple[str, ...]]


def _bounds(name: str, data: bytes) -> Bounds:
    import yaml

    if len(data) > LONGEST:
        raise UserError(f"{name} has {len(data)} bytes, more than {LONGEST}: give the bounds of fewer columns.")
    try:
        # Words as they stand: the plain loader makes a truth value of `no`.
        loaded = yaml.load(data, Loader=yaml.BaseLoader)
    except RecursionError:
        raise UserError(f"{name} is nested too deeply: write lines as `age: [0, 120]` or `sex: [f, m]`.") from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise UserError(f"{name} is not valid YAML{where}: write lines as `age: [0, 120]` or `sex: [f, m]`.") from error
    if not isinstance(loaded, dict):
        raise UserError(f"{name} must hold a line a column, as `age: [0, 120]` or `sex: [f, m]`.")
    for column, values in loaded.items():
        words = isinstance(values, list) and all(isinstance(value, str) for value in values)
        if not words or len(set(values)) < max(2, len(values)):
            raise UserError(f"{name}: {column} must be a list of two or more different values, as in [0, 120].")
        if (ends := _range(values)) and not ends[0] < ends[1]:
            raise UserError(f"{name}: the range {column} must be two finite numbers, the smaller one first.")
    return {str(column): tuple(values) for column, values in loaded.items()}


def _range(values: Sequence[str]) -> tuple[float, float] | None:
    """Two numbers are a range; anything else is a list of values."""
    numbers = [_number(value) for value in values]
    return (numbers[0], numbers[1]) if len(numbers) == 2 and None not in numbers else None  # type: ignore[return-value]


def _number(word: str) -> float | None:
    """A finite number below HUGE; NaN for other numbers; None where the word is not a number."""
    try:
        value = float(word)
    except ValueError:
        return None
    return value if abs(value) < HUGE and "_" not in word else np.nan


def _csv(name: str, data: bytes, bounds: Bounds, label: str) -> Records:
    head, lines, rows = _lines(name, data)
    if label not in head:
        raise UserError(f"{name} has no column {label!r} for label=: {suggest(label, head)}")
    for column in bounds:
        if column not in head:
            raise UserError(f"{name} has no column {column!r} of its .bounds.yaml file: {suggest(column, head)}")
    at = head.index(label)
    given = bounds.get(label)
    y, labels = _labels(name, [row[at] for row in rows], [f"line {line}" for line in lines], given)
    # Of equal records the first one stays, as in every other set.
    distinct = {tuple(row[:at] + row[at + 1 :]): i for i, row in reversed(list(enumerate(rows)))}
    kept = sorted(distinct.values())
    columns = [
        _column(name, column, [rows[i][j] for i in kept], [lines[i] for i in kept], bounds.get(column))
        for j, column in enumerate(head)
        if j != at
    ]
    return Records(tuple(columns), y[kept], labels, given is not None, len(rows))


def _lines(name: str, data: bytes) -> tuple[list[str], list[int], list[list[str]]]:
    """The names of the columns, and for each record its line and its cells."""
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True, skipinitialspace=True)
        cells = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 text: save it as one.") from error
    except csv.Error as error:
        raise UserError(f"{name} cannot be read in line {reader.line_num}: {error}.") from error
    if len(cells) < 2:
        raise UserError(f"{name} holds no records: its first line names the columns, each further line is a record.")
    (_, head), rows = cells[0], cells[1:]
    if all(_number(word) is not None for word in head):
        raise UserError(f"{name} begins with numbers: its first line must name the columns.")
    if "" in head or len(set(head)) < len(head):
        twice = next(column for column in head if not column or head.count(column) > 1)
        raise UserError(f"{name} has a column without a name or two of one name ({twice!r}): name each differently.")
    if len(head) < 2:
        raise UserError(f"{name} has the one column {head[0]!r}: it needs a label and features, separated by commas.")
    for line, row in rows:
        if len(row) != len(head):
            raise UserError(f"{name}, line {line}: {len(row)} cells, but there are {len(head)} columns.")
    return head, [line for line, _ in rows], [row for _, row in rows]


def _column(
    name: str, column: str, cells: list[str], lines: list[int], given: tuple[str, ...] | None
) -> Numbers | Words:
    """Numbers where a range was given, or where nothing was given and the first record has a number."""
    ends = _range(given) if given else None
    if not (ends if given else _number(cells[0]) is not None):
        return Words(column, np.array(cells), given)
    found = [_number(cell) for cell in cells]
    for cell, value, line in zip(cells, found, lines, strict=True):
        if value is None:
            raise UserError(
                f"{name}, line {line}: {column} is {cell!r}, but a number in line {lines[0]}: repair it, or list all "
                "values in the .bounds.yaml file if they are categories."
            )
        if np.isnan(value):
            raise UserError(f"{name}, line {line}: {column} is {cell!r}, not a finite number: repair or remove it.")
    return Numbers(column, np.array(found)[:, None], (np.array([ends[0]]), np.array([ends[1]])) if ends else None)


def _labels(
    name: str, words: Sequence[str], places: Sequence[str], given: Sequence[str] | None = None
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Labels as indices, and the labels: as they were given, else sorted, numerically where they are numbers."""
    counts = Counter(words)
    for word, place in zip(words, places, strict=True):
        if not word:
            raise UserError(f"{name}, {place}: the label is empty: fill it in or remove the record.")
        if given is not None and word not in given:
            raise UserError(f"{name}, {place}: the label {word!r} is none of those in the .bounds.yaml file.")
        if counts[word] == 1:
            raise UserError(f"{name}, {place}: no other record has the label {word!r}: add some or remove it.")
    numbers = {word: _number(word) for word in counts}
    by_size = None not in numbers.values()
    known = tuple(given or sorted(counts, key=lambda word: (numbers[word] if by_size else 0, word)))
    if len(known) < 2:
        raise UserError(f"{name} has the one label {known[0]!r}: a classifier needs two.")
    index = {word: i for i, word in enumerate(known)}
    return np.array([index[word] for word in words], np.int64), known


def _npz(name: str, data: bytes, label: str) -> Records:
    arrays = _arrays(name, data, {"x", label, "low", "high"})
    for key in ("x", label):
        if key not in arrays:
            raise UserError(f"{name} has no array {key!r}: {suggest(key, arrays)}")
    x, y = arrays["x"], arrays[label]
    if x.dtype.kind not in "biuf" or x.ndim < 2 or x.ndim > 4 or not x.size:
        raise UserError(f"{name}: x must be numbers, (records, features) or (records, height, width, colours).")
    if y.dtype.kind not in "biuU" or y.shape != x.shape[:1]:
        raise UserError(f"{name}: {label} must hold a whole number or a word for each of the {len(x)} records of x.")
    x = np.asarray(x[..., None] if x.ndim == 3 else x, np.float64)
    bad = np.flatnonzero(~(np.abs(x.reshape(len(x), -1)) < HUGE).all(1))
    if len(bad):
        raise UserError(f"{name}, record {bad[0]}: x holds a value that is not a finite number: repair or remove it.")
    found, labels = _labels(name, [str(one) for one in y.tolist()], [f"record {i}" for i in range(len(y))])
    distinct = {row.tobytes(): i for i, row in reversed(list(enumerate(x)))}
    kept = sorted(distinct.values())
    return Records((Numbers("x", x[kept], _ends(name, arrays, x.shape[1:])),), found[kept], labels, False, len(x))


def _ends(name: str, arrays: Mapping[str, NDArray[Any]], shape: tuple[int, ...]) -> Any:
    given = [arrays[key] for key in ("low", "high") if key in arrays]
    if not given:
        return None
    try:
        low, high = (np.broadcast_to(np.asarray(one, np.float64), shape) for one in given)
        fine = bool(((low < high) & (high - low < HUGE)).all())
    except ValueError:
        fine = False
    if not fine:
        raise UserError(f"{name}: low and high must both be there, a number or one a feature, low below high.")
    return low, high


def _arrays(name: str, data: bytes, wanted: set[str]) -> dict[str, NDArray[Any]]:
    try:
        return read_arrays(data, wanted=wanted)
    except BadArrays as error:
        what = f"its array {error.name!r}: {error}" if error.name else str(error)
        raise UserError(f"{name} cannot be read ({what}): write it with numpy.savez(file, x=x, y=y).") from None
