"""Inversion attacks reconstruct recognisable records of an undefended model, and none of a model of random labels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from cached_trainings import cached_trainings  # noqa: F401 - an autouse fixture
from conftest import components
from dp_accounting import NoOpDpEvent
from numpy.typing import NDArray

from bench.conformance.attack_checks import (
    SHORT_OPTIONS,
    AttackRuns,
    answers_in_form,
    modifies_no_input,
    same_seed_same_answer,
)
from bench.conformance.check import Check
from bench.core.component import Choice, Component
from bench.core.dataset import DataLocation, Examples, Split
from bench.core.errors import Caveat, UserError
from bench.core.game import Challenge
from bench.core.release import Release
from bench.dp import networks
from bench.games import INVERSION, InversionTargets
from bench.models import evaluation_network

ATTACKS = sorted(name for name, attack in components().attacks.items() if attack.game is INVERSION)
SHORTER: dict[str, dict[str, Any]] = {"mi_face": {"steps": 40}, "generator_inversion": {"generator_steps": 1000}}
VARIANTS = [
    *((name, SHORTER.get(name, {})) for name in ATTACKS),
    ("decoder", {"method": "searched", "steps": 200}),
    ("black_box_inversion", {"method": "finite_differences", "steps": 100}),
]
QUICKEST = [pytest.param(name, marks=() if name == "decoder" else pytest.mark.slow) for name in ATTACKS]
REQUIRED = 0.8  # chance recognises this share of ten classes with probability 4e-7


def attack_of(name: str) -> Component:
    return components().attacks[name]


def quick(attack: Component) -> dict[str, Any]:
    return {name: value for name, value in SHORT_OPTIONS.items() if name in attack.options}


@cache
def split() -> Split:
    data: Split = components().data["digits"].function(DataLocation(), np.random.default_rng(0))
    return data


@cache
def challenge(of: str = "private") -> Challenge:
    return INVERSION.challenge(split(), np.random.default_rng(1), of)


@cache
def trained(defense: str, labels: str = "true") -> Release:
    """The undefended release on digits; "random" labels are permuted."""
    data = split()
    private, public = data.private, data.public
    if labels == "random":
        private, public = (
            Examples(part.x, np.random.default_rng(4).permutation(part.y), part.classes) for part in (private, public)
        )
    options: dict[str, Any] = {"dp_augm": {"epsilon": float("inf")}, "federated": {"rounds": 10}}.get(defense, {})
    found: Release = components().defenses[defense].function(private, public, seed=1, **options)
    return found


def release(attack: Component, labels: str = "true") -> Release:
    """The undefended release, with the accesses that the attack requires."""
    defense = "dp_augm" if "encode" in attack.needs else "federated" if "updates" in attack.needs else "none"
    return trained(defense, labels).only(attack.needs)


@pytest.fixture(scope="module", autouse=True)
def released_models() -> Iterator[None]:
    """Frees the cached releases: TensorFlow warns of functions that outlive it."""
    yield
    trained.cache_clear()
    runs_of.cache_clear()


def play(attack: Component, found: Release, game: Challenge, **options: Any) -> NDArray[Any]:
    answer: NDArray[Any] = attack.function(
        found, INVERSION.targets_visible(game, found), game.public, seed=3, **options
    )
    return answer


def judged(answer: NDArray[Any], game: Challenge) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Caveat)
        baseline = INVERSION.baseline(game, 0)
        return dict(INVERSION.judge(answer, baseline, game, np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("name", "options"),
    [pytest.param(*one, marks=() if one[0] == "gradient_inversion" else pytest.mark.slow) for one in VARIANTS],
)
def test_records_of_undefended_models_are_recognised_and_null_ones_are_not(name: str, options: dict[str, Any]) -> None:
    """Positive and null control, and a mutant with answers for other labels."""
    attack = attack_of(name)
    answer = play(attack, release(attack), challenge(), **options)
    assert judged(answer, challenge())["recognition"]["value"] >= REQUIRED
    assert judged(np.roll(answer, 1, axis=0), challenge())["recognition"]["value"] < REQUIRED / 2
    if name == "decoder":  # it uses no label: its null control has the embeddings of other records
        targets = INVERSION.targets_visible(challenge(), release(attack))
        others = replace(targets, codes=np.roll(targets.codes, 1, axis=0))
        null = attack.function(release(attack), others, challenge().public, seed=3, **options)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Caveat)
            null = play(attack, release(attack, "random"), challenge(), **options)
    assert judged(null, challenge())["recognition"]["value"] < REQUIRED / 2


@pytest.mark.slow
def test_unseen_classes_are_recognised() -> None:
    """The baseline has no records of these classes, so the gain comes from the model."""
    game = challenge("unseen")
    attack = attack_of("gradient_inversion")
    found = judged(play(attack, release(attack), game), game)
    assert found["baseline"]["value"] <= 0.2
    assert found["gain"]["low"] > 0


def test_a_decoder_reconstructs_the_target_record() -> None:
    """More similar to the true record than the baseline is."""
    attack = attack_of("decoder")
    found = judged(play(attack, release(attack), challenge()), challenge())
    assert found["ssim_gain"]["low"] > 0
    assert found["ssim"]["value"] > 0.8


@pytest.mark.slow
def test_a_judge_trained_on_the_attacked_records_would_accept_the_null_control() -> None:
    """The mutant: the evaluation network is trained on the attacked records and random labels."""
    game, data = challenge(), split()
    attack = attack_of("gradient_inversion")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Caveat)
        null = play(attack, release(attack, "random"), game)
    relabelled = Examples(data.private.x, np.random.default_rng(4).permutation(data.private.y), 10)
    attacked = trained("none", "random").predict
    assert attacked is not None
    learned = evaluation_network.evaluation_network(relabelled, 5, steps=400)
    honest = judged(null, game)["recognition"]["value"]
    for mutant in (attacked, learned):
        assert (mutant(null).argmax(1) == game.targets.labels).mean() > honest + 0.15


# Contracts
@cache
def runs_of(name: str) -> AttackRuns:
    return AttackRuns(Choice(attack_of(name)), components())


@pytest.mark.parametrize("check", [answers_in_form, same_seed_same_answer, modifies_no_input], ids=repr)
@pytest.mark.parametrize("name", QUICKEST)
def test_attacks_meet_the_contract(name: str, check: Check[AttackRuns]) -> None:
    """The conformance checks that use no toy release, with the declared accesses only."""
    assert check(runs_of(name)) == []


@pytest.mark.parametrize(
    "name",
    [
        "decoder",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ATTACKS if name not in ("decoder", "mi_face")),
    ],
)  # mi_face does not depend on the seed: its starts are fixed
def test_another_seed_gives_other_pictures(name: str) -> None:
    assert not np.array_equal(runs_of(name).play(leak=False, seed=1), runs_of(name).answer_without_leak)


@pytest.mark.parametrize("name", QUICKEST)
def test_colour_pictures_of_any_size_are_supported(name: str) -> None:
    """Pictures that are neither grey nor square, and a class without public records."""
    from tensorflow import keras

    rng = np.random.default_rng(0)
    shape, labels = (9, 14, 3), np.array([0, 2, 3])
    public = Examples(rng.random((30, *shape), np.float32), rng.integers(0, 3, 30), 4)
    encoder = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(5, "tanh")])
    model = networks.chained(encoder, keras.Sequential([keras.Input((5,)), keras.layers.Dense(4)]))
    rounds = components().defenses["federated"].function(public, public, seed=0, rounds=2, local_steps=2, clients=2)
    predict = networks.mapping(model, after="softmax")
    everything = Release(
        NoOpDpEvent(), predict=predict, model=model, encode=networks.published(encoder), updates=rounds.updates
    )
    attack = attack_of(name)
    targets = InversionTargets(labels, shape, 4, rng.random((3, 5), np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Caveat)
        answer = attack.function(everything.only(attack.needs), targets, public, seed=0, **quick(attack))
    assert answer.shape == (3, *shape)
    assert ((answer >= 0) & (answer <= 1)).all()


@pytest.mark.parametrize("method", ["trained", pytest.param("finite_differences", marks=pytest.mark.slow)])
def test_a_constant_model_leaks_nothing_and_the_attack_has_a_caveat(method: str) -> None:
    attack, game = attack_of("black_box_inversion"), challenge()
    constant = Release(NoOpDpEvent(), predict=lambda x: np.full((len(x), 10), 0.1, np.float32))
    with pytest.warns(Caveat, match=r"wanted class only 0\.10"):
        answer = play(attack, constant, game, method=method, steps=20)
    assert judged(answer, game)["recognition"]["value"] < REQUIRED / 2


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("decoder", {"method": "guess"}, "method=trained"),
        ("black_box_inversion", {"method": "nes"}, "method=trained"),
        ("gradient_inversion", {"steps": 0}, "at least 1"),
        ("gradient_inversion", {"starts": 0}, "at least 1"),
        ("mi_face", {"learning_rate": 0.0}, "above 0"),
    ],
)
def test_an_option_out_of_range_is_refused_in_one_sentence(name: str, option: dict[str, Any], message: str) -> None:
    attack = attack_of(name)
    with pytest.raises(UserError, match=message) as caught:
        play(attack, release(attack), challenge(), **option)
    assert "\n" not in str(caught.value)


# One by one
def test_art_does_not_train_the_model_and_runs_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threshold of its stop rule is out of reach; with a reachable one the search would end while it improves."""
    from art.attacks.inference.model_inversion import MIFace
    from art.estimators.classification import TensorFlowV2Classifier

    calls: list[int] = []
    original = TensorFlowV2Classifier.class_gradient

    def recorded(self: Any, x: Any, *rest: Any, **more: Any) -> Any:
        calls.append(len(x))
        return original(self, x, *rest, **more)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("ART trained the model")

    monkeypatch.setattr(TensorFlowV2Classifier, "class_gradient", recorded)
    monkeypatch.setattr(TensorFlowV2Classifier, "fit", refuse)
    attack = attack_of("mi_face")
    play(attack, release(attack), challenge(), steps=12)
    assert calls == [12] * 12 * 10  # four pictures per class, three starts each, all steps of all classes

    init = MIFace.__init__
    monkeypatch.setattr(MIFace, "__init__", lambda self, *args, **more: init(self, *args[:3], 0.2, *args[4:], **more))
    calls.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Caveat)
        play(attack, release(attack), challenge(), steps=12)
    assert len(calls) < 120 or min(calls) < 12


@pytest.mark.slow
def test_the_adaptive_attack_optimises_pictures_through_the_encoder() -> None:
    """Its pictures are classified with confidence; embeddings optimised directly need not belong to any record."""
    found = trained("dp_augm")
    labels = challenge().targets.labels

    def confidence(name: str) -> float:
        attack = attack_of(name)
        assert found.predict is not None
        answer = play(attack, found.only(attack.needs), challenge())
        return float(found.predict(answer)[np.arange(40), labels].mean())

    assert confidence("gradient_inversion") > 0.95
