"""Membership attacks find the leak of a toy release and nothing without one; shadows are trained by the defense."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cached_trainings import cached_trainings  # noqa: F401 - an autouse fixture
from conftest import components
from dp_accounting import NonPrivateDpEvent
from membership_plays import ATTACKS, attack_of, finds, finds_nothing, play, runs_of
from numpy.typing import NDArray

from bench.conformance import toy_releases
from bench.conformance.attack_checks import CHECKS, AttackRuns
from bench.conformance.check import Check
from bench.conformance.toy_games import CLASSES, membership, noise_records
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.release import Release
from bench.dp import train as training
from bench.dp.weights_cache import WeightsCache
from bench.games import MEMBERSHIP, Targets
from bench.games.shadow_models import Shadows, train_shadows
from bench.models.classifier import classify

DEFAULT = ("confidence", "nearest_sample", "code_distance", "vae_reconstruction", "rmia")  # one per access


@pytest.mark.parametrize(
    ("name", "check"),
    [
        pytest.param(name, check, marks=() if name in DEFAULT else pytest.mark.slow, id=f"{name}-{check}")
        for name in ATTACKS
        for check in CHECKS
        if not check.unless(attack_of(name))
    ],
)
def test_attacks_meet_the_contract(name: str, check: Check[AttackRuns]) -> None:
    """Runs each conformance check that applies."""
    assert check(runs_of(name)) == []


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in DEFAULT else pytest.mark.slow) for name in ATTACKS]
)
def test_inverted_scores_fail(name: str) -> None:
    assert not finds(membership().judged(-runs_of(name).answer_with_leak))


def test_a_threshold_on_wrong_labels_fails() -> None:
    attack = components().attacks["confidence"]

    def mutant(release: Release, targets: Targets, public: Examples, *, seed: int) -> NDArray[Any]:
        records = targets.records
        shifted = Examples(records.x, (records.y + 1) % CLASSES, CLASSES)
        return attack.function(release, replace(targets, records=shifted), public, seed=seed)

    assert not finds(play(attack, mutant, leak=True))


def test_a_learner_with_inverted_known_membership_fails() -> None:
    attack = components().attacks["art_membership"]

    def mutant(release: Release, targets: Targets, public: Examples, *, seed: int) -> NDArray[Any]:
        inverted = replace(targets, known_member=~targets.known_member)
        return attack.function(release, inverted, public, seed=seed)

    assert not finds(play(attack, mutant, leak=True))


def test_a_learner_scored_on_its_training_records_would_gain_on_noise() -> None:
    """The mutant: art_membership fitted on the target records."""
    attack, data = components().attacks["art_membership"], noise_records()
    challenge = MEMBERSHIP.challenge(data, np.random.default_rng(0))
    targets, ground_truth = challenge.targets, challenge.ground_truth
    on_targets = Targets(targets.records, targets.records, ground_truth)
    answer = attack.function(toy_releases.release(attack.needs, data, leak=False), on_targets, data.public, seed=0)
    judged = dict(MEMBERSHIP.judge(answer, np.zeros(len(ground_truth)), challenge, np.random.default_rng(0)))
    assert judged["auc"]["value"] > 0.98
    assert not finds_nothing(judged)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("modified_entropy", {"by_class": False}),
        ("art_label_only", {"rule": "boundary", "iterations": 1, "queries": 10}),
        ("lira", {"shadows": 4}),
        pytest.param("lira", {"shadows": 64}, marks=pytest.mark.slow),
        ("lira", {"online": False}),
        pytest.param("rmia", {"references": 1}, marks=pytest.mark.slow),
        ("rmia", {"references": 4, "online": True}),
    ],
)
def test_options_meet_the_contract(name: str, options: dict[str, Any]) -> None:
    attack = components().attacks[name]
    function = partial(attack.function, **options)
    assert finds(play(attack, function, leak=True))
    assert finds_nothing(play(attack, function, leak=False))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("art_label_only", {"rule": "line"}),
        ("art_label_only", {"queries": 0}),
        ("lira", {"shadows": 1}),
        ("rmia", {"references": 0}),
        ("rmia", {"gamma": 0.0}),
        ("rmia", {"a": 1.5}),
    ],
)
def test_an_option_out_of_range_is_refused_in_one_sentence(name: str, options: dict[str, Any]) -> None:
    attack, data, challenge = attack_of(name), membership().data, membership().challenge
    with pytest.raises(UserError) as caught:
        attack.function(
            toy_releases.release(attack.needs, data, leak=True), challenge.targets, challenge.public, seed=0, **options
        )
    assert "\n" not in str(caught.value)
    assert str(next(iter(options.values()))).removesuffix(".0") in str(caught.value)


class NoTraining(WeightsCache):
    """A cache that fails on every training, which looks for its weights here first."""

    def load(self, key: str) -> Any:
        raise AssertionError("a network was trained without the defense")


SHADOWED = [name for name in ATTACKS if components().attacks[name].needs >= {"predict", "retrain"}]


@pytest.mark.parametrize("name", SHADOWED)
def test_shadows_are_trained_by_the_defense_only(name: str, tmp_path: Path) -> None:
    """If the defense trains no network, nor does the attack; a shadow trained without the defense fails."""
    attack, data, challenge = attack_of(name), membership().data, membership().challenge
    release, made = toy_releases.release(attack.needs, data, leak=True), []

    def recorded(private: Examples, seed: int, public: Examples | None = None) -> Release:
        assert release.retrain
        made.append((private, seed, public))
        return release.retrain(private, seed, public)

    targets = challenge.targets
    with training.caching(NoTraining(tmp_path)):
        attack.function(replace(release, retrain=recorded), targets, challenge.public, seed=0)
    sizes, seeds = {len(private) for private, _, _ in made}, {seed for _, seed, _ in made}
    assert len(made) >= 4
    assert sizes == {300}  # the number of records that the release was trained on
    assert len(seeds) == len(made)
    assert all(public is None for _, _, public in made)

    def undefended(private: Examples, seed: int, public: Examples | None = None) -> Release:
        return Release(NonPrivateDpEvent(), predict=classify(private, seed).predict)

    with training.caching(NoTraining(tmp_path)), pytest.raises(AssertionError, match="without the defense"):
        attack.function(replace(release, retrain=undefended), targets, challenge.public, seed=0)


def test_inverted_membership_of_the_shadows_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    attack, train = components().attacks["lira"], train_shadows

    def inverted(*arguments: Any) -> Shadows:
        trained = train(*arguments)
        return Shadows(trained.releases, ~trained.inside)

    monkeypatch.setattr("attacks.lira.train_shadows", inverted)
    assert not finds(play(attack, attack.function, leak=True))
