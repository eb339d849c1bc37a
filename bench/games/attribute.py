"""Attribute inference: what is this person's missing attribute?"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Attribute, Examples, Split
from bench.core.errors import Caveat, UserError
from bench.core.game import Challenge, Game, public_as_private
from bench.core.release import Map
from bench.games import metrics, paired
from bench.games.intervals import Estimate, independent_difference
from bench.models.attribute_imputer import impute


@dataclass(frozen=True)
class AttributeTargets:
    """The targets of an attack: `records` whose columns of one attribute are set to 0, with their labels.

    values: (k, columns), the values that these columns can have. The answer is k scores per record, the largest of
    which is the guess; accuracy is averaged over values, so a frequent value earns no more than a rare one.
    """

    records: Examples
    attribute: Attribute
    values: NDArray[Any]

    def with_value(self, value: int) -> NDArray[Any]:
        """The records with the attribute set to one of `values`, (n, features)."""
        x = self.records.x.copy()
        x[:, self.attribute.start : self.attribute.stop] = self.values[value]
        return x

    def log_odds(self, predict: Map) -> NDArray[Any]:
        """Log odds that the model gives the true label of each record with each value, (n, values).

        Log odds and not probabilities, because a model gives its training records probabilities close to 1.
        """
        odds = np.empty((len(self.records), len(self.values)))
        rows = np.arange(len(self.records))
        for value in range(len(self.values)):
            p = predict(self.with_value(value)).astype(np.float64)
            true = p[rows, self.records.y]
            p[rows, self.records.y] = 0  # the sum of the others: 1 - true would lose its digits
            odds[:, value] = np.log(np.maximum(true, 1e-30)) - np.log(np.maximum(p.sum(1), 1e-30))
        return odds

    def training_set(self, public: Examples) -> tuple[Examples, NDArray[Any]]:
        """Public records without the attribute, and the index of the value that each had, to fit a learner on.

        Records that have none of the values are left out.
        """
        value = value_index(public.x, self.attribute, self.values)
        rows = np.flatnonzero(value >= 0)
        return without_attribute(public[rows], self.attribute), value[rows]


@dataclass(frozen=True)
class AttributeTruth:
    """The ground truth: the index of each record's value (n,), and whether the record is private."""

    value: NDArray[Any]
    private: NDArray[Any]


FEWEST = 30  # private and holdout records, each, that a value needs to be among those that are guessed
SURE = 0.1  # the share of guesses that an adversary would act on
Z = 3.0902  # p < 1e-3, one-sided


def value_index(x: NDArray[Any], attribute: Attribute, values: NDArray[Any]) -> NDArray[Any]:
    """The index in `values` (k, columns) of each record's value, (n,); -1 for none of them."""
    columns = x[:, attribute.start : attribute.stop]
    same = (columns[:, None, :] == values[None]).all(2)
    return np.where(same.any(1), same.argmax(1), -1)


def without_attribute(examples: Examples, attribute: Attribute) -> Examples:
    """The same records with the attribute's columns set to 0."""
    x = examples.x.copy()
    x[:, attribute.start : attribute.stop] = 0
    return Examples(x, examples.y, examples.classes)


def _challenge(data: Split, rng: np.random.Generator) -> Challenge:
    """Asks for the first attribute of every private and holdout record that has one of its usual values."""
    attribute = data.attributes[0]
    width = attribute.stop - attribute.start
    every = np.eye(width, dtype=np.float32) if width > 1 else np.array([[0], [1]], np.float32)
    sides = (data.private, data.holdout)
    counts = [np.bincount(value_index(part.x, attribute, every) + 1, minlength=len(every) + 1)[1:] for part in sides]
    values = every[np.minimum(*counts) >= FEWEST]
    if len(values) < 2:
        raise UserError(
            f"{data.name} has fewer than two values of {attribute.name} that {FEWEST} private and {FEWEST} holdout "
            "records share: ask for more records."
        )
    everyone = Examples(np.concatenate([p.x for p in sides]), np.concatenate([p.y for p in sides]), sides[0].classes)
    value = value_index(everyone.x, attribute, values)
    rows = rng.permutation(np.flatnonzero(value >= 0))
    targets = AttributeTargets(without_attribute(everyone[rows], attribute), attribute, values)
    return Challenge(targets, AttributeTruth(value[rows], rows < len(data.private)), data.public)


def _baseline(challenge: Challenge, seed: int) -> NDArray[Any]:
    targets: AttributeTargets = challenge.targets
    return impute(*targets.training_set(challenge.public), targets.records, len(targets.values), seed)


def _judge(
    answer: NDArray[Any], baseline: NDArray[Any], challenge: Challenge, rng: np.random.Generator
) -> dict[str, Any]:
    truth: AttributeTruth = challenge.ground_truth
    values = len(challenge.targets.values)
    guesses = [_guess(scores, len(truth.value), values, rng) for scores in (answer, baseline)]
    hit, baseline_hit = (guess == truth.value for guess in guesses)
    inside, outside = truth.private, ~truth.private
    gain, gain_outside = (
        paired.recall_gain(hit[side], baseline_hit[side], truth.value[side]) for side in (inside, outside)
    )
    over_holdout = independent_difference(gain, gain_outside)
    for caveat in _caveats(gain, over_holdout):
        warnings.warn(Caveat(caveat), stacklevel=2)
    return {
        "headline": "balanced_accuracy",
        "chance": 1 / values,
        "balanced_accuracy": metrics.balanced_recall(hit[inside], truth.value[inside]),
        "baseline": metrics.balanced_recall(baseline_hit[inside], truth.value[inside]),
        "gain": gain,
        "holdout": metrics.balanced_recall(hit[outside], truth.value[outside]),
        "holdout_blind": metrics.balanced_recall(baseline_hit[outside], truth.value[outside]),
        "gain_over_holdout": over_holdout,
        "surest_tenth": metrics.accuracy(hit[inside][_surest(answer[inside])]),
        "surest_tenth_blind": metrics.accuracy(baseline_hit[inside][_surest(baseline[inside])]),
        "attribute": challenge.targets.attribute.name,
        "records": int(inside.sum()),
        "holdout_records": int(outside.sum()),
        "answers": paired.recall_units(hit[inside], truth.value[inside]),
    }


def _guess(scores: NDArray[Any], n: int, values: int, rng: np.random.Generator) -> NDArray[Any]:
    """The value with the largest score; ties are broken at random."""
    scores = np.asarray(scores)
    if scores.shape != (n, values) or scores.dtype.kind not in "biuf" or not np.isfinite(scores).all():
        raise ValueError(f"expected finite scores of shape {(n, values)}, but got {scores.dtype} {scores.shape}")
    largest = scores == scores.max(1, keepdims=True)
    return np.asarray((largest * rng.random(scores.shape)).argmax(1))


def _surest(scores: NDArray[Any]) -> NDArray[Any]:
    """Rows of the tenth of records whose best score lies furthest above the second."""
    ordered = np.sort(scores, axis=1)
    lead = ordered[:, -1] - ordered[:, -2]
    return np.argsort(-lead, kind="stable")[: max(1, round(SURE * len(scores)))]


def _caveats(gain: Estimate, over_holdout: Estimate) -> list[str]:
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
    fewest={"private": {"private": 2 * FEWEST, "holdout": 2 * FEWEST}},
    requires=frozenset({"attributes"}),
    null_data=public_as_private,
    null_metric=("gain_over_holdout", 0.0),
)
"""Holdout records are targets too: what is guessed equally well about them was not leaked by training.

After Fredrikson et al. 2014. Jayaraman and Evans 2022 show that imputation alone explains much of it.
"""
