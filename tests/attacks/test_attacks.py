"""Every attack finds what a leaking fake lets out, finds nothing where nothing is, and cannot see or touch the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import components
from dp_accounting import NonPrivateDpEvent
from numpy.typing import NDArray

from attacks.art_membership import INPUTS, LEARNERS
from attacks.modified_entropy import entropy_of_truth
from bench.conformance import toy_releases
from bench.conformance.attack_checks import CHECKS, AttackRuns
from bench.conformance.check import Check
from bench.conformance.toy_games import CLASSES, membership, noise_records
from bench.core.component import Choice, Component
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.release import Release
from bench.dp import train as training
from bench.dp.weights_cache import WeightsCache
from bench.games import MEMBERSHIP, Targets, metrics
from bench.games.shadow_models import Shadows, train_shadows
from bench.models.classifier import classify

ATTACKS = sorted(name for name, attack in components().attacks.items() if attack.game is MEMBERSHIP)
Attack = Callable[..., NDArray[Any]]


def attack_of(name: str) -> Component:
    return components().attacks[name]


@cache
def player(name: str) -> AttackRuns:
    """Each attack on the kit's fakes; what several tests look at is answered once."""
    return AttackRuns(Choice(components().attacks[name]), components())


def play(attack: Component, function: Attack, leak: bool) -> dict[str, Any]:
    challenge = membership().challenge
    answer = function(membership().released(attack.needs, leak), challenge.targets, challenge.public, seed=0)
    return membership().judged(answer)


def finds(judged: dict[str, Any]) -> bool:
    return membership().finds(judged)


def finds_nothing(judged: dict[str, Any]) -> bool:
    return membership().finds_nothing(judged)


@pytest.fixture(scope="module", autouse=True)
def _remembering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What attacks train on the same public records again and again is trained once."""
    with training.caching(WeightsCache(tmp_path_factory.mktemp("cache") / "fits")):
        yield


DEFAULT = ("confidence", "nearest_sample", "code_distance", "vae_reconstruction", "rmia")  # one for each access


@pytest.mark.parametrize(
    ("name", "check"),
    [
        pytest.param(name, check, marks=() if name in DEFAULT else pytest.mark.slow, id=f"{name}-{check}")
        for name in ATTACKS
        for check in CHECKS
        if not check.unless(attack_of(name))
    ],
)
def test_keeps_the_contract(name: str, check: Check[AttackRuns]) -> None:
    """Each check of the kit, none of which has nothing to say."""
    assert check(player(name)) == []


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in DEFAULT else pytest.mark.slow) for name in ATTACKS]
)
def test_a_wrong_sign_is_caught(name: str) -> None:
    assert not finds(membership().judged(-player(name).answer_with_leak))


def test_a_threshold_on_wrong_labels_is_caught() -> None:
    attack = components().attacks["confidence"]

    def mutant(release: Release, targets: Targets, public: Examples, *, seed: int) -> NDArray[Any]:
        records = targets.records
        shifted = Examples(records.x, (records.y + 1) % CLASSES, CLASSES)
        return attack.function(release, replace(targets, records=shifted), public, seed=seed)

    assert not finds(play(attack, mutant, leak=True))


def test_a_learner_that_is_told_the_opposite_is_caught() -> None:
    attack = components().attacks["art_membership"]

    def mutant(release: Release, targets: Targets, public: Examples, *, seed: int) -> NDArray[Any]:
        lied_to = replace(targets, known_member=~targets.known_member)
        return attack.function(release, lied_to, public, seed=seed)

    assert not finds(play(attack, mutant, leak=True))


def test_a_learner_scored_on_its_own_fit_is_caught() -> None:
    """What art_membership would read on pure noise if it were fitted on the records it is asked about."""
    attack, data = components().attacks["art_membership"], noise_records()
    challenge = MEMBERSHIP.challenge(data, np.random.default_rng(0))
    targets, ground_truth = challenge.targets, challenge.ground_truth
    own_fit = Targets(targets.records, targets.records, ground_truth)
    answer = attack.function(toy_releases.release(attack.needs, data, leak=False), own_fit, data.public, seed=0)
    judged = dict(MEMBERSHIP.judge(answer, np.zeros(len(ground_truth)), challenge, np.random.default_rng(0)))
    assert judged["auc"]["value"] > 0.98
    assert not finds_nothing(judged)


# art_membership


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
    if (learner, input_type) != ("lr", "prediction"):  # sure of any label: no plane through the predictions says so
        assert judged["auc"]["value"] > 0.9
    again = attack.function(
        toy_releases.release(attack.needs, data, leak=True), targets, data.public, seed=0, **options
    )
    assert np.array_equal(answer, again)


@pytest.mark.parametrize("options", [{"learner": "nn"}, {"learner": "forest"}, {"input_type": "logits"}])
def test_an_unknown_learner_is_one_sentence(options: dict[str, str]) -> None:
    attack, data = components().attacks["art_membership"], noise_records()
    challenge = MEMBERSHIP.challenge(data, np.random.default_rng(0))
    targets = challenge.targets
    with pytest.raises(UserError, match="learner=rf") as caught:
        attack.function(toy_releases.release(attack.needs, data, leak=True), targets, data.public, seed=0, **options)
    assert "\n" not in str(caught.value)


def test_art_never_trains_the_model_it_attacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """ART's estimators train with raw gradients: only `predict` may ever reach the release."""
    from art.estimators.classification import BlackBoxClassifierNeuralNetwork

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("ART was asked to train")

    for name in ("fit", "fit_generator", "loss_gradient", "class_gradient"):
        monkeypatch.setattr(BlackBoxClassifierNeuralNetwork, name, refuse, raising=False)
    attack = components().attacks["art_membership"]
    assert attack.needs == {"predict"}
    assert finds(play(attack, attack.function, leak=True))


