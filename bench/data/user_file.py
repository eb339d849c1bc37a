"""Data sets in files of the user: `--data my.csv,label=target`, scaled by public information alone."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType

import numpy as np

from bench.core.component import Choice, Component, Option, OptionValue
from bench.core.dataset import DataLocation, Examples, Split, first, record_keys
from bench.core.errors import Caveat, UserError, suggest
from bench.data.user_file_parser import Records, bounds_file, parse

LABEL = {".csv": "label", ".npz": "y"}
OPTIONS = {
    "label": Option("the column or array that holds the labels"),
    "private": Option("private records, 0 for half of all", at_least=0),
    "holdout": Option("holdout records, 0 for a quarter of all", at_least=0),
    "public": Option("public records, 0 for a quarter of all", at_least=0),
    "attribute": Option("the column that attribute inference asks about, empty for the first column of categories"),
    "content": Option("digest of the file; a file with another digest is refused"),
}


def is_file(name: str) -> bool:
    """Whether a data set's name is that of a file of records."""
    return Path(name).suffix in LABEL


def component(name: str) -> Component:
    """A file of records as a data set, without reading it, which suffices to find its stored cells.

    Its options: the label's column, sizes (0: a half, a quarter, a quarter), the attribute that attribute inference
    targets (by default the first categorical column), and the digest of the content.
    """
    options: dict[str, OptionValue] = {"label": LABEL[Path(name).suffix]}
    options |= {"private": 0, "holdout": 0, "public": 0, "attribute": "", "content": ""}
    summary = "Records of your own."
    load = partial(_load, Path(name))
    return Component(
        Path(name).name, "data", load, MappingProxyType(options), summary, Path(__file__), described=OPTIONS
    )


def _load(
    path: Path,
    where: DataLocation,
    rng: np.random.Generator,
    *,
    label: str,
    content: str,
    private: int,
    holdout: int,
    public: int,
    attribute: str,
) -> Split:
    records = read_once(path, content, label)
    return split(path.name, records, rng, private=private, holdout=holdout, public=public, attribute=attribute)


def choice(word: str, given: Mapping[str, OptionValue]) -> Choice:
    """The data set in a file. Its cells are named by the file's name and a digest of its content, never by its path.

    Raises UserError for any mistake in the file, naming the line, and where its digest is not the given `content`.
    """
    path, plain = Path(word), component(word)
    content = _digest(*_bytes(path))
    if given.get("content", content) != content:
        raise UserError(f"{path} has content={content}, not {given['content']}: leave that out to measure it as it is.")
    label = str(given.get("label", plain.options["label"]))
    records = read_once(path, content, label)
    attribute = str(given.get("attribute", ""))
    if attribute and attribute not in records.attributes:
        raise UserError(f"{path.name} has no categories {attribute!r}: {suggest(attribute, records.attributes)}")

    has = {"pictures"} if records.pictures else {"attributes"} if records.attributes else set()
    plain.function.__doc__ = _described(path, records)
    return Choice(replace(plain, has=frozenset(has), records=len(records.y)), {**given, "content": content})


def sent_name(data: Choice) -> str:
    """The name under which a file of records is sent to another machine, "" for a data set that is in no file."""
    path = _path(data)
    return f"{data.settings['content']}/{path.name}" if path else ""


def sent_files(data: Choice) -> dict[str, bytes]:
    """The bytes of a file of records, and of the bounds beside it, by the names under which they are sent."""
    path = _path(data)
    if path is None:
        return {}
    records, bounds = _bytes(path)
    name = sent_name(data)
    return {name: records} | ({str(bounds_file(Path(name))): bounds} if bounds else {})


def _path(data: Choice) -> Path | None:
    load = data.component.function
    return Path(load.args[0]) if isinstance(load, partial) and load.func is _load else None


def _described(path: Path, records: Records) -> str:
    """The card of a file (`bench.data.card`), from its content."""
    given = bounds_file(path).name if path.suffix == ".csv" else "its arrays low and high"
    known = [f"the {len(records.labels)} labels", f"what {given} says" if records.given else ""]
    inferred = f"{records.inferred}, inferred from the public part" if records.inferred else ""
    return (
        f"Records of your own.\n\nSource: {path.name}.\nLicence: yours to know.\n"
        f"Size: {records.n:,} records, of which {len(records.y):,} are distinct, in {len(records.columns)} columns, "
        f"{len(records.labels)} classes.\n"
        f"Assumed public: {'; '.join(filter(None, [*known, inferred]))}.\nCitation: none.\n"
    )


def _digest(data: bytes, bounds: bytes) -> str:
    """A digest of the content of a file and of its bounds file, 12 hex digits."""
    hashed = hashlib.blake2b(digest_size=6)
    for part in (data, bounds):
        hashed.update(len(part).to_bytes(8, "big") + part)
    return hashed.hexdigest()


def _bytes(path: Path) -> tuple[bytes, bytes]:
    bounds = bounds_file(path)
    try:
        return path.read_bytes(), bounds.read_bytes() if path.suffix == ".csv" and bounds.exists() else b""
    except OSError as error:
        raise UserError(f"the data {path} cannot be read ({error.strerror}): correct its path.") from error


@lru_cache(maxsize=2)
def read_once(path: Path, content: str, label: str) -> Records:
    """Read once per process, because every seed reads it again; `content` distinguishes versions of a file."""
    data, bounds = _bytes(path)
    if _digest(data, bounds) != content:
        raise UserError(f"{path} was changed while it was read: run again.")
    return parse(path, data, bounds, label)


def split(
    name: str, records: Records, rng: np.random.Generator, *, private: int, holdout: int, public: int, attribute: str
) -> Split:
    """Split at random; the public part is drawn first, and it alone decides how records are scaled.

    Of records that become equal by scaling one stays, a public one if there is any. Raises UserError where too few
    records are left.
    """
    public = public or max(1, len(records.y) // 4)
    order = rng.permutation(len(records.y))
    x, attributes = records.encoded(order[: max(1, public)])
    every = Examples(x, records.y, len(records.labels))
    keys = record_keys(every)
    distinct: dict[bytes, int] = {}
    for row in order.tolist():
        distinct.setdefault(keys[row], row)
    rows = np.array(list(distinct.values()))
    n = len(rows)
    private = private or min(n // 2, n - public - (holdout or n // 4))
    holdout = holdout or min(n // 4, n - public - private)
    if min(private, holdout, public) < 1 or private + holdout + public > n:
        raise UserError(
            f"{name} has {n} records that differ once they are scaled, too few for private={private}, "
            f"holdout={holdout}, public={public}: each must be at least 1 and their sum at most {n}."
        )
    if records.inferred:
        # The public rows are drawn from the file like all others: only the user knows whether they may be public.
        warnings.warn(
            Caveat(f"{name}: taken from its public part, as if everybody knew it: {records.inferred}"), stacklevel=2
        )
    ends = np.cumsum([public, private, holdout])
    parts = [every[one] for one in np.split(rows[: ends[-1]], ends[:-1])]
    attribute = attribute or next(iter(attributes), "")
    return Split(name, parts[1], parts[2], parts[0], first(attribute, attributes) if attributes else ())
