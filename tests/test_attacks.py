"""Every attack finds what a leaking fake lets out, finds nothing where nothing is, and cannot see or touch the rest."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import leaks
import numpy as np
import pytest
from conftest import components
from dp_accounting import NonPrivateDpEvent
from numpy.typing import NDArray

from attacks.art_membership import INPUTS, LEARNERS
from bench import training
from bench.component import Component
from bench.data import Data, Examples
from bench.errors import Doubt, UserError
from bench.games import MEMBERSHIP, Targets
from bench.release import ACCESS, Release
from bench.store import Store

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


def predictor(data: Data, leak: bool, seed: int = 1) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Sure of the label of every record it knows: with `leak` near 1 for members and 0.5 for others, else at random."""
    everyone = [(part, part is data.private) for part in (data.private, data.holdout)]
    label = {row.tobytes(): (int(y), own) for part, own in everyone for row, y in zip(part.x, part.y, strict=True)}

    def one(row: NDArray[Any]) -> NDArray[Any]:
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(row.tobytes() + bytes([seed])).digest()[:8], "big"))
        y, member = label.get(row.tobytes(), (0, False))
        sure = rng.uniform(0.97, 0.999) if member else rng.uniform(0.45, 0.55)
        sure = sure if leak else rng.uniform(0.4, 0.999)
        out = np.full(CLASSES, (1 - sure) / (CLASSES - 1), np.float32)
        out[y] = sure
        return out

    return lambda x: np.stack([one(row) for row in np.asarray(x, np.float32)])


def fake(attack: Component, data: Data, leak: bool) -> Release:
    """A release of the accesses that the attack needs."""
    again = Release(NonPrivateDpEvent(), predictor(data, leak=False, seed=2), encode=leaks.encoder(data, leak=False))
    make: dict[str, Callable[[], Any]] = {
        "predict": lambda: predictor(data, leak),
        "encode": lambda: leaks.encoder(data, leak),
        "decode": lambda: leaks.decoder(leaks.remembered(data, leak)),
        "generate": lambda: leaks.generator(leaks.remembered(data, leak)),
        "retrain": lambda: lambda *_: again,
    }
    strange = attack.needs - make.keys()
    if strange:
        pytest.fail(f"{attack.name} needs {', '.join(sorted(strange))}: give this module a fake that leaks it")
    return Release(NonPrivateDpEvent(), **{name: make[name]() for name in attack.needs})


def play(attack: Component, function: Attack, leak: bool, seed: int = 0) -> dict[str, Any]:
    data = noise_records(seed)
    challenge = MEMBERSHIP.challenge(data, np.random.default_rng(seed))
    answer = function(fake(attack, data, leak), challenge.targets, challenge.public, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Doubt)  # a mutant is below chance, and the judge says so
        blind = MEMBERSHIP.blind(challenge, seed)
        return dict(MEMBERSHIP.judge(answer, blind, challenge, np.random.default_rng(seed)))


@pytest.fixture(scope="module", autouse=True)
def _remembering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What attacks train on the same public records again and again is trained once."""
    with training.remembering(Store(tmp_path_factory.mktemp("fits"))):
        yield


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

    hidden = {name: Trap() for name in ACCESS - attack.needs}
    everything = replace(fake(attack, data, leak=True), **hidden)
    given = everything.only(attack.needs)
    assert given.published() == attack.needs
    first = attack.function(given, targets, data.public, seed=0)
    rows = np.random.default_rng(3).permutation(len(secret))
    moved = replace(targets, records=targets.records[rows])
    again = attack.function(given, moved, data.public, seed=0)
    assert np.allclose(again, first[rows], rtol=1e-4, atol=1e-5)  # networks sum in float32, in another order


@pytest.mark.parametrize("name", [name for name in ATTACKS if "predict" in components().attacks[name].needs])
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