# What has options of its own plays by each of them


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
def test_options_keep_the_contract(name: str, options: dict[str, Any]) -> None:
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
def test_an_impossible_option_is_one_sentence(name: str, options: dict[str, Any]) -> None:
    attack, data, challenge = attack_of(name), membership().data, membership().challenge
    with pytest.raises(UserError) as caught:
        attack.function(
            toy_releases.release(attack.needs, data, leak=True), challenge.targets, challenge.public, seed=0, **options
        )
    assert "\n" not in str(caught.value)
    assert str(next(iter(options.values()))).removesuffix(".0") in str(caught.value)


# What is trained is trained by the defense


class NoTraining(WeightsCache):
    """Every training looks for its weights here before it starts."""

    def load(self, key: str) -> Any:
        raise AssertionError("a network was trained beside the defense")


SHADOWED = [name for name in ATTACKS if components().attacks[name].needs >= {"predict", "retrain"}]


@pytest.mark.parametrize("name", SHADOWED)
def test_shadows_are_trained_through_the_defense_alone(name: str, tmp_path: Path) -> None:
    """Where the defense trains no network, the attack does not either; a shadow beside the defense is caught."""
    attack, data, challenge = attack_of(name), membership().data, membership().challenge
    release, made = toy_releases.release(attack.needs, data, leak=True), []

    def spy(private: Examples, seed: int, public: Examples | None = None) -> Release:
        assert release.retrain
        made.append((private, seed, public))
        return release.retrain(private, seed, public)

    targets = challenge.targets
    with training.caching(NoTraining(tmp_path)):
        attack.function(replace(release, retrain=spy), targets, challenge.public, seed=0)
    sizes, seeds = {len(private) for private, _, _ in made}, {seed for _, seed, _ in made}
    assert len(made) >= 4
    assert sizes == {300}  # as many as the release itself was trained on
    assert len(seeds) == len(made)
    assert all(public is None for _, _, public in made)

    def undefended(private: Examples, seed: int, public: Examples | None = None) -> Release:
        return Release(NonPrivateDpEvent(), predict=classify(private, seed).predict)

    with training.caching(NoTraining(tmp_path)), pytest.raises(AssertionError, match="beside the defense"):
        attack.function(replace(release, retrain=undefended), targets, challenge.public, seed=0)


def test_swapped_sides_of_the_shadows_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    attack, train = components().attacks["lira"], train_shadows

    def swapped(*given: Any) -> Shadows:
        trained = train(*given)
        return Shadows(trained.releases, ~trained.inside)

    monkeypatch.setattr("attacks.lira.train_shadows", swapped)
    assert not finds(play(attack, attack.function, leak=True))


# art_label_only


