"""Audits of the bench's own defenses: one row, one kind of audit, many trials, a lower bound on its epsilon.

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

from bench.audit import replayed_mechanisms as doors
from bench.audit.bounds import paired_trials as pairs
from bench.audit.bounds import rank
from bench.core.dataset import Data, Examples, Where
from bench.core.errors import UserError
from bench.core.randomness import derive, stream
from bench.dp import accounting
from bench.store.audit_findings import ERROR, SHARED, Finding
from bench.store.freshness import finding_digest

if TYPE_CHECKING:
    from bench.audit.replayed_mechanisms import Door, Say, Sides
    from bench.core.component import Choice
    from bench.core.release import Release

TURNS = 2  # that a claim must be refuted in
CANARIES = 3  # holdout records from which those of a mechanism are made
Bounds = tuple[float, ...]  # by how many audits of the row share ERROR: 1 of them, 2, ...


def claims(defense: Choice) -> bool:
    """Whether there is an epsilon to audit."""
    return defense.component.private and defense.settings.get("epsilon") != float("inf")


def audit(defense: Choice, data: Choice, kind: str, trials: int, where: Where, say: Say) -> Finding:
    """Try a row `trials` times, half of them with the canary in. Raises UserError where there is nothing to try.

    Of rows that are right and audited to their last bit one in twenty is found above its claim, so whatever is found
    there is tried again with other noise, and what comes out then is what counts: one in four hundred.
    """
    start = time.perf_counter()
    split: Data = data.component.function(where, stream(0, "split", data.name), **data.settings)
    row = _Row(defense, split, derive(0, "audit", defense.label, data.label, kind), trials // 2, say)
    for row.turn in range(TURNS):
        dp_event, lower, most, parts = {"one_step": _one_step, "whole": _whole, "black_box": _black_box}[kind](row)
        epsilon = accounting.epsilon(dp_event, row.delta)
        found = Finding(
            kind=kind,
            epsilon=epsilon if math.isfinite(epsilon) else "inf",
            delta=row.delta,
            lower=lower,
            most=most,
            trials=2 * row.pairs,
            parts=parts,
            seconds=round(time.perf_counter() - start, 1),
            digest=finding_digest(defense, data, kind),
        )
        if not found.violated(1):
            break
    return found


@dataclass
class _Row:
    """A defense on its records, and how it is tried; another `turn` is the same with other noise."""

    defense: Choice
    data: Data
    seed: int
    pairs: int
    say: Say
    turn: int = 0

    @property
    def delta(self) -> float:
        """That of the board."""
        return accounting.delta_for(len(self.data.private))

    def trials(self, *words: str | int) -> int:
        """The seed of some of this turn's trials."""
        return derive(self.seed, "turn", self.turn, *words)

    def run(self, private: Examples, seed: int | None = None) -> Release:
        """The defense on these private records, with the same randomness however many they are."""
        function: Callable[..., Release] = self.defense.component.function
        own = derive(self.seed, "run") if seed is None else seed
        return function(private, self.data.public, seed=own, **self.defense.settings)

    @cached_property
    def doors(self) -> tuple[Any, list[Door]]:
        """What it spent, and every door that it used."""
        from bench.audit.black_box import worst

        extra = []
        for i in range(CANARIES):
            one = self.data.holdout[i : i + 1]
            wrong = replace(one, y=(one.y + 1) % one.classes)
            extra += [("a record turned inside out", worst(one)), ("a mislabelled record", wrong)]
        self.say("the defense, watched", 0, self.pairs)
        release, found = doors.doors(self.run, self.data.private, extra, self.seed)
        if not found:
            raise UserError(f"{self.defense.label} shows no noise to audit: it trains, adds up and averages nothing.")
        return release.dp_event, found


Found = tuple[Any, Bounds, Bounds, tuple[dict[str, Any], ...]]


def _one_step(row: _Row) -> Found:
    """Of each door the least mu of one use, and through the account the epsilon of all of its uses."""
    dp_event, found = row.doors
    lower, most, parts = [], [], []
    for i, door in enumerate(found):
        held_in, held_out = door.scores(row.pairs, row.trials("door", i), row.say)
        won = pairs.won(held_in, held_out, np.random.default_rng(row.trials("ties", i)))
        alphas = [ERROR / (shared * len(found)) for shared in SHARED]
        mu = [pairs.mu(won, row.pairs, alpha) for alpha in alphas]
        lower.append([_through(door, one, row.delta) for one in mu])
        most.append([_through(door, pairs.mu(row.pairs, row.pairs, alpha), row.delta) for alpha in alphas])
        noise = {"noise_multiplier": door.noise_multiplier, "rate": door.rate, "steps": door.steps}
        parts.append({"what": door.what, **noise, "mu": mu, "won": won})
    return dp_event, _largest(lower), _largest(most), tuple(parts)


def _through(door: Door, mu: float, delta: float) -> float:
    """The epsilon of all uses of a door, were each mu-GDP on the records that it draws."""
    return accounting.epsilon(doors.event(door, 1 / mu), delta) if mu else 0.0


def _largest(bounds: list[list[float]]) -> Bounds:
    return tuple(max(column) for column in zip(*bounds, strict=True))


def _whole(row: _Row) -> Found:
    """Of each private training the epsilon that its trainings prove by themselves."""
    from bench.audit import full_training

    dp_event, found = row.doors
    trainings = [door for door in found if isinstance(door, doors.Training)]
    if not trainings:
        raise UserError(f"{row.defense.label} has no private training to audit as a whole: take --kind one_step.")
    bounds, parts = [], []
    for i, door in enumerate(trainings):
        sides = full_training.scores(door, row.pairs, row.trials("door", i), row.say)
        bounds.append(_by_trials(row, sides, len(trainings)))
        parts.append({"what": door.what})
    return dp_event, _largest([b[0] for b in bounds]), _largest([b[1] for b in bounds]), tuple(parts)


def _black_box(row: _Row) -> Found:
    """The epsilon that releases prove by themselves."""
    from bench.audit import black_box

    record = black_box.worst(row.data.holdout)
    dp_event = row.run(row.data.private).dp_event
    sides = black_box.scores(row.run, row.data.private, record, row.pairs, row.trials("releases"), row.say)
    lower, most = _by_trials(row, sides, 1)
    return dp_event, tuple(lower), tuple(most), ({"what": "the release, canary a record turned inside out"},)


def _by_trials(row: _Row, sides: Sides, parts: int) -> tuple[list[float], list[float]]:
    """The larger of what pairs and ranks prove, each with half of the error; and the most that they could have."""
    n, apart = row.pairs, np.arange(2.0 * row.pairs)
    found = []
    for held_in, held_out in (sides, (apart[n:], apart[:n])):
        won = pairs.won(held_in, held_out, np.random.default_rng(row.trials("ties")))
        rules = rank.rules(np.sort(held_in), np.sort(held_out))
        alphas = [ERROR / (2 * shared * parts) for shared in SHARED]
        by_pairs = [pairs.epsilon(won, n, row.delta, alpha) for alpha in alphas]
        by_ranks = [rank.epsilon(rules, row.delta, alpha) for alpha in alphas]
        found.append([max(both) for both in zip(by_pairs, by_ranks, strict=True)])
    return found[0], found[1]
