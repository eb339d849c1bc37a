"""One valid record of each stored kind, and changes to their values, for tests of what reads them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cells import cell, interval

from bench.games import metrics
from bench.store.differences import PairedDifference, two_sided
from bench.store.read_write import SEAL, Damaged, decode, encode, sealed
from bench.store.records import (
    KINDS,
    AuditedRow,
    AuditFinding,
    ControlResult,
    LintFinding,
    LintVerdict,
    Record,
    ScoreRow,
)

CONTROL = ControlResult(
    "lira", "d", "none", "digits", "auc", 0.8, interval(0.9, 0.01), interval(0.5, 0.01), 0.5, interval(0.5, 0.02),
    0.7, 20, ("null control: it finds what is not there",),
)  # fmt: skip
VERDICT = LintVerdict("dp_sgd", "d", (LintFinding("noise", "too little of it: add some"),))
STEP = AuditFinding(
    "one_step", 8.0, 1e-5, [1.0, 0.9, 0.8], ["inf", 7.25, 7.0], 4000,
    [{"what": "training", "mu": [0.1, 0.09, 0.08], "noise_multiplier": 1.5, "rate": 0.1, "steps": 30, "won": 2100}],
    60.0, "d",
)  # fmt: skip
WHOLE = AuditFinding("whole", "inf", 1e-5, [2.0, 1.9, 1.8], [5, 5, 5], 500, [{"what": "training"}], 6, "d")
AUDITED = AuditedRow("dp_sgd", "digits", {"one_step": STEP, "whole": WHOLE})
_SCORES, _MEMBER = np.random.default_rng(0).random(3000), np.arange(3000) < 1500
SCORED = ScoreRow(
    "mine", "cifar10", "lira", 0.7, 8.0, 1e-5, 0.95, 1500, 1500, "beta_binomial",
    {"beta_binomial": {"value": 1.0, "most": 5.0}, "clopper_pearson": {"value": 0.9, "most": 4.0},
     "gaussian_dp": {"value": 0.8, "most": 4.5}, "one_run": {"not_measurable": "no coins"}},
    metrics.auc(_SCORES, _MEMBER),
    {str(fpr): metrics.tpr_at_fpr(_SCORES, _MEMBER, fpr) for fpr in (0.01, 0.001)}, "c",
)  # fmt: skip
CELL = cell("dp_vaegm,epsilon=1.0", "lira", caveats=("few records",), epsilon=1.0)
DIFFERENCE = PairedDifference(
    "leakage", "digits", "a / lira", "b / lira", 2, 0.1, 0.1 - 1.959963984540054 * 0.02,
    0.1 + 1.959963984540054 * 0.02, two_sided(0.1, 0.02), True, "epsilon", "d",
)  # fmt: skip
RECORDS: dict[str, Record] = {one.kind: one for one in (CELL, CONTROL, VERDICT, AUDITED, SCORED)}
KeyPath = tuple[Any, ...]
kinds = pytest.mark.parametrize("kind", KINDS)


def values(record: Record) -> dict[str, Any]:
    """The plain values of a record, without its seal, to be changed and sealed again."""
    found: dict[str, Any] = json.loads(encode(record))
    del found[SEAL]
    return found


def places(value: Any, at: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Every value inside of plain values, with the keys that lead to it."""
    yield at, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in items:
        yield from places(one, (*at, key))


def put(found: Any, at: KeyPath, value: Any) -> Any:
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
    """These values under a valid seal are refused as a record of this kind, with a reason that matches."""
    with pytest.raises(Damaged, match=why):
        decode(KINDS[kind], sealed(changed))