def test_labels_are_all_that_the_label_only_attacks_see() -> None:
    attack, data, challenge = attack_of("art_label_only"), membership().data, membership().challenge
    release = toy_releases.release(attack.needs, data, leak=True)

    def unsure(x: NDArray[Any]) -> NDArray[Any]:
        assert release.predict
        return np.asarray(0.6 * np.eye(CLASSES)[release.predict(x).argmax(1)] + 0.4 / CLASSES)

    for options in ({}, {"rule": "boundary", "iterations": 1, "queries": 10}):
        answers = [
            attack.function(replace(release, predict=predict), challenge.targets, challenge.public, seed=0, **options)
            for predict in (release.predict, unsure)
        ]
        assert np.array_equal(*answers)


def test_the_distance_to_a_boundary_is_the_distance_to_it() -> None:
    """Of a linear model it can be calculated; the search is never nearer, and on average hardly farther."""
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(16) / 4
    parts = [Examples(rng.random((60, 4, 4, 1)), np.zeros(60, int), 2) for _ in range(2)]

    def predict(x: NDArray[Any]) -> NDArray[Any]:
        return np.eye(2)[(np.reshape(x, (len(x), 16)) @ normal > normal.sum() / 2).astype(int)]

    records, known = (replace(part, y=predict(part.x).argmax(1)) for part in parts)
    targets = Targets(records, known, np.arange(60) < 30)
    attack = components().attacks["art_label_only"]
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    found = attack.function(
        Release(NonPrivateDpEvent(), predict=predict), targets, known, seed=0, rule="boundary", iterations=5
    )
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    true = np.abs(records.x.reshape(60, 16) @ normal - normal.sum() / 2) / np.linalg.norm(normal)
    assert (found > true - 1e-3).all()
    assert np.median(found / true) < 1.2


def test_a_label_that_never_changes_is_the_farthest_and_a_wrong_one_the_nearest() -> None:
    attack, challenge = attack_of("art_label_only"), membership().challenge
    release = Release(NonPrivateDpEvent(), predict=lambda x: np.eye(CLASSES)[np.zeros(len(x), int)])
    found = attack.function(release, challenge.targets, challenge.public, seed=0, rule="boundary")
    assert np.array_equal(found, np.where(challenge.targets.records.y == 0, 4.0, 0.0))


# modified_entropy


def test_modified_entropy_is_that_of_its_paper_and_knows_right_from_wrong() -> None:
    p, y = np.random.default_rng(0).dirichlet(np.ones(CLASSES), 50), np.arange(50) % CLASSES
    naive = [
        -(1 - row[label]) * math.log(row[label])
        - sum(row[k] * math.log(1 - row[k]) for k in range(CLASSES) if k != label)
        for row, label in zip(p, y, strict=True)
    ]
    assert np.allclose(entropy_of_truth(p, y), naive)
    sure = np.array([[1.0, 0, 0]])
    right, wrong = (entropy_of_truth(sure, np.array([label]))[0] for label in (0, 1))
    assert right < 1e-20
    assert wrong > 50


def test_a_class_on_which_nobody_is_sure_does_not_hide_its_members() -> None:
    """One class is hard for everybody: by one threshold none of its members is told from the easy class' others."""
    rng = np.random.default_rng(0)
    y, member = np.arange(2000) % 2, np.arange(2000) % 4 < 2
    x = (np.clip(0.5 + 0.3 * (y == 0) + 0.1 * member + 0.03 * rng.standard_normal(2000), 0.01, 0.99))[:, None]
    everyone = Examples(x, y, 2)
    asked, told = np.arange(1000), np.arange(1000, 2000)
    targets = Targets(everyone[asked], everyone[told], member[told])

    def predict(x: NDArray[Any]) -> NDArray[Any]:
        label = [lookup[row.tobytes()] for row in x]
        return np.where(np.arange(2) == np.array(label)[:, None], x, 1 - x)

    lookup = {row.tobytes(): label for row, label in zip(everyone.x, y, strict=True)}
    attack = components().attacks["modified_entropy"]
    apart, alike = (
        metrics.auc(
            attack.function(Release(NonPrivateDpEvent(), predict=predict), targets, told, seed=0, by_class=by_class),
            member[asked],
        )["value"]
        for by_class in (True, False)
    )
    assert apart > 0.95
    assert alike < 0.85
