"""Fields of a stored record that have another type, lie outside their range or contradict each other are refused."""

from __future__ import annotations

from typing import Any

import pytest
from cells import cell
from samples import AUDITED, CELL, CONTROL, RECORDS, SCORED, VERDICT, KeyPath, kinds, places, put, refused, values

from bench.store.read_write import decode, encode, sealed
from bench.store.records import CellResult, Record


@kinds
def test_missing_and_unknown_fields_are_refused(kind: str) -> None:
    found = values(RECORDS[kind])
    needed = [name for name in found if name not in ("reproducible", "instruction_set", "schema")]
    for name in needed:
        refused(kind, put(found, (name,), ...))
        if name != "utility":  # optional in a row of scores
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
def test_a_control_character_or_lone_surrogate_is_refused(kind: str, text: str) -> None:
    found = values(RECORDS[kind])
    texts = [at for at, value in places(found) if isinstance(value, str)]
    assert len(texts) > 2
    for at in texts:
        refused(kind, put(found, at, text), "control character|half a character|Expected|Invalid enum|JSON|truncated")


@pytest.mark.parametrize("text", ["é ü", "😀", "<script>", "a|b", 'q"uote\\', "\\u0000", "\\ud800", "\\\\n", "日本"])
def test_every_other_text_is_read_back(text: str) -> None:
    one = cell(text, text, data=text, caveats=(text,), game=text)
    assert decode(CellResult, encode(one)).caveats == [text]


@kinds
@pytest.mark.parametrize("word", ["much", None, {}, [], True, [[[]]]])
def test_text_in_place_of_a_number_is_refused(kind: str, word: Any) -> None:
    found = values(RECORDS[kind])
    for at, value in places(found):
        unchecked = at[:1] in (("options",), ("reproducible",)) or (at[:1] == ("metrics",) and len(at) == 2)
        if type(value) in (int, float) and not unchecked:
            allowed = word is None and at == ("utility",)  # optional in a row of scores
            if not allowed:
                refused(kind, put(found, at, word))


@kinds
@pytest.mark.parametrize("number", [-3, 1e290, -1e290, 10**30, 1e16])
def test_a_number_outside_its_range_is_refused(kind: str, number: float) -> None:
    """Such as epsilon -3 or 1e290, negative seconds, a rate of 1e16."""
    found = values(RECORDS[kind])
    for at, value in places(found):
        unchecked = number == -3 and (at[:1] in (("options",), ("parts",)) or (at[:1] == ("metrics",) and len(at) == 2))
        unchecked = unchecked or (number == -3 and "parts" in at)
        if type(value) in (int, float) and not unchecked and at != ("schema",):
            refused(kind, put(found, at, number))


RATE = ("metrics", "tpr_at_fpr_0.01")
CELLS: list[tuple[KeyPath, Any]] = [
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
def test_a_cell_that_contradicts_itself_is_refused(at: KeyPath, value: Any) -> None:
    refused("cell", put(values(CELL), at, value))


OTHERS: list[tuple[Record, KeyPath, Any]] = [
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
def test_any_other_record_that_contradicts_itself_is_refused(record: Record, at: KeyPath, value: Any) -> None:
    assert at in [path for path, _ in places(values(record))], "a field that is not there is refused whatever it holds"
    refused(record.kind, put(values(record), at, value))


def test_a_metric_that_was_not_measured_may_state_its_reason() -> None:
    bare = put(values(CELL), ("utility",), {"not_measurable": "one class"})
    bare = put(bare, ("metrics", "auc"), {"not_measurable": "one record"})
    del bare["metrics"]["roc"]
    assert decode(CellResult, sealed(bare)).utility["not_measurable"] == "one class"
    infinite = put(values(CELL), ("privacy", "epsilon"), "inf")
    assert decode(CellResult, sealed(infinite)).privacy["epsilon"] == "inf"
