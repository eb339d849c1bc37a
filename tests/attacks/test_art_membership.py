"""The attack art_membership: every learner works, and ART never trains the attacked model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cached_trainings import cached_trainings  # noqa: F401 - an autouse fixture
from conftest import components
from membership_plays import finds, play

from attacks.art_membership import INPUTS, LEARNERS
from bench.conformance import toy_releases
from bench.conformance.toy_games import noise_records
from bench.core.errors import UserError
from bench.games import MEMBERSHIP

PAIRS = [(learner, input_type) for learner in LEARNERS for input_type in INPUTS]


@pytest.mark.parametrize(
    ("learner", "input_type"),
    [
        pytest.param(*pair, marks=() if pair in (("rf", "prediction"), ("lr", "loss")) else pytest.mark.slow)
        for pair in PAIRS
    ],
)
def test_every_learner_works(learner: str, input_type: str) -> None:
    attack, data = components().attacks["art_membership"], noise_records(size=120)
    challenge = MEMBERSHIP.challenge(data, np.random.default_rng(0))
    targets, ground_truth = challenge.targets, challenge.ground_truth
    options = {"learner": learner, "input_type": input_type}
    answer = attack.function(
        toy_releases.release(attack.needs, data, leak=True), targets, data.public, seed=0, **options
    )
    assert answer.shape == ground_truth.shape
    judged = MEMBERSHIP.judge(answer, np.zeros(len(ground_truth)), challenge, np.random.default_rng(0))
    if (learner, input_type) != ("lr", "prediction"):  # overconfident for any label: not linearly separable
        assert judged["auc"]["value"] > 0.9
    again = attack.function(
        toy_releases.release(attack.needs, data, leak=True), targets, data.public, seed=0, **options
    )
    assert np.array_equal(answer, again)


@pytest.mark.parametrize("options", [{"learner": "nn"}, {"learner": "forest"}, {"input_type": "logits"}])
def test_an_unknown_learner_is_refused_in_one_sentence(options: dict[str, str]) -> None:
    attack, data = components().attacks["art_membership"], noise_records()
    challenge = MEMBERSHIP.challenge(data, np.random.default_rng(0))
    targets = challenge.targets
    with pytest.raises(UserError, match="learner=rf") as caught:
        attack.function(toy_releases.release(attack.needs, data, leak=True), targets, data.public, seed=0, **options)
    assert "\n" not in str(caught.value)


def test_art_never_trains_the_model_it_attacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """ART's estimators train with raw gradients: only `predict` may be called on the release."""
    from art.estimators.classification import BlackBoxClassifierNeuralNetwork

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("ART trained the model")

    for name in ("fit", "fit_generator", "loss_gradient", "class_gradient"):
        monkeypatch.setattr(BlackBoxClassifierNeuralNetwork, name, refuse, raising=False)
    attack = components().attacks["art_membership"]
    assert attack.needs == {"predict"}
    assert finds(play(attack, attack.function, leak=True))
