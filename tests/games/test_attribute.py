"""The game attribute: its attacks find what is memorised and nothing else, its imputer never saw the truth."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from conftest import components
from dp_accounting import NonPrivateDpEvent
from numpy.typing import NDArray

from attacks.art_attribute import LEARNERS
from attacks.confidence_attribute import PRIORS
from bench.conformance.attack_checks import CHECKS, AttackRuns, has_a_required_score
from bench.conformance.check import Check, Skip
from bench.conformance.toy_games import CLASSES, EVERYBODY, SIGMAS, VALUES, people, sigmas
from bench.conformance.toy_releases import knower
from bench.core.component import Choice
from bench.core.dataset import Examples, Split
from bench.core.errors import Caveat, UserError
from bench.core.release import Map, Release
from bench.games import ATTRIBUTE, AttributeTargets, metrics, paired
from bench.games import attribute as game
from bench.models.attribute_imputer import impute

ATTACKS = sorted(name for name, attack in components().attacks.items() if attack.game is ATTRIBUTE)


def vars_of(data: Split, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    part: Examples = getattr(data, name)
    return part.x, part.y


def released(predict: Map) -> Release:
    return Release(NonPrivateDpEvent(), predict=predict)


def asked(data: Split, seed: int = 0) -> Any:
    return ATTRIBUTE.challenge(data, np.random.default_rng(seed))


def judged(answer: NDArray[Any], data: Split, baseline: NDArray[Any] | None = None) -> dict[str, Any]:
    challenge = asked(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Caveat)
        baseline = ATTRIBUTE.baseline(challenge, 0) if baseline is None else baseline
        return dict(ATTRIBUTE.judge(answer, baseline, challenge, np.random.default_rng(0)))


def play(function: Callable[..., Any], data: Split, predict: Map, **options: Any) -> dict[str, Any]:
    challenge = asked(data)
    return judged(function(released(predict), challenge.targets, challenge.public, seed=0, **options), data)


def attack(name: str) -> Callable[..., Any]:
    return components().attacks[name].function


# What the attacks find


@pytest.mark.parametrize("width", [3, 1])
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_beats_the_imputer_where_the_model_knows_the_attribute(name: str, width: int) -> None:
    data = people(width=width)
    found = play(attack(name), data, knower(data, EVERYBODY))
    assert min(sigmas(found["gain"]), sigmas(found["balanced_accuracy"], found["chance"])) > SIGMAS
    assert found["balanced_accuracy"]["value"] > 0.8
    assert abs(sigmas(found["gain_over_holdout"])) < SIGMAS, "a model that knows everybody leaks no more of its own"


def test_what_is_memorised_of_private_records_alone_is_a_gain_over_holdout() -> None:
    data = people()
    found = play(attack("confidence_attribute"), data, knower(data, ("private",)))
    assert min(sigmas(found["gain"]), sigmas(found["gain_over_holdout"])) > SIGMAS
    assert abs(sigmas(found["holdout"], 1 / VALUES)) < SIGMAS


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("model", ["random", "constant", "null_data"])
def test_an_attack_gains_nothing_where_nothing_is_known(name: str, model: str) -> None:
    data = people(seed=1)
    predict = {
        "random": knower(data, ()),
        "constant": lambda x: np.full((len(x), CLASSES), 1 / CLASSES, np.float32),
        "null_data": knower(people(seed=99), EVERYBODY),
    }[model]
    found = play(attack(name), data, predict)
    for figure, zero in (("gain", 0), ("gain_over_holdout", 0), ("balanced_accuracy", 1 / VALUES)):
        assert abs(sigmas(found[figure], zero)) < SIGMAS


@pytest.mark.parametrize(
    "prior", [pytest.param(prior, marks=() if prior == "imputed" else pytest.mark.slow) for prior in PRIORS]
)
def test_an_over_fitted_model_leaks_the_attributes_of_its_own_records(prior: str) -> None:
    """The real thing: a network trained on random labels has nothing to learn but the people themselves."""
    from bench.models.classifier import classify, standard

    data = people(seed=2, sizes=(300, 300, 300))
    recipe = standard(data.private, hidden=(128,), steps=1500, batch_size=100, learning_rate=0.003)
    trained = classify(data.private, 0, recipe)
    found = play(attack("confidence_attribute"), data, trained.predict, prior=prior, weight=1.0)
    assert min(sigmas(found["gain"]), sigmas(found["gain_over_holdout"])) > SIGMAS
    null_data = play(attack("confidence_attribute"), people(seed=3), trained.predict, prior=prior, weight=1.0)
    assert abs(sigmas(null_data["gain_over_holdout"])) < SIGMAS


@pytest.mark.parametrize("name", ATTACKS)
def test_where_records_tell_the_attribute_the_prior_is_kept(name: str) -> None:
    """Against a model that says nothing an attack is an imputer: not far below the best."""
    data = people(tell=0.9)
    constant = play(attack(name), data, lambda x: np.full((len(x), CLASSES), 1 / CLASSES, np.float32))
    assert sigmas(constant["baseline"], 1 / VALUES) > SIGMAS
    assert sigmas(constant["balanced_accuracy"], 1 / VALUES) > SIGMAS
    assert constant["gain"]["value"] > -0.05


# Mutants


@pytest.mark.parametrize("name", ATTACKS)
def test_the_largest_score_for_the_least_likely_is_caught(name: str) -> None:
    data = people()
    found = play(lambda *a, **k: -attack(name)(*a, **k), data, knower(data, EVERYBODY))
    assert sigmas(found["gain"]) < SIGMAS


def test_confidence_in_wrong_labels_is_caught() -> None:
    data = people()

    def mutant(release: Release, targets: AttributeTargets, public: Examples, *, seed: int) -> NDArray[Any]:
        wrong = Examples(targets.records.x, (targets.records.y + 1) % CLASSES, CLASSES)
        return attack("confidence_attribute")(release, replace(targets, records=wrong), public, seed=seed)

    assert sigmas(play(mutant, data, knower(data, ("private",)))["gain"]) < SIGMAS


@pytest.mark.parametrize("learner", ["dt", pytest.param("gb", marks=pytest.mark.slow)])
def test_a_learner_fitted_on_what_it_is_asked_is_caught(learner: str) -> None:
    """What art_attribute would read on pure noise if the records in question were among those it is fitted on."""
    data = people(seed=1)
    x, y = (np.concatenate(arrays) for arrays in zip(*(vars_of(data, name) for name in EVERYBODY), strict=True))
    release, targets = released(knower(data, ())), asked(data).targets
    answer = attack("art_attribute")(release, targets, Examples(x, y, CLASSES), seed=0, learner=learner)
    assert sigmas(judged(answer, data)["gain"]) > SIGMAS
    honest = attack("art_attribute")(release, targets, data.public, seed=0, learner=learner)
    assert abs(sigmas(judged(honest, data)["gain"])) < SIGMAS


def test_an_imputer_that_saw_the_truth_is_caught() -> None:
    """On noise the imputer is at chance; one fitted on the records in question, or handed them whole, is not."""
    data = people(seed=4)
    challenge = asked(data)
    targets, truth = challenge.targets, challenge.ground_truth
    x = targets.records.x.copy()
    x[:, 3:6] = targets.values[truth.value]
    known, value = targets.training_set(data.public)
    blinds = {
        "honest": ATTRIBUTE.baseline(challenge, 0),
        "fitted on the asked": impute(targets.records, truth.value, targets.records, VALUES, 0),
        "handed whole records": impute(data.public, value, Examples(x, targets.records.y, CLASSES), VALUES, 0),
    }
    assert len(known) == len(data.public)
    chance = np.full((len(truth.value), VALUES), 1.0)
    far = {name: sigmas(judged(chance, data, baseline)["baseline"], 1 / VALUES) for name, baseline in blinds.items()}
    assert abs(far.pop("honest")) < SIGMAS
    assert min(far.values()) > SIGMAS


# The challenge


def test_targets_are_everybody_without_the_attribute_in_random_order() -> None:
    data = people(sizes=(200, 150, 100))
    challenge = asked(data)
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


def test_rare_values_are_not_asked_for_and_two_must_be_left() -> None:
    data = people(sizes=(300, 300, 100))
    few = data.private.x[:, 5].nonzero()[0][game.FEWEST - 1 :]
    x = data.private.x.copy()
    x[few, 3:6] = [1, 0, 0]
    rare = replace(data, private=Examples(x, data.private.y, CLASSES))
    targets, truth = asked(rare).targets, asked(rare).ground_truth
    assert targets.values.tolist() == [[1, 0, 0], [0, 1, 0]]
    assert len(truth.value) == len(targets.records) == 600 - (game.FEWEST - 1) - int(data.holdout.x[:, 5].sum())
    assert len(targets.training_set(data.public)[0]) == 100 - data.public.x[:, 5].sum()
    with pytest.raises(UserError, match="fewer than two values of hair"):
        asked(people(sizes=(40, 40, 40)))


def test_a_binary_column_has_two_values() -> None:
    targets = asked(people(width=1)).targets
    assert targets.values.tolist() == [[0], [1]]
    assert targets.with_value(1)[:, 3].all()


def test_log_odds_keep_their_digits_next_to_certainty() -> None:
    targets = asked(people()).targets
    sure = np.float32([1e-9, 1 - 3e-9, 2e-9])
    own = replace(targets, records=Examples(targets.records.x, np.ones(len(targets.records)), CLASSES))
    assert np.allclose(own.log_odds(lambda x: np.tile(sure, (len(x), 1))), np.log(1 / 3e-9))
    assert np.isfinite(own.log_odds(lambda x: np.tile(np.float32([0, 1, 0]), (len(x), 1)))).all()


# The judge


def test_balanced_recall_is_the_mean_over_groups() -> None:
    rng = np.random.default_rng(0)
    group, correct = rng.integers(0, 4, 500), rng.random(500) < 0.3
    naive = sum(sum(c for c, g in zip(correct, group, strict=True) if g == k) / sum(group == k) for k in range(4)) / 4
    found = metrics.balanced_recall(correct, group)
    assert abs(found["value"] - naive) < 1e-12
    assert found["low"] < naive < found["high"]
    alone, plain = metrics.balanced_recall(correct, np.zeros(500, int)), metrics.accuracy(correct)
    assert all(abs(alone[key] - plain[key]) < 1e-12 for key in plain)


def test_intervals_cover_what_they_should() -> None:
    """Of paired guesses with known shares of right ones; a variance of independent ones would be too wide."""
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


def test_a_gain_that_is_as_large_on_holdout_records_is_doubted() -> None:
    data = people(tell=0.0)
    challenge = asked(data)
    baseline = ATTRIBUTE.baseline(challenge, 0)
    right = np.eye(VALUES)[challenge.ground_truth.value]
    with pytest.warns(Caveat, match="learned about the population"):
        ATTRIBUTE.judge(right, baseline, challenge, np.random.default_rng(0))
    own = np.where(challenge.ground_truth.private[:, None], right, baseline)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Caveat)
        found = ATTRIBUTE.judge(own, baseline, challenge, np.random.default_rng(0))
        ATTRIBUTE.judge(baseline, baseline, challenge, np.random.default_rng(0))
    assert found["balanced_accuracy"]["value"] == 1
    assert sigmas(found["gain_over_holdout"]) > SIGMAS


def test_equal_scores_are_a_guess_at_random_and_the_surest_are_the_surest() -> None:
    data = people()
    n = len(asked(data).targets.records)
    baseline = np.ones((n, VALUES))
    assert abs(sigmas(judged(np.zeros((n, VALUES)), data, baseline)["balanced_accuracy"], 1 / VALUES)) < SIGMAS
    truth = asked(data).ground_truth.value
    scores = np.random.default_rng(0).random((n, VALUES))
    scores[::5] += 5 * np.eye(VALUES)[truth[::5]]
    assert judged(scores, data, baseline)["surest_tenth"]["value"] == 1
    for bad in (np.zeros(n), np.zeros((n, VALUES + 1)), np.full((n, VALUES), np.nan), np.full((n, VALUES), "a")):
        with pytest.raises(ValueError, match="expected finite scores"):
            judged(bad, data, baseline)


# Manners


@cache
def player(name: str) -> AttackRuns:
    return AttackRuns(Choice(components().attacks[name]), components())


@pytest.mark.parametrize("check", CHECKS, ids=repr)
@pytest.mark.parametrize("name", ATTACKS)
def test_keeps_the_contract(name: str, check: Check[AttackRuns]) -> None:
    """Each check of the kit; one attack declares no required score (`bench.runner.controls`)."""
    if check is has_a_required_score and name == "art_attribute":
        with pytest.raises(Skip, match="more than chance"):
            check(player(name))
    else:
        assert check(player(name)) == []
    assert components().attacks[name].needs == {"predict"}


@pytest.mark.parametrize("learner", LEARNERS)
def test_every_learner_of_art_works_on_what_anybody_can_see(learner: str) -> None:
    data = people(sizes=(150, 150, 150))
    found = play(attack("art_attribute"), data, knower(data, EVERYBODY), learner=learner)
    assert sigmas(found["gain"]) > SIGMAS


def test_mistakes_are_one_sentence() -> None:
    data = people()
    targets, release = asked(data).targets, released(knower(data, ()))
    with pytest.raises(UserError, match=r"learner=lr\|gb\|dt\|svm, not learner=rf"):
        attack("art_attribute")(release, targets, data.public, seed=0, learner="rf")
    with pytest.raises(UserError, match="no prior 'evn': did you mean 'even'"):
        attack("confidence_attribute")(release, targets, data.public, seed=0, prior="evn")
    one = data.public[np.flatnonzero(data.public.x[:, 3])]
    with pytest.raises(UserError, match="lack a value of hair"):
        attack("art_attribute")(release, targets, one, seed=0)
    assert np.allclose(impute(one, np.zeros(len(one), int), targets.records, VALUES, 0), 1 / VALUES)


def test_art_never_trains_the_model_it_attacks(monkeypatch: pytest.MonkeyPatch) -> None:
    from art.estimators.classification import BlackBoxClassifierNeuralNetwork

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("ART was asked to train")

    for method in ("fit", "fit_generator", "loss_gradient", "class_gradient"):
        monkeypatch.setattr(BlackBoxClassifierNeuralNetwork, method, refuse, raising=False)
    data = people(sizes=(100, 100, 100))
    play(attack("art_attribute"), data, knower(data, ()))
