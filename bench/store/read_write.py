"""The one reader and the one writer of stored records: strict JSON, of bounded size, under a seal of its own figures.

A file is the JSON of one record, keys sorted, with a `seal`: the digest of all its other bytes. It shows that a file
was edited or damaged since `bench` wrote it; it is no signature, for anybody can compute one.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from bench.core.errors import Caveat
from bench.core.files import read_regular, write
from bench.store.differences import PairedDifference
from bench.store.records import KINDS, Record

R = TypeVar("R", bound=Record)

MOST = 4 << 20  # bytes of a record; the largest of ours has 6 thousand
SEAL = "seal"
_BEFORE = b',\n "seal": "'  # of no text: none holds a line break
_DIGITS = 32  # of a seal
_DECODERS: Mapping[str, msgspec.json.Decoder[Any]] = {name: msgspec.json.Decoder(kind) for name, kind in KINDS.items()}
_ESCAPE = re.compile(rb"\\(u[0-9a-fA-F]{4}|.)")
_NEWLINES = (0x2028, 0x2029)


class Damaged(ValueError):
    """A file that holds no record; the message completes "it is left out (...)"."""


def encode(record: Record) -> bytes:
    """The file of a record. Raises ValueError on what `decode` would refuse, so that no such file is ever written."""
    data = sealed(msgspec.to_builtins(record, enc_hook=_plain))
    decode(type(record), data)
    return data


def decode(kind: type[R], data: bytes) -> R:
    """The record in the bytes of a file. Raises Damaged, saying why, unless it is one to the last field."""
    body, seal = _cut(data)
    if _seal(body).encode() != seal:
        raise Damaged("its seal is not that of its figures: it was edited or damaged since it was written")
    try:
        if b"\\" in body or not body.isascii():
            _check_text(body)
        record: R = _DECODERS[kind.kind].decode(body)
        record.check()
    except (ValueError, TypeError, OverflowError) as error:  # msgspec's errors are ValueErrors
        raise Damaged(str(error)) from None
    except RecursionError:
        raise Damaged("it is nested too deeply") from None
    return record


def read(root: Path, path: str | Path, kind: type[R]) -> R:
    """The record in a file below `root`. Raises FileNotFoundError where there is none, Damaged where it is none."""
    try:
        record = decode(kind, read_regular(path, MOST))
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except OSError as error:
        raise Damaged(error.strerror or str(error)) from None
    except ValueError as error:
        raise Damaged(str(error)) from None
    if os.path.join(root, *record.place) != os.fspath(path):
        raise Damaged("it holds the record of another file")
    return record


def load(root: Path, path: str | Path, kind: type[R]) -> R | None:
    """What `read` reads; None where there is nothing or, with a Caveat, something damaged."""
    try:
        return read(root, path, kind)
    except FileNotFoundError:
        if not os.path.islink(path):
            return None
        error = Damaged("it is a link to a file that is not there")
    except Damaged as damage:
        error = damage
    warnings.warn(f"{path} is left out ({error}): delete it or {kind.remedy}.", Caveat, stacklevel=3)
    return None


def save(root: Path, record: Record) -> Path:
    """Write a record to its place below `root`, over an older one. Raises UserError where the disk refuses."""
    path = root.joinpath(*record.place)
    write(path, encode(record))
    return path


def sealed(values: Mapping[str, Any]) -> bytes:
    """The file of a record's plain values, with its seal; whether they are a record is not checked here.

    Raises ValueError for a number that JSON cannot hold.
    """
    return _canonical({**values, SEAL: _seal(_canonical(_unsealed(values)))})


def seal_values(kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values of a record with their `seal`. kind: "cell", "control", "verdict", "audit", "score", "difference".

    A difference may come as the words of a line of comparisons.csv. Raises Damaged where the values are no record.
    """
    if kind == PairedDifference.kind:
        return {**values, SEAL: seal_of(difference(_unsealed(values)))}
    decode(KINDS[kind], sealed(values))
    return {**values, SEAL: _seal(_canonical(_unsealed(values)))}


def difference(words: Mapping[str, Any]) -> PairedDifference:
    """The difference in a line of comparisons.csv. Raises Damaged where it is none."""
    try:
        found = msgspec.convert(words, PairedDifference, strict=False)
        if not all(map(math.isfinite, (found.value, found.low, found.high, found.p))):
            raise ValueError("a number in it is not finite")
        found.check()
        _check_text(json.dumps(words).encode())
    except (ValueError, TypeError) as error:
        raise Damaged(str(error)) from None
    return found


def seal_of(record: PairedDifference) -> str:
    """The digest of its fields."""
    return _seal(_canonical(msgspec.to_builtins(record)))


def _cut(data: bytes) -> tuple[bytes, bytes]:
    """A file without its seal, and the seal."""
    start = data.find(_BEFORE)
    digits = start + len(_BEFORE)
    end = digits + _DIGITS
    if start < 0 or data[end : end + 1] != b'"':
        raise Damaged("it carries no seal")
    return data[:start] + data[end + 1 :], data[digits:end]  # and 1 for the quotation mark


def plain_line(text: str) -> str:
    """A text as a record may hold it: on one line, control characters and lone surrogates spelled out."""
    line = " ".join(text.split()).encode("utf-8", "backslashreplace").decode()
    return "".join(letter if letter == " " or letter.isprintable() else ascii(letter)[1:-1] for letter in line)


def _unsealed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != SEAL}


def _canonical(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True, indent=1, allow_nan=False).encode() + b"\n"


def _seal(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def _check_text(body: bytes) -> None:
    """Raise ValueError where a text holds a control character, a line break or half a character (a lone surrogate)."""
    if not body.isascii():
        raise ValueError("it holds letters that are not spelled out, as they are when `bench` writes it")
    high = False  # whether the first half of a character came just before
    end = -1
    for escape in _ESCAPE.finditer(body):
        code = int(escape[1][1:], 16) if len(escape[1]) == 5 else 0 if escape[1] in b"bfnrt" else ord(escape[1])
        if high and not (0xDC00 <= code < 0xE000 and escape.start() == end):
            raise ValueError("a text in it holds half a character")
        if not high and 0xDC00 <= code < 0xE000:
            raise ValueError("a text in it holds half a character")
        if code < 0x20 or 0x7F <= code < 0xA0 or code in _NEWLINES:
            raise ValueError("a text in it holds a control character or a line break")
        high, end = 0xD800 <= code < 0xDC00, escape.end()
    if high:
        raise ValueError("a text in it holds half a character")


def _plain(value: object) -> object:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} cannot be stored in a record")
