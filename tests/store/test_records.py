"""A stored record is read back unchanged; its seal, depth and size are checked before its values."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from cells import cell
from msgspec.structs import replace
from samples import CELL, DIFFERENCE, RECORDS, kinds, put, values

from bench.core.errors import Caveat
from bench.store import read_write
from bench.store.read_write import Damaged, decode, difference, encode, seal_of, seal_values, sealed
from bench.store.records import KINDS, CellResult
from bench.store.store import Store


@kinds
def test_a_record_is_read_back(kind: str) -> None:
    record = RECORDS[kind]
    data = encode(record)
    assert data == encode(decode(KINDS[kind], data)) == sealed(values(record))
    found = json.loads(data)
    assert seal_values(kind, found) == found
    assert seal_values(kind, values(record)) == found
    text = json.dumps(found, sort_keys=True, indent=1) + "\n"  # the canonical text of the values
    assert text.encode() == data


def test_a_cell_keeps_its_keys_and_accepts_numpy_scalars() -> None:
    options = MappingProxyType({"data": {}, "defense": {"size": np.int64(3), "rate": np.float64(0.5)}, "attack": {}})
    again = decode(CellResult, encode(cell(options=options, peak_memory_mib=np.float32(8))))
    assert again == cell(options={"data": {}, "defense": {"size": 3, "rate": 0.5}, "attack": {}}, peak_memory_mib=8.0)
    keys = [line.split('"')[1] for line in encode(again).decode().splitlines() if line.startswith(' "')]
    assert keys == sorted([*CellResult.__struct_fields__, "seal"])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), object(), 10**400])
def test_a_value_that_json_cannot_represent_is_not_written(tmp_path: Path, value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        Store(tmp_path).save(cell(metrics={**CELL.metrics, "auc": {"value": value, "low": 0.0, "high": 1.0}}))
    assert list(tmp_path.iterdir()) == []


@kinds
def test_a_record_edited_by_hand_is_refused(kind: str) -> None:
    """Also if every edited value is valid: a mutant that ignores the seal accepts it."""
    data = encode(RECORDS[kind])
    for old, new in ((b'"digest": "d"', b'"digest": "e"'), (b"0.9", b"0.8"), (b"0.5", b"0.6"), (b"20", b"21")):
        if old in data:
            with pytest.raises(Damaged, match="seal is not that of its figures"):
                decode(KINDS[kind], data.replace(old, new, 1))
    for cut in (data[:-1], data + b"\n", data.replace(b"\n", b"\r\n"), data.replace(b" ", b"  ", 1)):
        with pytest.raises(Damaged, match="seal"):
            decode(KINDS[kind], cut)
    for unsealed in (b"", b"[]", b"null", b"\xff\xfe", json.dumps(values(RECORDS[kind])).encode()):
        with pytest.raises(Damaged, match="carries no seal"):
            decode(KINDS[kind], unsealed)


def test_an_auc_written_by_hand_is_left_out_with_a_caveat(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.save(CELL)
    found = json.loads(path.read_bytes())
    found["metrics"]["auc"] |= {"value": 0.99, "low": 0.98, "high": 1.0}
    path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    with pytest.warns(Caveat, match=r"is left out \(its seal is not that of its figures.*run its cell again"):
        assert store.results() == []
    path.write_bytes(sealed(found | {"seal": "of another day"}))
    assert [one.metrics["auc"]["value"] for one in store.results()] == [0.99]  # a seal is no signature


def sealed_text(body: bytes, before: bytes = b',\n "seconds"') -> bytes:
    """The file of a cell with a valid seal of this text."""
    return body.replace(before, b',\n "seal": "' + read_write._seal(body).encode() + b'"' + before)


def test_a_duplicate_key_has_one_meaning() -> None:
    body, _ = read_write._cut(sealed(values(CELL)))
    twice = body.replace(b' "seed": 0,', b' "seed": 1,\n "seed": 0,')
    assert decode(CellResult, sealed_text(twice)).seed == json.loads(twice)["seed"] == 0
    with pytest.raises(Damaged, match="seal"):
        decode(CellResult, sealed_text(body).replace(b' "seed": 0,', b' "seed": 1,\n "seed": 0,'))
    two = body.replace(b' "utility"', b' "seal": "' + b"0" * 32 + b'",\n "utility"')
    with pytest.raises(Damaged, match="unknown field"):
        decode(CellResult, sealed_text(two))


@kinds
@pytest.mark.parametrize("bomb", [b"[" * 200_000, b'{"a":' * 200_000, b"[" * 200_000 + b"]" * 200_000])
def test_a_record_nested_too_deeply_is_refused(kind: str, bomb: bytes) -> None:
    name = {"cell": "options", "control": "red", "verdict": "findings", "audit": "findings", "score": "bounds"}[kind]
    body = json.dumps({**values(RECORDS[kind]), name: "HERE"}, sort_keys=True, indent=1).encode()
    body = body.replace(b'"HERE"', bomb)
    with pytest.raises(Damaged, match="seal"):
        decode(KINDS[kind], bomb)
    with pytest.raises(Damaged):
        decode(KINDS[kind], body[:-2] + b',\n "seal": "' + read_write._seal(body).encode() + b'"\n}')


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.save(CELL)
    with path.open("ab") as file:
        file.truncate(1 << 40)
    with pytest.warns(Caveat, match="more than"):
        assert store.results() == []


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1" + "0" * 400])
def test_numbers_that_are_not_finite_are_refused(number: str) -> None:
    json.loads(f"[{number}]")  # accepted by the json module
    for at in (("metrics", "auc", "value"), ("metrics", "members"), ("peak_memory_mib",), ("options", "data")):
        body = json.dumps(put(values(CELL), at, "HERE"), sort_keys=True, indent=1).encode() + b"\n"
        body = body.replace(b'"HERE"', number.encode())
        with pytest.raises(Damaged):
            decode(CellResult, sealed_text(body))


def line(**changed: Any) -> dict[str, Any]:
    text = io.StringIO()
    names = DIFFERENCE.__struct_fields__
    csv.writer(text).writerow([getattr(DIFFERENCE, name) for name in names])
    return dict(zip(names, next(csv.reader(io.StringIO(text.getvalue()))), strict=True)) | changed


def test_a_difference_is_read_back_from_its_line() -> None:
    assert difference(line()) == DIFFERENCE
    assert seal_values("difference", line())["seal"] == seal_of(DIFFERENCE)
    assert seal_of(replace(DIFFERENCE, seeds=3)) != seal_of(DIFFERENCE)


@pytest.mark.parametrize(
    "changed",
    [
        {"p": "1.0"}, {"p": "nan"}, {"p": "-1"}, {"value": "0.2"}, {"value": "inf"}, {"value": "3"}, {"low": "0.09"},
        {"high": "1e300"}, {"low": "0.14", "high": "0.06"}, {"seeds": "0"}, {"seeds": "1.5"}, {"paired": "maybe"},
        {"what": "luck"}, {"data": ""}, {"first": "a\x1b"}, {"of": None}, {"low": "x"},
    ],
)  # fmt: skip
def test_a_difference_that_contradicts_itself_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(Damaged):
        difference(line(**changed))
