"""The verdict on a cell that was measured again: equal, inside its interval, or drift."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.store.records import CellResult

CLAIM = ("epsilon", "delta", "sampler", "relation", "public_knowledge")
LAST_DIGITS = 1e-9  # relative: another machine may round the last digits of an epsilon, or of a bound, differently


def judge(old: CellResult, new: CellResult) -> tuple[str, tuple[str, ...]]:
    """The verdict on a cell that was measured again, and what is wrong besides its estimates.

    Equal: every metric and the utility are the same numbers. Inside: the headline estimate and the utility lie in the
    stored intervals. Drift: they do not, or the claim differs.
    """
    claims = [name for name in CLAIM if not _same(old.privacy[name], new.privacy[name])]
    if claims:
        return "drift", tuple(f"{name}: {old.privacy[name]} -> {new.privacy[name]}" for name in claims)
    if old.metrics == new.metrics and old.utility == new.utility:
        return "equal", ()
    same = old.metrics["headline"] == new.metrics["headline"]
    inside = same and _inside(headline(old), headline(new)) and _inside(utility(old), utility(new))
    return "inside" if inside else "drift", ()


def _same(old: Any, new: Any) -> bool:
    try:
        return math.isclose(float(old), float(new), rel_tol=LAST_DIGITS)
    except (TypeError, ValueError):  # words
        return bool(old == new)


def _inside(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether an estimate lies in the interval of the old one; true where neither is measurable."""
    if "value" not in old or "value" not in new:
        return ("value" in old) == ("value" in new)
    return bool(old["low"] - LAST_DIGITS <= new["value"] <= old["high"] + LAST_DIGITS)


def headline(result: CellResult) -> Mapping[str, Any]:
    """The headline estimate of a stored cell."""
    estimate: Mapping[str, Any] = result.metrics[str(result.metrics["headline"])]
    return estimate


def utility(result: CellResult) -> Mapping[str, Any]:
    """The accuracy of a stored cell, or why there is none."""
    estimate: Mapping[str, Any] = result.utility.get("accuracy", result.utility)
    return estimate
