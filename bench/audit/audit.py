"""Audits of a defense on a data set: many trials with and without a canary, and the lower bound on epsilon they prove.

TensorFlow is imported inside the functions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.audit import replayed_mechanisms
from bench.audit.bounds import paired_trials, rank
from bench.core.dataset import DataLocation, Examples, Split
from bench.core.errors import UserError
from bench.core.randomness import derive, stream
from bench.dp import accounting
from bench.store.audit_findings import ERROR
from bench.store.freshness import finding_digest
from bench.store.records import SHARED, AuditFinding

if TYPE_CHECKING:
    from bench.audit.replayed_mechanisms import OnProgress, Replayed, Sides
    from bench.core.component import Choice
    from bench.core.release import Release

TRIES = 2  # with independent noise, of which each must refute a claim
CANARIES = 3  # holdout records from which the canaries of the Gaussian mechanism are made
Bounds = tuple[float, ...]  # one per number of audits of the row that share ERROR: 1, 2, ...


def audit(
    defense: Choice, data: Choice, kind: str, trials: int, where: DataLocation, on_progress: OnProgress
) -> AuditFinding:
    """Audit a row with this many trials, half of them with the canary. Raises UserError where nothing can be audited.

    kind: one of `bench.store.records.AUDIT_KINDS`.
    """
    split: Split = data.component.function(where, stream(0, "split", data.name), **data.settings)
    row = AuditRow(defense, split, derive(0, "audit", defense.label, data.label, kind), trials // 2, on_progress)
    return measure(row, kind, finding_digest(defense, data, kind))


def measure(row: AuditRow, kind: str, digest: str) -> AuditFinding:
    """The finding of one kind of audit.

    A correct claim is refuted with probability ERROR, 1 in 20. So a refuted claim is audited again with other noise,
    and only the last result counts, which makes it 1 in 400.
    """
    start = time.perf_counter()
    for row.attempt in range(TRIES):
        dp_event, lower, most, parts = {"one_step": _one_step, "whole": _whole, "black_box": _black_box}[kind](row)
        epsilon = accounting.epsilon(dp_event, row.delta)
        found = AuditFinding(
            kind=kind,
            epsilon=epsilon if math.isfinite(epsilon) else "inf",
            delta=row.delta,
            lower=lower,
            most=most,
            trials=2 * row.pairs,
            parts=parts,
            seconds=round(time.perf_counter() - start, 1),
            digest=digest,
        )
        if not found.violated(1):
            break
    return found


@dataclass
class AuditRow:
    """A defense on a data set, and its trials: `pairs` with the canary and as many without; attempt: of TRIES."""

    defense: Choice
    data: Split
    seed: int
    pairs: int
    on_progress: OnProgress
    attempt: int = 0

    @property
    def delta(self) -> float:
        """That of the leaderboard."""
        return accounting.delta_for(len(self.data.private))

    def trial_seed(self, *words: str | int) -> int:
        """The seed of some trials of this attempt."""
        return derive(self.seed, "turn", self.attempt, *words)

    def run(self, private: Examples, seed: int | None = None) -> Release:
        """The defense on these private records, by default with the same seed."""
        function: Callable[..., Release] = self.defense.component.function
        given = derive(self.seed, "run") if seed is None else seed
        return function(private, self.data.public, seed=given, **self.defense.settings)

    @cached_property
    def mechanisms(self) -> tuple[Any, list[Replayed]]:
        """The `dp_event` of the defense, and each mechanism that it uses."""
        from bench.audit.black_box import inverted_record

        extra = []
        for i in range(CANARIES):
            one = self.data.holdout[i : i + 1]
            mislabelled = replace(one, y=(one.y + 1) % one.classes)
            extra += [("a record turned inside out", inverted_record(one)), ("a mislabelled record", mislabelled)]
        self.on_progress("running the defense", 0, self.pairs)
        release, found = replayed_mechanisms.replayed(self.run, self.data.private, extra, self.seed)
        if not found:
            raise UserError(
                f"{self.defense.label} uses none of the mechanisms that can be audited: DP training, the Gaussian "
                "mechanism or a noised server sum."
            )
        return release.dp_event, found


Found = tuple[Any, Bounds, Bounds, tuple[dict[str, Any], ...]]


def _one_step(row: AuditRow) -> Found:
    """The lower bound on mu of one use of each mechanism, composed to the epsilon of all its uses."""
    dp_event, found = row.mechanisms
    lower, most, parts = [], [], []
    for i, mechanism in enumerate(found):
        held_in, held_out = mechanism.scores(row.pairs, row.trial_seed("door", i), row.on_progress)
        wins = paired_trials.wins(held_in, held_out, np.random.default_rng(row.trial_seed("ties", i)))
        alphas = [ERROR / (shared * len(found)) for shared in SHARED]
        mu = [paired_trials.mu(wins, row.pairs, alpha) for alpha in alphas]
        lower.append([epsilon_of_uses(mechanism, one, row.delta) for one in mu])
        perfect = [paired_trials.mu(row.pairs, row.pairs, alpha) for alpha in alphas]
        most.append([epsilon_of_uses(mechanism, one, row.delta) for one in perfect])
        noise = {"noise_multiplier": mechanism.noise_multiplier, "rate": mechanism.rate, "steps": mechanism.steps}
        parts.append({"what": mechanism.what, **noise, "mu": mu, "won": wins})
    return dp_event, _largest(lower), _largest(most), tuple(parts)


def epsilon_of_uses(mechanism: Replayed, mu: float, delta: float) -> float:
    """The epsilon of all uses of a mechanism, if each is mu-GDP on the records that it samples."""
    return accounting.epsilon(replayed_mechanisms.event(mechanism, 1 / mu), delta) if mu else 0.0


def _largest(bounds: list[list[float]]) -> Bounds:
    return tuple(max(column) for column in zip(*bounds, strict=True))


def _whole(row: AuditRow) -> Found:
    """The epsilon that whole trainings prove, for each private training of the defense."""
    from bench.audit import full_training

    dp_event, found = row.mechanisms
    trainings = [one for one in found if isinstance(one, replayed_mechanisms.ReplayedTraining)]
    if not trainings:
        raise UserError(f"{row.defense.label} has no private training to audit as a whole: take --kind one_step.")
    bounds, parts = [], []
    for i, training in enumerate(trainings):
        sides = full_training.scores(training, row.pairs, row.trial_seed("door", i), row.on_progress)
        bounds.append(_by_trials(row, sides, len(trainings)))
        parts.append({"what": training.what})
    return dp_event, _largest([b[0] for b in bounds]), _largest([b[1] for b in bounds]), tuple(parts)


def _black_box(row: AuditRow) -> Found:
    """The epsilon that whole releases prove."""
    from bench.audit import black_box

    record = black_box.inverted_record(row.data.holdout)
    dp_event = row.run(row.data.private).dp_event
    seed = row.trial_seed("releases")
    sides = black_box.scores(row.run, row.data.private, record, row.pairs, seed, row.on_progress)
    lower, most = _by_trials(row, sides, 1)
    return dp_event, tuple(lower), tuple(most), ({"what": "the release, canary a record turned inside out"},)


def _by_trials(row: AuditRow, sides: Sides, parts: int) -> tuple[list[float], list[float]]:
    """The larger of the bounds by pairs and by ranks, each with half of the error; and those of a perfect attack."""
    n, apart = row.pairs, np.arange(2.0 * row.pairs)
    found = []
    for held_in, held_out in (sides, (apart[n:], apart[:n])):
        wins = paired_trials.wins(held_in, held_out, np.random.default_rng(row.trial_seed("ties")))
        rules = rank.rules(np.sort(held_in), np.sort(held_out))
        alphas = [ERROR / (2 * shared * parts) for shared in SHARED]
        by_pairs = [paired_trials.epsilon(wins, n, row.delta, alpha) for alpha in alphas]
        by_ranks = [rank.epsilon(rules, row.delta, alpha) for alpha in alphas]
        found.append([max(both) for both in zip(by_pairs, by_ranks, strict=True)])
    return found[0], found[1]
