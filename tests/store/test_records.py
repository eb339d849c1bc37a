"""A stored record is read to the last field: types, ranges, relations, texts, depth, size and its seal."""

from __future__ import annotations

import copy
import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from cells import cell
from msgspec.structs import replace
from samples import AUDITED, CELL, CONTROL, DIFFERENCE, RECORDS, SCORED, VERDICT, values

from bench.core.errors import Caveat
from bench.store import read_write
from bench.store.read_write import Damaged, decode, difference, encode, seal_of, seal_values, sealed
from bench.store.records import KINDS, CellResult, Record
from bench.store.store import Store

Path_ = tuple[Any, ...]
kinds = pytest.mark.parametrize("kind", KINDS)


def places(value: Any, at: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Every value inside of plain values, with the keys that lead to it."""
    yield at, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in items:
        yield from places(one, (*at, key))


def put(found: Any, at: Path_, value: Any) -> Any:
    """A copy of plain values with another value at one place; `...` deletes it."""
    found = copy.deepcopy(found)
    inner = found
    for key in at[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[at[-1]]
    else:
        inner[at[-1]] = value
    return found


def refused(kind: str, changed: Any, why: str = r"[a-z]") -> None:
    with pytest.raises(Damaged, match=why):
        decode(KINDS[kind], sealed(changed))


# What is written is what is read


@kinds
def test_a_record_comes_back(kind: str) -> None:
    record = RECORDS[kind]
    data = encode(record)
    assert data == encode(decode(KINDS[kind], data)) == sealed(values(record))
    found = json.loads(data)
    assert seal_values(kind, found) == found
    assert seal_values(kind, values(record)) == found
    text = json.dumps(found, sort_keys=True, indent=1) + "\n"  # as whoever seals plain values writes them
    assert text.encode() == data


def test_a_cell_keeps_its_keys_and_takes_what_numpy_made() -> None:
    options = MappingProxyType({"data": {}, "defense": {"size": np.int64(3), "rate": np.float64(0.5)}, "attack": {}})
    again = decode(CellResult, encode(cell(options=options, peak_memory_mib=np.float32(8))))
    assert again == cell(options={"data": {}, "defense": {"size": 3, "rate": 0.5}, "attack": {}}, peak_memory_mib=8.0)
    keys = [line.split('"')[1] for line in encode(again).decode().splitlines() if line.startswith(' "')]
    assert keys == sorted([*CellResult.__struct_fields__, "seal"])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), object(), 10**400])
def test_what_json_cannot_hold_is_not_written(tmp_path: Path, value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        Store(tmp_path).save(cell(metrics={**CELL.metrics, "auc": {"value": value, "low": 0.0, "high": 1.0}}))
    assert list(tmp_path.iterdir()) == []


# The seal


@kinds
def test_a_record_edited_by_hand_is_refused(kind: str) -> None:
    """Also where every figure in it could be one: the mutant that reads without the seal takes it."""
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
    """A file of a cell with the seal of whatever its text is."""
    return body.replace(before, b',\n "seal": "' + read_write._seal(body).encode() + b'"' + before)


def test_a_key_that_stands_twice_says_one_thing_only() -> None:
    body, _ = read_write._cut(sealed(values(CELL)))
    twice = body.replace(b' "seed": 0,', b' "seed": 1,\n "seed": 0,')
    assert decode(CellResult, sealed_text(twice)).seed == json.loads(twice)["seed"] == 0
    with pytest.raises(Damaged, match="seal"):
        decode(CellResult, sealed_text(body).replace(b' "seed": 0,', b' "seed": 1,\n "seed": 0,'))
    two = body.replace(b' "utility"', b' "seal": "' + b"0" * 32 + b'",\n "utility"')
    with pytest.raises(Damaged, match="unknown field"):
        decode(CellResult, sealed_text(two))


# Types, ranges, relations


@kinds
def test_no_field_may_lack_and_none_be_more(kind: str) -> None:
    found = values(RECORDS[kind])
    needed = [name for name in found if name not in ("reproducible", "instruction_set", "schema")]
    for name in needed:
        refused(kind, put(found, (name,), ...))
        if name != "utility":  # of a row of scores it may be left open
            refused(kind, put(found, (name,), None))
    refused(kind, found | {"surprise": 1}, "unknown field")


def test_a_cell_that_was_stored_before_instruction_sets_were_is_read() -> None:
    older = put(values(CELL), ("instruction_set",), ...)
    assert decode(CellResult, sealed(older)).instruction_set == ""
    assert decode(CellResult, encode(cell(instruction_set="x86_64 avx2"))).instruction_set == "x86_64 avx2"


@kinds
@pytest.mark.parametrize(
    "text", ["half \ud800", "\udc00 half", "\x1b[31mred", "two\nlines", "a\rb", "nul\0", "\x7f", "\x9b", "\u2028"]
)
def test_no_text_holds_a_control_character_or_half_a_character(kind: str, text: str) -> None:
    found = values(RECORDS[kind])
    texts = [at for at, value in places(found) if isinstance(value, str)]
    assert len(texts) > 2
    for at in texts:
        refused(kind, put(found, at, text), "control character|half a character|Expected|Invalid enum|JSON|truncated")


@pytest.mark.parametrize("text", ["é ü", "😀", "<script>", "a|b", 'q"uote\\', "\\u0000", "\\ud800", "\\\\n", "日本"])
def test_every_other_text_comes_back(text: str) -> None:
    one = cell(text, text, data=text, caveats=(text,), game=text)
    assert decode(CellResult, encode(one)).caveats == [text]


@kinds
@pytest.mark.parametrize("word", ["much", None, {}, [], True, [[[]]]])
def test_no_number_is_a_word(kind: str, word: Any) -> None:
    found = values(RECORDS[kind])
    for at, value in places(found):
        free = at[:1] in (("options",), ("reproducible",)) or (at[:1] == ("metrics",) and len(at) == 2)
        if type(value) in (int, float) and not free:
            allowed = word is None and at == ("utility",)  # of a row of scores that brings no utility
            if not allowed:
                refused(kind, put(found, at, word))


@kinds
@pytest.mark.parametrize("number", [-3, 1e290, -1e290, 10**30, 1e16])
def test_no_figure_is_outside_of_its_range(kind: str, number: float) -> None:
    """Epsilon -3 or 1e290, negative seconds, a share of 1e16."""
    found = values(RECORDS[kind])
    for at, value in places(found):
        free = number == -3 and (at[:1] in (("options",), ("parts",)) or (at[:1] == ("metrics",) and len(at) == 2))
        free = free or (number == -3 and "parts" in at)
        if type(value) in (int, float) and not free and at != ("schema",):
            refused(kind, put(found, at, number))


RATE = ("metrics", "tpr_at_fpr_0.01")
CELLS: list[tuple[Path_, Any]] = [
    (("privacy", "epsilon"), -3), (("privacy", "epsilon"), 1e290), (("privacy", "epsilon"), "infinite"),
    (("privacy", "epsilon_rdp"), -1e-9), (("privacy", "epsilon_selected"), None), (("privacy", "delta"), 2),
    (("privacy", "delta"), 1), (("privacy", "delta"), -1e-9), (("privacy", "delta"), "inf"),
    (("privacy", "relation"), 3), (("privacy", "sampler"), ["a"]), (("privacy", "public_knowledge"), "all"),
    (("privacy", "public_knowledge"), [1]), (("privacy", "more"), 1.0), (("privacy", "relation"), ...),
    (("metrics", "auc", "value"), 0.99), (("metrics", "auc", "low"), 0.7), (("metrics", "auc", "high"), 0.5),
    (("metrics", "auc", "value"), 7.0), (("metrics", "auc", "low"), -1.1), (("metrics", "auc", "high"), 1.1),
    (("metrics", "auc", "se"), "word"), (("metrics", "auc", "se"), -0.1), (("metrics", "auc", "low"), ...),
    (("metrics", "auc", "not_measurable"), "both"), (("metrics", "auc"), {"not_measurable": 3}),
    (("metrics", "auc"), {"value": 0.5}), (("metrics", "auc"), {}), (("metrics", "auc"), 0.5),
    (("metrics", "gain"), None),
    (("metrics", "gain"), ...), (("metrics", "baseline"), "x"), (("metrics", "headline"), "leakage"),
    (("metrics", "headline"), "roc"), (("metrics", "headline"), 1), (("metrics", "chance"), "x"),
    (("metrics", "chance"), True), (("metrics", "chance"), 1.5), (("metrics",), []),
    (("metrics", "roc"), {"fp": [0, 1]}), (("metrics", "roc", "fp"), ["a"]), (("metrics", "roc", "fp"), [0, 1]),
    (("metrics", "roc"), {"fp": [], "tp": []}), (("metrics", "roc"), {"fp": [0, -1], "tp": [0, 1]}),
    (("metrics", "roc"), {"fp": [1, 0], "tp": [0, 1]}), (("metrics", "roc"), {"fp": [0, 501], "tp": [0, 1]}),
    (("metrics", "roc"), {"fp": [0, 1], "tp": [0, 1001]}), (("metrics", "roc", "more"), [0]),
    (("metrics", "members"), ...), (("metrics", "members"), 0), (("metrics", "non_members"), "x"),
    ((*RATE, "members"), ...), ((*RATE, "fpr"), ...), ((*RATE, "true_positives"), 21), ((*RATE, "members"), 0),
    ((*RATE, "false_positives"), 5), ((*RATE, "fpr_low"), 0.01), ((*RATE, "fpr_high"), 0.001),
    ((*RATE, "fpr_high"), 1.1),
    ((*RATE, "true_positives"), 20.0), ((*RATE, "true_positives"), -20),
    (("utility",), {}), (("utility",), {"accuracy": 1}), (("utility", "n"), -1), (("utility", "n"), 1.5),
    (("utility", "n"), ...), (("utility", "accuracy"), "a"), (("utility", "accuracy"), 1),
    (("utility", "accuracy", "value"), 2),
    (("utility", "not_measurable"), "both"), (("options", "data"), None), (("options", "data"), ...),
    (("options", "more"), {}), (("options", "data"), {"a": {"b": 1}}), (("options", "data"), {"a": [[[1]]]}),
    (("seconds", "defense"), -1), (("seconds", "attack"), ...), (("seconds", "more"), 1), (("seconds",), [1]),
    (("peak_memory_mib",), -1), (("seed",), -1), (("seed",), 1.0), (("seed",), True), (("seed",), 2**60),
    (("schema",), 1), (("schema",), 4), (("schema",), "3"), (("data",), ""), (("data",), 3), (("game",), ""),
    (("defense",), "x" * 3000), (("caveats",), "one"), (("caveats",), [1]), (("versions",), {"numpy": 1}),
    (("reproducible",), 1), (("machine",), None), (("instruction_set",), None),
]  # fmt: skip


@pytest.mark.parametrize(("at", "value"), CELLS, ids=str)
def test_a_cell_that_contradicts_itself_is_refused(at: Path_, value: Any) -> None:
    refused("cell", put(values(CELL), at, value))


OTHERS: list[tuple[Record, Path_, Any]] = [
    (CONTROL, ("positive", "value"), 0.99), (CONTROL, ("null", "low"), ...), (CONTROL, ("p_value",), 1.1),
    (CONTROL, ("positive",), {"not_measurable": "x"}), (CONTROL, ("required_score",), 2), (CONTROL, ("red",), "none"),
    (CONTROL, ("red",), [1]), (CONTROL, ("seeds",), -1),
    (VERDICT, ("findings",), [["noise", "x"]]), (VERDICT, ("findings", 0, "what"), 3), (VERDICT, ("findings",), {}),
    (AUDITED, ("findings", "one_step", "kind"), "whole"), (AUDITED, ("findings", "one_step", "kind"), "other"),
    (AUDITED, ("findings", "one_step", "lower"), [1.0]), (AUDITED, ("findings", "one_step", "lower"), ["inf"] * 3),
    (AUDITED, ("findings", "one_step", "lower", 1), 7.5), (AUDITED, ("findings", "one_step", "most"), ["much"] * 3),
    (AUDITED, ("findings", "one_step", "trials"), 0), (AUDITED, ("findings", "one_step", "delta"), 1.0),
    (AUDITED, ("findings", "one_step", "parts", 0, "what"), ...),
    (AUDITED, ("findings", "one_step", "parts", 0, "mu"), [1]),
    (AUDITED, ("findings", "one_step", "parts", 0, "mu", 1), -1), (AUDITED, ("findings", "one_step", "parts"), {}),
    (AUDITED, ("findings", "one_step", "parts", 0, "noise_multiplier"), ...),
    (AUDITED, ("findings", "one_step", "parts", 0, "noise_multiplier"), 0),
    (SCORED, ("utility",), 1.1), (SCORED, ("confidence",), 0.3), (SCORED, ("confidence",), 1.0),
    (SCORED, ("held_in",), 1),
    (SCORED, ("headline",), "no_such"), (SCORED, ("headline",), "one_run"), (SCORED, ("auc", "value"), 0.99),
    (SCORED, ("auc",), {"not_measurable": "x"}), (SCORED, ("bounds", "one_run"), ...), (SCORED, ("tpr", "0.01"), ...),
    (SCORED, ("bounds", "beta_binomial", "value"), 6.0), (SCORED, ("bounds", "beta_binomial", "most"), ...),
    (SCORED, ("bounds", "beta_binomial", "value"), -1), (SCORED, ("tpr", "0.01", "members"), ...),
    (SCORED, ("tpr", "0.01", "value"), 0.5), (SCORED, ("epsilon",), "much"),
]  # fmt: skip


@pytest.mark.parametrize(("record", "at", "value"), OTHERS, ids=str)
def test_any_other_record_that_contradicts_itself_is_refused(record: Record, at: Path_, value: Any) -> None:
    assert at in [path for path, _ in places(values(record))], "a field that is not there is refused whatever it holds"
    refused(record.kind, put(values(record), at, value))


def test_what_was_not_measured_may_say_why() -> None:
    bare = put(values(CELL), ("utility",), {"not_measurable": "one class"})
    bare = put(bare, ("metrics", "auc"), {"not_measurable": "one record"})
    del bare["metrics"]["roc"]
    assert decode(CellResult, sealed(bare)).utility["not_measurable"] == "one class"
    infinite = put(values(CELL), ("privacy", "epsilon"), "inf")
    assert decode(CellResult, sealed(infinite)).privacy["epsilon"] == "inf"


# Depth and size


@kinds
@pytest.mark.parametrize("bomb", [b"[" * 200_000, b'{"a":' * 200_000, b"[" * 200_000 + b"]" * 200_000])
def test_what_is_nested_too_deeply_is_refused(kind: str, bomb: bytes) -> None:
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
    json.loads(f"[{number}]")  # which json takes
    for at in (("metrics", "auc", "value"), ("metrics", "members"), ("peak_memory_mib",), ("options", "data")):
        body = json.dumps(put(values(CELL), at, "HERE"), sort_keys=True, indent=1).encode() + b"\n"
        body = body.replace(b'"HERE"', number.encode())
        with pytest.raises(Damaged):
            decode(CellResult, sealed_text(body))


# Differences


def line(**changed: Any) -> dict[str, Any]:
    text = io.StringIO()
    names = DIFFERENCE.__struct_fields__
    csv.writer(text).writerow([getattr(DIFFERENCE, name) for name in names])
    return dict(zip(names, next(csv.reader(io.StringIO(text.getvalue()))), strict=True)) | changed


def test_a_difference_comes_back_from_its_line() -> None:
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
