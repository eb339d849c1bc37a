"""Submitted scores, of models that were trained elsewhere, as text."""

from __future__ import annotations

from bench.core.markdown import Markup, bold, escape
from bench.core.text import claimed_epsilon, interval, one_line, proved_epsilon
from bench.report.epsilon_column import VIOLATION
from bench.store.freshness import score_digest
from bench.store.score_rows import FPRS, RESTS_ON, ScoreRow, Words

HEAD = ("defense", "data", "attack", "utility", "epsilon", "delta", "audited epsilon", "at most", *RESTS_ON,
        "AUC", "TPR at 1 % FPR", "TPR at 0.1 % FPR", "members", "non-members")  # fmt: skip
NOTES = (
    "Submitted scores were measured elsewhere, in whatever framework; what is judged here are the scores in the file.",
    "Audited epsilon: a lower bound; VIOLATION where it lies above the claim. At most: what a perfect attack could "
    "have proved with as many trials.",
)


def row_of(row: ScoreRow) -> list[str]:
    """The cells of its row under HEAD, as Markdown; numbers that other code computed are stale and not shown."""
    names = [row.defense, row.data, row.attack]
    claims = ["-" if row.utility is None else f"{row.utility:.3f}", claimed_epsilon(float(row.epsilon))]
    claims += [f"{row.delta:g}"]
    trials = [str(row.held_in), str(row.held_out)]
    if row.code != score_digest():
        return [*names, *claims, _audited(row), *["-"] * (len(HEAD) - 9), *trials]
    audited = Markup(f"{bold(VIOLATION)} {escape(_audited(row))}") if row.violated else _audited(row)
    bounds = [_bound(row.bounds[name], "value") for name in RESTS_ON]
    rates = [_interval(one) for one in (row.auc, *(row.tpr[str(fpr)] for fpr in FPRS))]
    return [*names, *claims, audited, _bound(row.bounds[row.headline], "most"), *bounds, *rates, *trials]


def _audited(row: ScoreRow) -> str:
    if row.code != score_digest():
        return "stale: score it again"
    return f"{proved_epsilon(row.lower)} at {row.confidence * 100:g} % ({row.headline})"


def lines_of(row: ScoreRow) -> list[str]:
    """The numbers of one file in lines, for a terminal."""
    percent, claimed = f"{row.confidence * 100:g} %", claimed_epsilon(float(row.epsilon))
    named = one_line(f"{row.defense} on {row.data}, attack {row.attack}")
    lines = [
        f"{named}: claims epsilon {claimed} at delta {row.delta:g}",
        f"scores of {row.held_in} members and {row.held_out} non-members",
        f"{'epsilon is at least':22}{percent:>12}{'at most*':>10}  rests on",
    ]
    for name, why in RESTS_ON.items():
        one = row.bounds[name]
        value, most = _bound(one, "value"), _bound(one, "most")
        lines.append(f"  {name:20}{value:>12}{most:>10}  {one_line(one.get('not_measurable', why))}")
    lines.append("  * what a perfect attack could have proved with as many trials")
    lines.append(f"AUC {_interval(row.auc)} (95 %)")
    lines += [f"TPR at {fpr * 100:g} % FPR {_interval(row.tpr[str(fpr)])} (95 %)" for fpr in FPRS]
    verdict = f"{VIOLATION}: above the claimed {claimed}" if row.violated else f"not above the claimed {claimed}"
    lines.append(f"Audited epsilon ({row.headline}): {proved_epsilon(row.lower)}, {verdict}")
    return lines


def summary(row: ScoreRow) -> str:
    """What the leaderboard says of it in a terminal."""
    stale = row.code != score_digest()
    audited = f"{VIOLATION} {_audited(row)}" if row.violated and not stale else _audited(row)
    claim, auc = claimed_epsilon(float(row.epsilon)), "-" if stale else _interval(row.auc)
    return f"{row.defense} on {row.data}, {row.attack}: claims {claim}, audited {audited}, AUC {auc}"


def _bound(one: Words, key: str) -> str:
    return "n/a" if "not_measurable" in one else proved_epsilon(one[key])


def _interval(one: Words) -> str:
    if "not_measurable" in one:
        return f"not measurable: {one_line(one['not_measurable'])}"
    return interval(one["value"], one["low"], one["high"])
