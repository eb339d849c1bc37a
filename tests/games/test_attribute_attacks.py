"""Attribute attacks find memorised attributes and nothing else, and meet the contract of attacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from attribute_plays import arrays_of, challenged, judged, play, released
from conftest import components
from numpy.typing import NDArray

from attacks.art_attribute import LEARNERS
from attacks.confidence_attribute import PRIORS
from bench.conformance.attack_checks import CHECKS, AttackRuns, has_a_required_score
from bench.conformance.check import Check, Skip
from bench.conformance.toy_games import CLASSES, EVERYBODY, SIGMAS, VALUES, people, sigmas
from bench.conformance.toy_releases import knower
from bench.core.component import Choice
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.release import Release
from bench.games import ATTRIBUTE, AttributeTargets
from bench.models.attribute_imputer import impute

ATTACKS = sorted(name for name, attack in components().attacks.items() if attack.game is ATTRIBUTE)


def attack(name: str) -> Callable[..., Any]:
    return components().attacks[name].function


@pytest.mark.parametrize("width", [3, 1])
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_beats_the_imputer_if_the_model_memorised_the_attribute(name: str, width: int) -> None:
    data = people(width=width)
    found = play(attack(name), data, knower(data, EVERYBODY))
    assert min(sigmas(found["gain"]), sigmas(found["balanced_accuracy"], found["chance"])) > SIGMAS
    assert found["balanced_accuracy"]["value"] > 0.8
    assert abs(sigmas(found["gain_over_holdout"])) < SIGMAS, "the model leaks private records more than holdout records"


def test_memorised_private_records_give_a_gain_over_holdout() -> None:
    data = people()
    found = play(attack("confidence_attribute"), data, knower(data, ("private",)))
    assert min(sigmas(found["gain"]), sigmas(found["gain_over_holdout"])) > SIGMAS
    assert abs(sigmas(found["holdout"], 1 / VALUES)) < SIGMAS


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("model", ["random", "constant", "null_data"])
def test_an_attack_has_no_gain_if_nothing_is_memorised(name: str, model: str) -> None:
    data = people(seed=1)
    predict = {
        "random": knower(data, ()),
        "constant": lambda x: np.full((len(x), CLASSES), 1 / CLASSES, np.float32),
        "null_data": knower(people(seed=99), EVERYBODY),
    }[model]
    found = play(attack(name), data, predict)
    for estimate, zero in (("gain", 0), ("gain_over_holdout", 0), ("balanced_accuracy", 1 / VALUES)):
        assert abs(sigmas(found[estimate], zero)) < SIGMAS


@pytest.mark.parametrize(
    "prior", [pytest.param(prior, marks=() if prior == "imputed" else pytest.mark.slow) for prior in PRIORS]
)
def test_an_overfitted_model_leaks_the_attributes_of_its_training_records(prior: str) -> None:
    """A network trained on random labels can only memorise the records."""
    from bench.models.classifier import classify, standard

    data = people(seed=2, sizes=(450, 450, 450))
    recipe = standard(data.private, hidden=(128,), steps=2500, batch_size=100, learning_rate=0.003)
    trained = classify(data.private, 0, recipe)
    found = play(attack("confidence_attribute"), data, trained.predict, prior=prior, weight=1.0)
    assert min(sigmas(found["gain"]), sigmas(found["gain_over_holdout"])) > SIGMAS
    null_data = play(attack("confidence_attribute"), people(seed=3), trained.predict, prior=prior, weight=1.0)
    assert abs(sigmas(null_data["gain_over_holdout"])) < SIGMAS


@pytest.mark.parametrize("name", ATTACKS)
def test_the_prior_is_used_if_other_features_determine_the_attribute(name: str) -> None:
    """Against a constant model an attack is an imputer: its accuracy is close to that of the baseline."""
    data = people(tell=0.9)
    constant = play(attack(name), data, lambda x: np.full((len(x), CLASSES), 1 / CLASSES, np.float32))
    assert sigmas(constant["baseline"], 1 / VALUES) > SIGMAS
    assert sigmas(constant["balanced_accuracy"], 1 / VALUES) > SIGMAS
    assert constant["gain"]["value"] > -0.05


@pytest.mark.parametrize("name", ATTACKS)
def test_inverted_scores_fail(name: str) -> None:
    data = people()
    found = play(lambda *a, **k: -attack(name)(*a, **k), data, knower(data, EVERYBODY))
    assert sigmas(found["gain"]) < SIGMAS


def test_confidence_in_wrong_labels_fails() -> None:
    data = people()

    def mutant(release: Release, targets: AttributeTargets, public: Examples, *, seed: int) -> NDArray[Any]:
        wrong = Examples(targets.records.x, (targets.records.y + 1) % CLASSES, CLASSES)
        return attack("confidence_attribute")(release, replace(targets, records=wrong), public, seed=seed)

    assert sigmas(play(mutant, data, knower(data, ("private",)))["gain"]) < SIGMAS


@pytest.mark.parametrize("learner", ["dt", pytest.param("gb", marks=pytest.mark.slow)])
def test_a_learner_fitted_on_the_targets_would_gain_on_noise(learner: str) -> None:
    """The mutant: art_attribute fitted on the target records."""
    data = people(seed=1)
    x, y = (np.concatenate(arrays) for arrays in zip(*(arrays_of(data, name) for name in EVERYBODY), strict=True))
    release, targets = released(knower(data, ())), challenged(data).targets
    answer = attack("art_attribute")(release, targets, Examples(x, y, CLASSES), seed=0, learner=learner)
    assert sigmas(judged(answer, data)["gain"]) > SIGMAS
    honest = attack("art_attribute")(release, targets, data.public, seed=0, learner=learner)
    assert abs(sigmas(judged(honest, data)["gain"])) < SIGMAS


@cache
def runs_of(name: str) -> AttackRuns:
    return AttackRuns(Choice(components().attacks[name]), components())


@pytest.mark.parametrize("check", CHECKS, ids=repr)
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_meet_the_contract(name: str, check: Check[AttackRuns]) -> None:
    """Runs each conformance check; one attack declares no required score (`bench.runner.controls`)."""
    if check is has_a_required_score and name == "art_attribute":
        with pytest.raises(Skip, match="more than chance"):
            check(runs_of(name))
    else:
        assert check(runs_of(name)) == []
    assert components().attacks[name].needs == {"predict"}


@pytest.mark.parametrize("learner", LEARNERS)
def test_every_learner_of_art_finds_memorised_attributes(learner: str) -> None:
    data = people(sizes=(150, 150, 150))
    found = play(attack("art_attribute"), data, knower(data, EVERYBODY), learner=learner)
    assert sigmas(found["gain"]) > SIGMAS


def test_mistakes_are_refused_in_one_sentence() -> None:
    data = people()
    targets, release = challenged(data).targets, released(knower(data, ()))
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
        raise AssertionError("ART trained the model")

    for method in ("fit", "fit_generator", "loss_gradient", "class_gradient"):
        monkeypatch.setattr(BlackBoxClassifierNeuralNetwork, method, refuse, raising=False)
    data = people(sizes=(100, 100, 100))
    play(attack("art_attribute"), data, knower(data, ()))
