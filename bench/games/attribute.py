"""Attribute inference: what is this person's missing attribute?"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Attribute, Data, Examples
from bench.core.errors import Caveat, UserError
from bench.core.game import Challenge, Game, of_others
from bench.core.release import Map
from bench.games import metrics
from bench.models.attribute_imputer import impute


@dataclass(frozen=True)
class Missing:
    """What an attack is asked about: `records` whose columns of one attribute are set to 0, with their labels.

    values: (k, columns), what can stand in these columns. The answer to each record is k scores, the largest of which
    is the guess; guesses count as right by the mean over values, so a frequent one earns no more than a rare one.
    """

    records: Examples
    attribute: Attribute
    values: NDArray[Any]

    def filled(self, value: int) -> NDArray[Any]:
        """The records with one value in place of the missing one, (n, features)."""
        x = self.records.x.copy()
        x[:, self.attribute.start : self.attribute.stop] = self.values[value]
        return x

    def tried(self, predict: Map) -> NDArray[Any]:
        """Log odds that the model gives the true label of each record with each value, (n, values).

        Log odds and not probabilities, because those of records that were trained on are all but 1.
        """
        found = np.empty((len(self.records), len(self.values)))
        rows = np.arange(len(self.records))
        for value in range(len(self.values)):
            p = predict(self.filled(value)).astype(np.float64)
            true = p[rows, self.records.y]
            p[rows, self.records.y] = 0  # the rest added up: 1 - true would lose its digits
            found[:, value] = np.log(np.maximum(true, 1e-30)) - np.log(np.maximum(p.sum(1), 1e-30))
        return found

    def known(self, others: Examples) -> tuple[Examples, NDArray[Any]]:
        """Whole records of others as records without the attribute, and which of the values each has.

        Those with none of the values are left out.
        """
        value = which(others.x, self.attribute, self.values)
        rows = np.flatnonzero(value >= 0)
        return blanked(others[rows], self.attribute), value[rows]


@dataclass(frozen=True)
class Truth:
    """What the judge alone knows: which value each record has (n,), and whether it was among the private ones."""

    value: NDArray[Any]
    private: NDArray[Any]


FEWEST = 30  # records with a value on either side, below which nobody is asked for it
SURE = 0.1  # the share of guesses that an adversary would act on
Z = 3.0902  # p < 1e-3, one-sided


def which(x: NDArray[Any], attribute: Attribute, values: NDArray[Any]) -> NDArray[Any]:
    """Which of `values` (k, columns) each record has, (n,); -1 for none of them."""
    held = x[:, attribute.start : attribute.stop]
    same = (held[:, None, :] == values[None]).all(2)
    return np.where(same.any(1), same.argmax(1), -1)


def blanked(examples: Examples, attribute: Attribute) -> Examples:
    """The same records with the attribute's columns set to 0."""
    x = examples.x.copy()
    x[:, attribute.start : attribute.stop] = 0
    return Examples(x, examples.y, examples.classes)


def _challenge(data: Data, rng: np.random.Generator) -> Challenge:
    """The first attribute of the set, of every private and holdout record that has one of its usual values."""
    attribute = data.attributes[0]
    width = attribute.stop - attribute.start
    every = np.eye(width, dtype=np.float32) if width > 1 else np.array([[0], [1]], np.float32)
    sides = (data.private, data.holdout)
    counts = [np.bincount(which(part.x, attribute, every) + 1, minlength=len(every) + 1)[1:] for part in sides]
    values = every[np.minimum(*counts) >= FEWEST]
    if len(values) < 2:
        raise UserError(
            f"{data.name} has fewer than two values of {attribute.name} that {FEWEST} private and {FEWEST} holdout "
            "records share: ask for more records."
        )
    everyone = Examples(np.concatenate([p.x for p in sides]), np.concatenate([p.y for p in sides]), sides[0].classes)
    value = which(everyone.x, attribute, values)
    asked = rng.permutation(np.flatnonzero(value >= 0))
    targets = Missing(blanked(everyone[asked], attribute), attribute, values)
    return Challenge(targets, Truth(value[asked], asked < len(data.private)), data.public)


