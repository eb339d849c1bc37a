"""Rows of scores that were handed in, as they are shown."""

from __future__ import annotations

import math

from bench.store.freshness import score_digest
from bench.store.score_rows import FPRS, RESTS_ON, ScoreRow, Words

HEAD = ("defense", "data", "attack", "utility", "epsilon", "delta", "audited epsilon", "at most", *RESTS_ON,
        "AUC", "TPR at 1 % FPR", "TPR at 0.1 % FPR", "held in", "held out")  # fmt: skip
NOTES = (
    "Scores handed in: measured elsewhere, in whatever framework; what is judged here are the scores in the file.",
    "Audited epsilon: a lower bound; VIOLATION where it lies above the claim. At most: what a perfect attack could "
    "have proved with as many trials.",
)


def row_of(row: ScoreRow) -> list[str]:
    """The words of a row of the board under HEAD; figures of other code are stale and not shown."""
    names = [row.defense, row.data, row.attack]
    claims = ["-" if row.utility is None else f"{row.utility:.3f}", _claim(row), f"{row.delta:g}"]
    trials = [str(row.held_in), str(row.held_out)]
    if row.code != score_digest():
        return [*names, *claims, "stale: score it again", *["-"] * (len(HEAD) - 9), *trials]
    audited = f"{_down(row.lower)} at {row.confidence * 100:g} % ({row.headline})"
    audited = f"**VIOLATION** {audited}" if row.violated else audited
    bounds = [_bound(row.bounds[name], "value") for name in RESTS_ON]
    figures = [_figure(one) for one in (row.auc, *(row.tpr[str(fpr)] for fpr in FPRS))]
    return [*names, *claims, audited, _bound(row.bounds[row.headline], "most"), *bounds, *figures, *trials]


def lines_of(row: ScoreRow) -> list[str]:
    """The figures of one file in lines, for a terminal."""
    percent = f"{row.confidence * 100:g} %"
    lines = [
        f"{row.defense} on {row.data}, attack {row.attack}: claims epsilon {_claim(row)} at delta {row.delta:g}",
        f"{row.held_in} scores held in, {row.held_out} held out",
        f"{'epsilon is at least':22}{percent:>12}{'at most*':>10}  rests on",
    ]
    for name, why in RESTS_ON.items():
        one = row.bounds[name]
        value, most = _bound(one, "value"), _bound(one, "most")
        lines.append(f"  {name:20}{value:>12}{most:>10}  {one.get('not_measurable', why)}")
    lines.append("  * what a perfect attack could have proved with as many trials")
    lines.append(f"AUC {_figure(row.auc)} (95 %)")
    lines += [f"TPR at {fpr * 100:g} % FPR {_figure(row.tpr[str(fpr)])} (95 %)" for fpr in FPRS]
    claim = f"the claimed {_claim(row)}"
    verdict = f"VIOLATION: above {claim}" if row.violated else f"not above {claim}"
    lines.append(f"Audited epsilon ({row.headline}): {_down(row.lower)}, {verdict}")
    return lines


def summary(row: ScoreRow) -> str:
    """What the board says of it in a terminal."""
    said = dict(zip(HEAD, row_of(row), strict=True))
    audited = said["audited epsilon"].replace("**", "")
    return f"{row.defense} on {row.data}, {row.attack}: claims {said['epsilon']}, audited {audited}, AUC {said['AUC']}"


def _claim(row: ScoreRow) -> str:
    epsilon = float(row.epsilon)
    return "inf" if math.isinf(epsilon) else f"{math.ceil(round(epsilon * 100, 6)) / 100:.2f}"


def _down(bound: float) -> str:
    """Two digits, rounded down: nothing that is shown was not proved."""
    return f"{math.floor(bound * 100) / 100:.2f}"


def _bound(one: Words, key: str) -> str:
    return "n/a" if "not_measurable" in one else _down(one[key])


def _figure(one: Words) -> str:
    if "not_measurable" in one:
        return f"not measurable: {one['not_measurable']}"
    return f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"
