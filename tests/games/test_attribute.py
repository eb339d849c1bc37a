"""The attribute game: its targets, its imputer, which is independent of the truth, and its judge."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from attribute_plays import challenged, judged

from bench.conformance.toy_games import CLASSES, SIGMAS, VALUES, people, sigmas
from bench.core.dataset import Examples
from bench.core.errors import Caveat, UserError
from bench.games import ATTRIBUTE, metrics, paired
from bench.games import attribute as game
from bench.models.attribute_imputer import impute


def test_the_imputer_is_independent_of_the_truth() -> None:
    """On noise the imputer is at chance; mutants fitted on the targets or given whole records are not."""
    data = people(seed=4)
    challenge = challenged(data)
    targets, truth = challenge.targets, challenge.ground_truth
    x = targets.records.x.copy()
    x[:, 3:6] = targets.values[truth.value]
    known, value = targets.training_set(data.public)
    imputers = {
        "honest": ATTRIBUTE.baseline(challenge, 0),
        "fitted on the targets": impute(targets.records, truth.value, targets.records, VALUES, 0),
        "given whole records": impute(data.public, value, Examples(x, targets.records.y, CLASSES), VALUES, 0),
    }
    assert len(known) == len(data.public)
    chance = np.full((len(truth.value), VALUES), 1.0)
    found = {name: judged(chance, data, baseline)["baseline"] for name, baseline in imputers.items()}
    deviations = {name: sigmas(estimate, 1 / VALUES) for name, estimate in found.items()}
    assert abs(deviations.pop("honest")) < SIGMAS
    assert min(deviations.values()) > SIGMAS


def test_targets_are_all_records_without_the_attribute_in_random_order() -> None:
    data = people(sizes=(200, 150, 100))
    challenge = challenged(data)
    targets, truth = challenge.targets, challenge.ground_truth
    assert (len(targets.records), int(truth.private.sum())) == (350, 200)
    assert not targets.records.x[:, 3:6].any()
    whole = {row.tobytes() for row in data.private.x}
    rows = np.arange(350)
    true = np.stack([targets.with_value(v) for v in range(VALUES)])[truth.value, rows]
    assert [row.tobytes() in whole for row in true] == truth.private.tolist()
    assert 0 < truth.private[:200].sum() < 200
    assert 50 < truth.private[:100].sum() < 90
    other = ATTRIBUTE.challenge(data, np.random.default_rng(1))
    assert not np.array_equal(other.targets.records.x, targets.records.x)
    assert game.value_index(true, targets.attribute, targets.values).tolist() == truth.value.tolist()


def test_rare_values_are_no_targets_and_two_values_must_remain() -> None:
    data = people(sizes=(300, 300, 100))
    few = data.private.x[:, 5].nonzero()[0][game.FEWEST - 1 :]
    x = data.private.x.copy()
    x[few, 3:6] = [1, 0, 0]
    rare = replace(data, private=Examples(x, data.private.y, CLASSES))
    targets, truth = challenged(rare).targets, challenged(rare).ground_truth
    assert targets.values.tolist() == [[1, 0, 0], [0, 1, 0]]
    assert len(truth.value) == len(targets.records) == 600 - (game.FEWEST - 1) - int(data.holdout.x[:, 5].sum())
    assert len(targets.training_set(data.public)[0]) == 100 - data.public.x[:, 5].sum()
    with pytest.raises(UserError, match="fewer than two values of hair"):
        challenged(people(sizes=(40, 40, 40)))


def test_a_binary_column_has_two_values() -> None:
    targets = challenged(people(width=1)).targets
    assert targets.values.tolist() == [[0], [1]]
    assert targets.with_value(1)[:, 3].all()


def test_log_odds_are_precise_near_certainty() -> None:
    targets = challenged(people()).targets
    sure = np.float32([1e-9, 1 - 3e-9, 2e-9])
    relabelled = replace(targets, records=Examples(targets.records.x, np.ones(len(targets.records)), CLASSES))
    assert np.allclose(relabelled.log_odds(lambda x: np.tile(sure, (len(x), 1))), np.log(1 / 3e-9))
    assert np.isfinite(relabelled.log_odds(lambda x: np.tile(np.float32([0, 1, 0]), (len(x), 1)))).all()


def test_balanced_recall_is_the_mean_over_groups() -> None:
    rng = np.random.default_rng(0)
    group, correct = rng.integers(0, 4, 500), rng.random(500) < 0.3
    naive = sum(sum(c for c, g in zip(correct, group, strict=True) if g == k) / sum(group == k) for k in range(4)) / 4
    found = metrics.balanced_recall(correct, group)
    assert abs(found["value"] - naive) < 1e-12
    assert found["low"] < naive < found["high"]
    alone, plain = metrics.balanced_recall(correct, np.zeros(500, int)), metrics.accuracy(correct)
    assert all(abs(alone[key] - plain[key]) < 1e-12 for key in plain)


def test_intervals_have_their_stated_coverage() -> None:
    """Paired guesses with known accuracies; the variance of independent guesses would be too large."""
    rng = np.random.default_rng(1)
    group = np.repeat([0, 1, 2], [200, 60, 15])
    shares = np.array([0.7, 0.5, 0.2])[group]
    missed = np.zeros(2)
    for _ in range(400):
        easy = rng.random(len(group)) < shares
        a, b = (np.where(rng.random(len(group)) < 0.2, rng.random(len(group)) < 0.5, easy) for _ in range(2))
        gain = paired.recall_gain(a, b, group)
        recall = metrics.balanced_recall(a, group)
        truth = 0.8 * np.mean([0.7, 0.5, 0.2]) + 0.1
        missed += [not gain["low"] <= 0 <= gain["high"], not recall["low"] <= truth <= recall["high"]]
        assert gain["se"] < np.hypot(recall["se"], metrics.balanced_recall(b, group)["se"])
    assert (missed / 400 < 0.1).all()


def test_a_gain_that_is_as_large_on_holdout_records_has_a_caveat() -> None:
    data = people(tell=0.0)
    challenge = challenged(data)
    baseline = ATTRIBUTE.baseline(challenge, 0)
    right = np.eye(VALUES)[challenge.ground_truth.value]
    with pytest.warns(Caveat, match="learned about the population"):
        ATTRIBUTE.judge(right, baseline, challenge, np.random.default_rng(0))
    memorised = np.where(challenge.ground_truth.private[:, None], right, baseline)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Caveat)
        found = ATTRIBUTE.judge(memorised, baseline, challenge, np.random.default_rng(0))
        ATTRIBUTE.judge(baseline, baseline, challenge, np.random.default_rng(0))
    assert found["balanced_accuracy"]["value"] == 1
    assert sigmas(found["gain_over_holdout"]) > SIGMAS


def test_equal_scores_are_random_guesses_and_the_surest_tenth_has_the_largest_margins() -> None:
    data = people()
    n = len(challenged(data).targets.records)
    baseline = np.ones((n, VALUES))
    assert abs(sigmas(judged(np.zeros((n, VALUES)), data, baseline)["balanced_accuracy"], 1 / VALUES)) < SIGMAS
    truth = challenged(data).ground_truth.value
    scores = np.random.default_rng(0).random((n, VALUES))
    scores[::5] += 5 * np.eye(VALUES)[truth[::5]]
    assert judged(scores, data, baseline)["surest_tenth"]["value"] == 1
    for bad in (np.zeros(n), np.zeros((n, VALUES + 1)), np.full((n, VALUES), np.nan), np.full((n, VALUES), "a")):
        with pytest.raises(ValueError, match="expected finite scores"):
            judged(bad, data, baseline)
