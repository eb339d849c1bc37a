"""results/audit.md: what was audited, how, with how many trials, and a hand-written part on planted bugs."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING

from bench.core.errors import UserError, warn_user
from bench.core.files import write_if_changed
from bench.core.markdown import Markup, bold, escape, table
from bench.core.notices import SEEDED
from bench.core.text import claimed_epsilon, proved_epsilon
from bench.report import epsilon_column
from bench.store.audit_findings import ERROR, RESTS_ON, every
from bench.store.records import AUDIT_KINDS, AuditedRow, AuditFinding
from bench.store.store import AUDITS

if TYPE_CHECKING:
    from bench.runner.registry import Registry
    from bench.store.store import Store

PLANTED = "planted.md"  # in the folder of the findings, written by hand: what audits find of planted bugs
HEAD = (
    *("data", "defense", "audit", "claimed", "audited", "of the claim", "at most", "of one use (correct code)"),
    *("trials", "minutes", "canaries"),
)  # fmt: skip
HOW = (
    "The auditor of a row that claims (epsilon, delta)-DP knows everything but whether one record, the canary, is in "
    "the training data: in half of the trials it is, in half it is not. So many trials prove a lower bound on epsilon. "
    "It can refute a claim and never confirm one: for correct code the bound lies below the claim, and how far below "
    "depends on the number of trials and on the canary.",
    "**One step**: one step of each training is replayed through the shipped optimizer, one use of the Gaussian "
    "mechanism, one round of a noising server; score: the noised sum, projected on what the canary adds. It proves a "
    "lower bound on mu of one step (`bench/audit/bounds/paired_trials.py`), which the accountant turns into the "
    f"epsilon of all steps. It rests on {RESTS_ON['one_step']}.",
    "**Whole training**: trainings of full length with the row's sampling rate, steps and noise, on the canary alone "
    "or on no record (an adversary who knows all other records can subtract what they add, and trainings on few "
    "records take minutes); score: the likelihood ratio of every step's noised sum. It rests on "
    f"{RESTS_ON['whole']}.",
    "**Black box**: the whole defense on all private records, with and without a record that is unlike all others; "
    "score: how near the nearest of its samples comes, or how well it is classified. It rests on "
    f"{RESTS_ON['black_box']}.",
    "Of one use: the largest proved lower bound on mu of one use, as a share of the mu that its noise multiplier "
    "claims. In brackets the median share that as many trials prove of correct code with a canary of full sensitivity. "
    "Where that is small, too, more trials are needed; where it is much larger than what was proved, the canary was "
    "weak or the draw unlucky.",
    "Audits of one row share its error of 5 % (Bonferroni), so the largest bound, which the leaderboard shows, holds "
    "at 95 %. At most: what a perfect attack could have proved with as many trials. VIOLATION: more is proved than is "
    "claimed, of the whole or of the noise of one step, and confirmed with other noise, for at 95 % one correct row in "
    f"twenty would be flagged. {SEEDED}",
)


def write(store: Store, registry: Registry) -> Path:
    """Write the page of all stored findings; the text on planted bugs comes last, word for word.

    Raises UserError where that text is not UTF-8.
    """
    lines = ["# Audits", "", "Written by `bench audit` and `bench table`.", ""]
    lines += [line for paragraph in HOW for line in (paragraph, "")]
    rows = (words for row in every(store) for words in _row(row, registry))
    lines += ["## What was audited", "", *table(HEAD, rows)]
    page, planted = store.root / "audit.md", store.root / AUDITS / PLANTED
    text = "\n".join([*lines, ""]) + (f"\n{_text(planted)}" if planted.is_file() else "")
    if page.is_file() and not _is_text(page.read_bytes()):
        warn_user(f"note: {page} was not UTF-8 text and is written anew.")
    write_if_changed(page, text.encode())
    return page


def _text(path: Path) -> str:
    if not _is_text(data := path.read_bytes()):
        raise UserError(f"{path} is not UTF-8 text: save it as UTF-8, then run the same command again.")
    return data.decode()


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _row(row: AuditedRow, registry: Registry) -> list[tuple[str, ...]]:
    fresh = epsilon_column.fresh(row, registry)
    shared = max(1, len(fresh))
    return [_words(row, one, shared, stale=one not in fresh) for _, one in sorted(row.findings.items())]


def _words(row: AuditedRow, one: AuditFinding, shared: int, *, stale: bool) -> tuple[str, ...]:
    claimed, lower = float(one.epsilon), one.lower[shared - 1]
    audited, share = proved_epsilon(lower), f"{lower / claimed:.2f}" if claimed else "-"
    if stale:
        audited, share = "stale: audit it again", "-"
    elif one.violated(shared):
        audited = Markup(f"{bold(epsilon_column.VIOLATION)} {escape(audited)}")
    canaries = "; ".join(dict.fromkeys(str(part["what"]) for part in one.parts))
    most, use = proved_epsilon(one.most[shared - 1]), "-" if stale else _of_one_use(one, shared)
    numbers = (claimed_epsilon(claimed), audited, share, most, use)
    return (
        row.data,
        row.defense,
        AUDIT_KINDS[one.kind],
        *numbers,
        str(one.trials),
        f"{one.seconds / 60:.1f}",
        canaries,
    )


def _of_one_use(one: AuditFinding, shared: int) -> str:
    """The largest share of a use's mu that is proved, and the median share that correct code shows."""
    uses = [part for part in one.parts if "mu" in part]
    if not uses:
        return "-"
    proved, noise = max((part["mu"][shared - 1] * part["noise_multiplier"], part["noise_multiplier"]) for part in uses)
    median = _median_bound(1 / noise, one.trials // 2, ERROR / (shared * len(uses))) * noise
    return f"{proved:.2f} ({median:.2f})"


def _median_bound(mu: float, pairs: int, alpha: float) -> float:
    """About the median of the lower bound on mu that so many pairs of trials of a Gaussian with this mu prove.

    Wilson's bound in place of Clopper and Pearson's, so that drawing the table does not import SciPy.
    """
    normal = NormalDist()
    share, z = normal.cdf(mu / math.sqrt(2)), normal.inv_cdf(1 - alpha)
    spread = math.sqrt(share * (1 - share) / pairs + (z / pairs / 2) ** 2)
    least = (share + z * z / pairs / 2 - z * spread) / (1 + z * z / pairs)
    return max(0.0, math.sqrt(2) * normal.inv_cdf(least)) if least > 0 else 0.0
