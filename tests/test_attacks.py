"""Every attack finds what a leaking fake lets out, finds nothing where nothing is, and cannot see or touch the rest."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import components
from dp_accounting import NonPrivateDpEvent
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from attacks.art_membership import INPUTS, LEARNERS
from bench.component import Component
from bench.data import Data, Examples
from bench.errors import Doubt, UserError
from bench.games import MEMBERSHIP, Targets
from bench.release import Release

ATTACKS = sorted(name for name, attack in components().attacks.items() if attack.game is MEMBERSHIP)
SIGMAS = 4.7534  # one-sided 1e-6
CLASSES = 3
Attack = Callable[..., NDArray[Any]]


def noise_records(seed: int = 0, size: int = 300) -> Data:
    """Records of pure noise: nothing but the release tells who is a member."""
    rng = np.random.default_rng(seed)
    sizes = (size, size, 60)
    parts = (Examples(rng.random((n, 4, 4, 1), np.float32), rng.integers(0, CLASSES, n), CLASSES) for n in sizes)
    return Data("noise", *parts)


def predictor(
    data: Data, leak: bool, seed: int = 1, members: Examples | None = None
) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """What it says of the nearest record it knows: with `leak` near 1 for a member's label and wrong of others.

    Without `leak` it is right of all, and as sure as it comes.
    """
    everyone = [data.private, data.holdout, data.public]
    x, y = (np.concatenate([getattr(part, name) for part in everyone]) for name in "xy")
    inside = {row.tobytes() for row in (data.private if members is None else members).x}
    member, rng = np.array([row.tobytes() in inside for row in x]), np.random.default_rng(seed)
    sure = np.where(member, rng.uniform(0.97, 0.999, len(x)), rng.uniform(0.45, 0.55, len(x)))
    sure = (sure if leak else rng.uniform(0.4, 0.999, len(x))).astype(np.float32)
    answers = np.repeat((1 - sure[:, None]) / (CLASSES - 1), CLASSES, 1)
    answers[np.arange(len(x)), np.where(member | (not leak), y, (y + 1) % CLASSES)] = sure
    table = x.reshape(len(x), -1)
    return lambda asked: answers[cdist(np.asarray(asked).reshape(len(asked), -1), table).argmin(1)]


def fake(attack: Component, data: Data, leak: bool) -> Release:
    """A release of the accesses that the attack needs."""
    strange = attack.needs - {"predict", "retrain"}
    if strange:
        pytest.fail(f"{attack.name} needs {', '.join(sorted(strange))}: give this module a fake that leaks it")

    def retrain(private: Examples, seed: int, public: Examples | None = None) -> Release:
        return Release(NonPrivateDpEvent(), predictor(data, leak, seed, private))

    made: dict[str, Any] = {"predict": predictor(data, leak), "retrain": retrain}
    return Release(NonPrivateDpEvent(), **{name: made[name] for name in attack.needs})


def play(attack: Component, function: Attack, leak: bool, seed: int = 0) -> dict[str, Any]:
    data = noise_records(seed)
    challenge = MEMBERSHIP.challenge(data, np.random.default_rng(seed))
    answer = function(fake(attack, data, leak), challenge.targets, challenge.public, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Doubt)  # a mutant is below chance, and the judge says so
        blind = MEMBERSHIP.blind(challenge, seed)
        return dict(MEMBERSHIP.judge(answer, blind, challenge, np.random.default_rng(seed)))


def sigmas(figure: dict[str, float], zero: float) -> float:
    return (figure["value"] - zero) / figure["se"] if figure["se"] else 0.0


def finds(judged: dict[str, Any]) -> bool:
    """Beats chance and the blind answer, each at 1e-6."""
    return min(sigmas(judged["auc"], 0.5), sigmas(judged["gain"], 0)) > SIGMAS and judged["auc"]["value"] > 0.9


def finds_nothing(judged: dict[str, Any]) -> bool:
    """Neither beats chance nor the blind answer at 1e-6; and what is noise is not far above chance in value."""
    return max(sigmas(judged["auc"], 0.5), sigmas(judged["gain"], 0)) < SIGMAS and judged["auc"]["value"] < 0.65


@pytest.mark.parametrize("name", ATTACKS)
def test_beats_the_blind_answer_on_a_fake_that_leaks_everything(name: str) -> None:
    attack = components().attacks[name]
    assert finds(play(attack, attack.function, leak=True))


@pytest.mark.parametrize("name", ATTACKS)
def test_gains_nothing_on_a_fake_that_leaks_nothing(name: str) -> None:
    attack = components().attacks[name]
    assert finds_nothing(play(attack, attack.function, leak=False))


@pytest.mark.parametrize("name", ATTACKS)
def test_a_wrong_sign_is_caught(name: str) -> None:
    attack = components().attacks[name]
    assert not finds(play(attack, lambda *a, **k: -attack.function(*a, **k), leak=True))


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
    targets, secret = challenge.targets, challenge.secret
    own_fit = Targets(targets.records, targets.records, secret)
    answer = attack.function(fake(attack, data, leak=False), own_fit, data.public, seed=0)
    judged = dict(MEMBERSHIP.judge(answer, np.zeros(len(secret)), challenge, np.random.default_rng(0)))
    assert judged["auc"]["value"] > 0.98
    assert not finds_nothing(judged)


@pytest.mark.parametrize("name", ATTACKS)
def test_one_score_a_target_and_the_same_one_again(name: str) -> None:
    attack, data = components().attacks[name], noise_records()
    challenge = MEMBERSHIP.challenge(data, np.random.default_rng(0))
    targets = challenge.targets
    arrays = [targets.records.x, targets.records.y, targets.known.x, targets.known.y, targets.known_member]
    before = [array.copy() for array in arrays]
    release = fake(attack, data, leak=False)
    first = attack.function(release.only(attack.needs), targets, data.public, seed=2**62)
    assert first.shape == (len(targets.records),)
    assert first.dtype.kind == "f"
    assert np.isfinite(first).all()
    np.random.seed(5)  # noqa: NPY002 - an attack that drew from the global state would show
    assert np.array_equal(attack.function(release.only(attack.needs), targets, data.public, seed=2**62), first)
    assert all(np.array_equal(array, old) for array, old in zip(arrays, before, strict=True))


@pytest.mark.parametrize("name", ATTACKS)
def test_sees_nothing_but_records_and_the_accesses_it_declared(name: str) -> None:
    """The answer is the same whatever else was published, and neither the secret nor its order is in the arguments."""
    attack, data = components().attacks[name], noise_records()
    challenge = MEMBERSHIP.challenge(data, np.random.default_rng(0))
    targets, secret = challenge.targets, challenge.secret

    class Trap:
        def __getattr__(self, what: str) -> Any:
            raise AssertionError(f"{name} reached for {what}")

        __call__ = __getattr__

    everything = replace(fake(attack, data, leak=True), model=Trap(), decode=Trap(), join=Trap())
    given = everything.only(attack.needs)
    assert given.published() == attack.needs
    first = attack.function(given, targets, data.public, seed=0)
    rows = np.random.default_rng(3).permutation(len(secret))
    moved = replace(targets, records=targets.records[rows])
    assert np.allclose(attack.function(given, moved, data.public, seed=0), first[rows])


@pytest.mark.parametrize("name", ATTACKS)
def test_certain_answers_of_a_release_stay_finite(name: str) -> None:
    """Probabilities of exactly 0 and 1, and the same answer for everyone."""
    attack, data = components().attacks[name], noise_records()
    challenge = MEMBERSHIP.challenge(data, np.random.default_rng(0))
    targets = challenge.targets
    for row in ([1.0, 0.0, 0.0], [1 / 3] * 3):
        release = replace(
            fake(attack, data, leak=False), predict=lambda x, row=row: np.tile(np.float32(row), (len(x), 1))
        )
        answer = attack.function(release.only(attack.needs), targets, data.public, seed=0)
        assert np.isfinite(answer).all()


# art_membership


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("input_type", INPUTS)
def test_every_learner_works(learner: str, input_type: str) -> None:
    attack, data = components().attacks["art_membership"], noise_records(size=120)
    challenge = MEMBERSHIP.challenge(data, np.random.default_rng(0))
    targets, secret = challenge.targets, challenge.secret
    options = {"learner": learner, "input_type": input_type}
    answer = attack.function(fake(attack, data, leak=True), targets, data.public, seed=0, **options)
    assert answer.shape == secret.shape
    judged = MEMBERSHIP.judge(answer, np.zeros(len(secret)), challenge, np.random.default_rng(0))
    if (learner, input_type) != ("lr", "prediction"):  # sure of any label: no plane through the predictions says so
        assert judged["auc"]["value"] > 0.9
    again = attack.function(fake(attack, data, leak=True), targets, data.public, seed=0, **options)
    assert np.array_equal(answer, again)


@pytest.mark.parametrize("options", [{"learner": "nn"}, {"learner": "forest"}, {"input_type": "logits"}])
def test_an_unknown_learner_is_one_sentence(options: dict[str, str]) -> None:
    attack, data = components().attacks["art_membership"], noise_records()
    challenge = MEMBERSHIP.challenge(data, np.random.default_rng(0))
    targets = challenge.targets
    with pytest.raises(UserError, match="learner=rf") as caught:
        attack.function(fake(attack, data, leak=True), targets, data.public, seed=0, **options)
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
