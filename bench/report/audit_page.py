"""results/audit.md: what was audited, how, with how many trials, and what people wrote of the planted bugs."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING

from bench.core.files import write as put
from bench.core.notices import SEEDED
from bench.report import epsilon_column
from bench.report.aggregate import spell_epsilon
from bench.store.audit_findings import ERROR, KINDS, RESTS_ON, Audited, Finding, every
from bench.store.store import AUDITS

if TYPE_CHECKING:
    from bench.runner.registry import Registry
    from bench.store.store import Store

PLANTED = "planted.md"  # in the folder of the findings, by hand: what planted bugs look like
HEAD = (
    *("data", "defense", "audit", "claimed", "audited", "of the claim", "at most", "of one use (right code)"),
    *("trials", "minutes", "tried"),
)  # fmt: skip
HOW = (
    "Each row that claims (epsilon, delta)-DP is attacked by somebody who knows everything but whether one record, the "
    "canary, is in: of half of the trials it is, of half it is not. What so many trials prove is a lower bound on "
    "epsilon. It can refute a claim and never confirm one: code that is right is bounded from below by less than it "
    "claims, and by how much less is a matter of trials and of the canary.",
    "**One step**: one step of each training is replayed through the shipped optimizer, one use of the Gaussian "
    "mechanism, one round of a noising server; score: the noised sum, projected on what the canary adds. It proves a "
    "least mu of one step (`bench/audit/bounds/paired_trials.py`), which the accountant turns into the epsilon of all "
    "steps. It rests "
    f"on {RESTS_ON['one_step']}.",
    "**Whole training**: trainings of full length with rate, steps and noise of the row, on the canary alone or on "
    "nothing (whoever knows all other records can subtract what they add, and trainings of few records are minutes); "
    "score: the likelihood ratio of every step's noised sum. It rests on "
    f"{RESTS_ON['whole']}.",
    "**Black box**: the whole defense on all private records, with and without a record that is unlike all others; "
    "score: how near the nearest of its samples comes, or how well it is classified. It rests on "
    f"{RESTS_ON['black_box']}.",
    "Of one use: the least mu that is proved of it, as a share of the mu that its noise multiplier claims, and in "
    "brackets the share that as many trials prove of right code and a canary that takes all of the sensitivity, as "
    "often more as less. Where that is small, too, a use hides a record so well that it takes more trials to say "
    "anything; where it is much larger than what was proved, the canary or the luck was poor.",
    "Audits of one row share its 5 % (Bonferroni), so the largest of them, which the board shows, holds at 95 %. At "
    "most: what a perfect attack could have proved with as many trials. VIOLATION: more is proved than is claimed, of "
    "the whole or of the noise of one step, and a second time with other noise, for at 95 % one right row in twenty "
    f"would be found there. {SEEDED}",
)


def write(store: Store, registry: Registry) -> Path:
    """Write the page of all that is stored; what people wrote of planted bugs comes last, word for word."""
    lines = ["# Audits", "", "Written by `bench audit` and `bench table`.", ""]
    lines += [line for paragraph in HOW for line in (paragraph, "")]
    lines += ["## What was audited", "", _line(HEAD), "|" + "---|" * len(HEAD)]
    lines += [_line(words) for row in every(store) for words in _row(row, registry)]
    place, planted = store.root / "audit.md", store.root / AUDITS / PLANTED
    text = "\n".join([*lines, ""]) + (f"\n{planted.read_text()}" if planted.is_file() else "")
    if not place.is_file() or place.read_text() != text:
        put(place, text.encode())
    return place


def _row(row: Audited, registry: Registry) -> list[tuple[str, ...]]:
    new = epsilon_column.fresh(row, registry)
    shared = max(1, len(new))
    return [_words(row, one, shared, stale=one not in new) for _, one in sorted(row.findings.items())]


def _words(row: Audited, one: Finding, shared: int, *, stale: bool) -> tuple[str, ...]:
    claimed, lower = float(one.epsilon), one.lower[shared - 1]
    audited, share = epsilon_column.spell(lower), f"{lower / claimed:.2f}" if claimed else "-"
    if stale:
        audited, share = "stale: audit it again", "-"
    elif one.violated(shared):
        audited = f"**VIOLATION** {audited}"
    tried = "; ".join(dict.fromkeys(str(part["what"]) for part in one.parts))
    most, use = epsilon_column.spell(one.most[shared - 1]), "-" if stale else _of_one_use(one, shared)
    figures = (spell_epsilon(claimed), audited, share, most, use)
    return (row.data, row.defense, KINDS[one.kind], *figures, str(one.trials), f"{one.seconds / 60:.1f}", tried)


def _of_one_use(one: Finding, shared: int) -> str:
    """The largest share of a use's mu that is proved, and what right code shows in the middle."""
    doors = [part for part in one.parts if "mu" in part]
    if not doors:
        return "-"
    proved, noise = max((part["mu"][shared - 1] * part["noise_multiplier"], part["noise_multiplier"]) for part in doors)
    middle = _typical(1 / noise, one.trials // 2, ERROR / (shared * len(doors))) * noise
    return f"{proved:.2f} ({middle:.2f})"


def _typical(mu: float, pairs: int, alpha: float) -> float:
    """About the middle of what `pairs.mu` proves of so many pairs of a Gaussian whose mu is this.

    Wilson's bound in place of Clopper and Pearson's spares whoever only draws the table the import of SciPy.
    """
    normal = NormalDist()
    chance, z = normal.cdf(mu / math.sqrt(2)), normal.inv_cdf(1 - alpha)
    spread = math.sqrt(chance * (1 - chance) / pairs + (z / pairs / 2) ** 2)
    least = (chance + z * z / pairs / 2 - z * spread) / (1 + z * z / pairs)
    return max(0.0, math.sqrt(2) * normal.inv_cdf(least)) if least > 0 else 0.0


def _line(words: tuple[str, ...]) -> str:
    return "| " + " | ".join(word.replace("|", "\\|") for word in words) + " |"
