"""Digests of values: the same value, the same 32 hex digits, in any process and on any machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any

import numpy as np


def digest(value: object) -> str:
    """32 hex digits that stand for a value: frozen dataclasses (with class name), mappings, sequences, arrays, scalars.

    A list and a tuple of the same items are the same, as in JSON. Raises TypeError on anything else, paths included:
    what a file is called says nothing about what it holds.
    """
    return _digest(value).hex()


def _digest(value: object) -> bytes:
    return _of_text(value) if type(value) is str else _of_parts(value)


@lru_cache(1 << 13)  # names and digests of files recur in every cell
def _of_text(value: str) -> bytes:
    return _of_parts(value)


def _of_parts(value: object) -> bytes:
    hashed = hashlib.blake2b(digest_size=16)
    for part in _parts(value.item() if isinstance(value, np.generic) else value):
        hashed.update(len(part).to_bytes(8, "big"))  # lengths, so that no two values run into the same bytes
        hashed.update(part)
    return hashed.digest()


def _parts(value: Any) -> list[bytes]:
    """Kind and content; what is nested comes as its digest."""
    if value is None or isinstance(value, bool):
        return [b"constant", repr(value).encode()]
    if isinstance(value, str):
        return [b"str", value.encode("utf-8", "surrogatepass")]
    if isinstance(value, int):
        return [b"int", str(int(value)).encode()]
    if isinstance(value, float):
        return [b"float", float(value).hex().encode()]
    if isinstance(value, (list, tuple)):
        return [b"sequence", *map(_digest, value)]
    if isinstance(value, Mapping):
        pairs = sorted((_digest(key), _digest(item)) for key, item in value.items())
        return [b"mapping", *(half for pair in pairs for half in pair)]
    if type(value) in (np.ndarray, np.memmap) and not value.dtype.hasobject:
        return [b"array", repr(value.dtype.descr).encode(), repr(value.shape).encode(), value.tobytes()]
    if is_dataclass(value) and not isinstance(value, type) and value.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        named = ((field.name.encode(), _digest(getattr(value, field.name))) for field in fields(value))
        return [b"dataclass", type(value).__qualname__.encode(), *(half for pair in named for half in pair)]
    raise TypeError(f"a {type(value).__name__} has no stable digest")