def _baseline(challenge: Challenge, seed: int) -> NDArray[Any]:
    targets: Missing = challenge.targets
    return impute(*targets.known(challenge.public), targets.records, len(targets.values), seed)


def _judge(
    answer: NDArray[Any], baseline: NDArray[Any], challenge: Challenge, rng: np.random.Generator
) -> dict[str, Any]:
    truth: Truth = challenge.ground_truth
    values = len(challenge.targets.values)
    guesses = [_guess(scores, len(truth.value), values, rng) for scores in (answer, baseline)]
    hit, blind_hit = (guess == truth.value for guess in guesses)
    inside, outside = truth.private, ~truth.private
    gain, gain_outside = (
        metrics.paired_recall(hit[side], blind_hit[side], truth.value[side]) for side in (inside, outside)
    )
    over_holdout = metrics.difference(gain, gain_outside)
    for caveat in _caveats(gain, over_holdout):
        warnings.warn(Caveat(caveat), stacklevel=2)
    return {
        "headline": "balanced_accuracy",
        "chance": 1 / values,
        "balanced_accuracy": metrics.balanced_recall(hit[inside], truth.value[inside]),
        "baseline": metrics.balanced_recall(blind_hit[inside], truth.value[inside]),
        "gain": gain,
        "holdout": metrics.balanced_recall(hit[outside], truth.value[outside]),
        "holdout_blind": metrics.balanced_recall(blind_hit[outside], truth.value[outside]),
        "gain_over_holdout": over_holdout,
        "surest_tenth": metrics.accuracy(hit[inside][_surest(answer[inside])]),
        "surest_tenth_blind": metrics.accuracy(blind_hit[inside][_surest(baseline[inside])]),
        "attribute": challenge.targets.attribute.name,
        "records": int(inside.sum()),
        "holdout_records": int(outside.sum()),
        "answers": metrics.recalls(hit[inside], truth.value[inside]),
    }


def _guess(scores: NDArray[Any], n: int, values: int, rng: np.random.Generator) -> NDArray[Any]:
    """The value with the largest score, one of them at random where several are largest."""
    scores = np.asarray(scores)
    if scores.shape != (n, values) or scores.dtype.kind not in "biuf" or not np.isfinite(scores).all():
        raise ValueError(f"expected finite scores of shape {(n, values)}, but got {scores.dtype} {scores.shape}")
    largest = scores == scores.max(1, keepdims=True)
    return np.asarray((largest * rng.random(scores.shape)).argmax(1))


def _surest(scores: NDArray[Any]) -> NDArray[Any]:
    """Rows of the tenth whose best score lies furthest above the second."""
    ordered = np.sort(scores, axis=1)
    lead = ordered[:, -1] - ordered[:, -2]
    return np.argsort(-lead, kind="stable")[: max(1, round(SURE * len(scores)))]


def _caveats(gain: metrics.Figure, over_holdout: metrics.Figure) -> list[str]:
    if gain["value"] > Z * gain["se"] and over_holdout["value"] <= Z * over_holdout["se"]:
        return [
            "what it gains it gains on records that nobody trained on too: it has learned about the population, "
            "not about these people"
        ]
    return []


ATTRIBUTE = Game(
    "attribute",
    "What is this person's missing attribute?",
    {"private": _challenge},
    _baseline,
    _judge,
    requires=frozenset({"attributes"}),
    null_data=of_others,
    nothing=("gain_over_holdout", 0.0),
)
"""The same is asked of holdout records: what is guessed about them as well was not leaked by training on anybody.

After Fredrikson et al. 2014; that imputation alone explains much of it is Jayaraman and Evans 2022.
"""
