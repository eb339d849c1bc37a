"""What a job reports while it runs: typed messages, and their form on the wire: JSON, and arrays as `.npz` bytes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.core.arrays import CACHED, read_arrays
from bench.core.errors import UserError
from bench.store import read_write
from bench.store.records import KINDS, Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = Mapping[str, "NDArray[Any]"]
Name = tuple[str | int, ...]  # of what a job measures: of a cell its data, defense, attack and seed
Wire = tuple[str, dict[str, bytes]]


@dataclass(frozen=True)
class Trained:
    """The release of a cell, and of all others of its group, was trained.

    digest: of the training; sheet: pictures of samples, empty where there are none; fits: as of `Finished`.
    """

    name: Name
    digest: str
    sheet: Arrays
    fits: Mapping[str, float]


@dataclass(frozen=True)
class Finished:
    """A record was measured, with its answers, record by record, and its pictures.

    fits: the trainings that it requested, by key, with the seconds of each.
    """

    name: Name
    record: Record
    answers: Arrays = field(default_factory=dict)
    sheet: Arrays = field(default_factory=dict)
    fits: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """Some records could not be measured, for one reason. mistake: the user can correct it."""

    names: tuple[Name, ...]
    reason: str
    mistake: bool = False


Message = Trained | Finished | Failed


def done(message: Message) -> tuple[Name, ...]:
    """What needs no more measuring after a message."""
    if isinstance(message, Failed):
        return message.names
    return (message.name,) if isinstance(message, Finished) else ()


def failed(names: Iterable[Name], what: str, error: Exception) -> Failed:
    """The failure of these by an error. what: what was being done, for readers of an error that is no UserError."""
    if isinstance(error, UserError):
        return Failed(tuple(names), " ".join(str(error).split()), mistake=True)
    return Failed(tuple(names), " ".join(f"{what}, {type(error).__name__}: {error}".split()))


def pack(message: Message) -> Wire:
    """The form of a message on the wire."""
    if isinstance(message, Failed):
        return _json(Failed, names=message.names, reason=message.reason, mistake=message.mistake), {}
    if isinstance(message, Trained):
        text = _json(Trained, name=message.name, digest=message.digest, fits=message.fits)
        return text, {"sheet": _npz(message.sheet)}
    record = {"kind": message.record.kind, "record": read_write.encode(message.record).decode()}
    text = _json(Finished, name=message.name, fits=message.fits, **record)
    return text, {"answers": _npz(message.answers), "sheet": _npz(message.sheet)}


def unpack(wire: Wire) -> Message:
    """The message of this form. Raises ValueError where a record or an array in it is none."""
    text, files = wire
    values = json.loads(text)
    kind = values.pop("message")
    arrays = {name: read_arrays(data, CACHED) for name, data in files.items()}
    if kind == Failed.__name__:
        return Failed(tuple(map(tuple, values["names"])), values["reason"], values["mistake"])
    if kind == Trained.__name__:
        return Trained(tuple(values["name"]), values["digest"], fits=values["fits"], **arrays)
    record = read_write.decode(KINDS[values["kind"]], values["record"].encode())
    return Finished(tuple(values["name"]), record, fits=values["fits"], **arrays)


def _json(of: type[Message], **values: Any) -> str:
    return json.dumps({"message": of.__name__, **values}, allow_nan=False)


def _npz(arrays: Arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()
