"""Inversion attacks reconstruct recognisable records of an undefended model, and none of a model of random labels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
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
from bench.dp import networks, train
from bench.dp.weights_cache import WeightsCache
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
FLOOR = 0.8  # of ten classes by chance this many are recognised with probability 4e-7


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
def trained(defense: str, told: str = "truth") -> Release:
    """Undefended on digits; told "nonsense" its classifier was trained on labels that say nothing."""
    data = split()
    private, public = data.private, data.public
    if told == "nonsense":
        private, public = (
            Examples(part.x, np.random.default_rng(4).permutation(part.y), part.classes) for part in (private, public)
        )
    options: dict[str, Any] = {"dp_augm": {"epsilon": float("inf")}, "federated": {"rounds": 10}}.get(defense, {})
    found: Release = components().defenses[defense].function(private, public, seed=1, **options)
    return found


def release(attack: Component, told: str = "truth") -> Release:
    """What an undefended defense lets out of the accesses that the attack needs."""
    defense = "dp_augm" if "encode" in attack.needs else "federated" if "updates" in attack.needs else "none"
    return trained(defense, told).only(attack.needs)


@pytest.fixture(scope="module", autouse=True)
def _remembered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fits are made once for all tests of this module; TensorFlow complains of functions that outlive it."""
    with train.caching(WeightsCache(tmp_path_factory.mktemp("cache") / "fits")):
        yield
    trained.cache_clear()
    player.cache_clear()


def play(attack: Component, found: Release, asked: Challenge, **options: Any) -> NDArray[Any]:
    answer: NDArray[Any] = attack.function(
        found, INVERSION.targets_visible(asked, found), asked.public, seed=3, **options
    )
    return answer


def judged(answer: NDArray[Any], asked: Challenge) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Caveat)
        baseline = INVERSION.baseline(asked, 0)
        return dict(INVERSION.judge(answer, baseline, asked, np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("name", "options"),
    [pytest.param(*one, marks=() if one[0] == "gradient_inversion" else pytest.mark.slow) for one in VARIANTS],
)
def test_recognised_where_nothing_defends_and_not_where_there_is_nothing(name: str, options: dict[str, Any]) -> None:
    """Positive and null control; and the mutant whose answers belong to other labels."""
    attack = attack_of(name)
    answer = play(attack, release(attack), challenge(), **options)
    assert judged(answer, challenge())["recognition"]["value"] >= FLOOR
    assert judged(np.roll(answer, 1, axis=0), challenge())["recognition"]["value"] < FLOOR / 2
    if name == "decoder":  # it reads no label: nonsense for it is the code of somebody else
        wanted = INVERSION.targets_visible(challenge(), release(attack))
        others = replace(wanted, codes=np.roll(wanted.codes, 1, axis=0))
        null = attack.function(release(attack), others, challenge().public, seed=3, **options)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Caveat)
            null = play(attack, release(attack, "nonsense"), challenge(), **options)
    assert judged(null, challenge())["recognition"]["value"] < FLOOR / 2


@pytest.mark.slow
def test_tells_of_classes_that_the_adversary_never_saw() -> None:
    """Beyond the baseline answer, which has nothing to go by: the gain is the model's alone."""
    asked = challenge("unseen")
    attack = attack_of("gradient_inversion")
    found = judged(play(attack, release(attack), asked), asked)
    assert found["baseline"]["value"] <= 0.2
    assert found["gain"]["low"] > 0


def test_a_decoder_brings_back_the_very_record() -> None:
    """Nearer to the true record than the baseline answer is, of every class; and not from the codes of others."""
    attack = attack_of("decoder")
    found = judged(play(attack, release(attack), challenge()), challenge())
    assert found["ssim_gain"]["low"] > 0
    assert found["ssim"]["value"] > 0.8


@pytest.mark.slow
def test_a_judge_trained_on_what_was_attacked_sees_what_is_not_there() -> None:
    """The mutant judge, whose network learned the attacked records with the attacked labels, believes the null."""
    asked, data = challenge(), split()
    attack = attack_of("gradient_inversion")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Caveat)
        null = play(attack, release(attack, "nonsense"), asked)
    nonsense = Examples(data.private.x, np.random.default_rng(4).permutation(data.private.y), 10)
    own = trained("none", "nonsense").predict
    assert own is not None
    learned = evaluation_network.evaluation_network(nonsense, 5, steps=400)
    honest = judged(null, asked)["recognition"]["value"]
    for mutant in (own, learned):
        assert (mutant(null).argmax(1) == asked.targets.labels).mean() > honest + 0.15


# Contracts
@cache
def player(name: str) -> AttackRuns:
    return AttackRuns(Choice(attack_of(name)), components())


@pytest.mark.parametrize("check", [answers_in_form, same_seed_same_answer, modifies_no_input], ids=repr)
@pytest.mark.parametrize("name", QUICKEST)
def test_keeps_the_contract(name: str, check: Check[AttackRuns]) -> None:
    """Those checks of the kit that ask no fake for leaks; with the accesses that it declares, and no other."""
    assert check(player(name)) == []


@pytest.mark.parametrize(
    "name",
    [
        "decoder",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ATTACKS if name not in ("decoder", "mi_face")),
    ],
)  # of mi_face two starts need no chance
def test_another_seed_draws_other_pictures(name: str) -> None:
    assert not np.array_equal(player(name).play(leak=False, seed=1), player(name).answer_without_leak)


@pytest.mark.parametrize("name", QUICKEST)
def test_colours_and_sides_of_any_length(name: str) -> None:
    """Pictures that are neither grey nor square, and a class of which the public part has none."""
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
    wanted = InversionTargets(labels, shape, 4, rng.random((3, 5), np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Caveat)
        answer = attack.function(everything.only(attack.needs), wanted, public, seed=0, **quick(attack))
    assert answer.shape == (3, *shape)
    assert ((answer >= 0) & (answer <= 1)).all()


@pytest.mark.parametrize("method", ["trained", pytest.param("finite_differences", marks=pytest.mark.slow)])
def test_who_says_the_same_to_everyone_gives_nothing_away_and_the_attack_doubts_itself(method: str) -> None:
    attack, asked = attack_of("black_box_inversion"), challenge()
    constant = Release(NoOpDpEvent(), predict=lambda x: np.full((len(x), 10), 0.1, np.float32))
    with pytest.warns(Caveat, match=r"wanted class only 0\.10"):
        answer = play(attack, constant, asked, method=method, steps=20)
    assert judged(answer, asked)["recognition"]["value"] < FLOOR / 2


@pytest.mark.parametrize(
    ("name", "option", "says"),
    [
        ("decoder", {"method": "guess"}, "method=trained"),
        ("black_box_inversion", {"method": "nes"}, "method=trained"),
        ("gradient_inversion", {"steps": 0}, "at least 1"),
        ("gradient_inversion", {"starts": 0}, "at least 1"),
        ("mi_face", {"learning_rate": 0.0}, "above 0"),
    ],
)
def test_an_impossible_option_is_one_sentence(name: str, option: dict[str, Any], says: str) -> None:
    attack = attack_of(name)
    with pytest.raises(UserError, match=says) as caught:
        play(attack, release(attack), challenge(), **option)
    assert "\n" not in str(caught.value)


# One by one
def test_art_never_trains_and_never_stops_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stop rules are on their wrong side: below the threshold's reach a search ends while it gets better."""
    from art.attacks.inference.model_inversion import MIFace
    from art.estimators.classification import TensorFlowV2Classifier

    calls: list[int] = []
    plain = TensorFlowV2Classifier.class_gradient

    def counted(self: Any, x: Any, *rest: Any, **more: Any) -> Any:
        calls.append(len(x))
        return plain(self, x, *rest, **more)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("ART was asked to train")

    monkeypatch.setattr(TensorFlowV2Classifier, "class_gradient", counted)
    monkeypatch.setattr(TensorFlowV2Classifier, "fit", refuse)
    attack = attack_of("mi_face")
    play(attack, release(attack), challenge(), steps=12)
    assert calls == [12] * 12 * 10  # four pictures a class, three starts of each, all steps of all classes

    own = MIFace.__init__
    monkeypatch.setattr(MIFace, "__init__", lambda self, *args, **more: own(self, *args[:3], 0.2, *args[4:], **more))
    calls.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Caveat)
        play(attack, release(attack), challenge(), steps=12)
    assert len(calls) < 120 or min(calls) < 12


@pytest.mark.slow
def test_the_adaptive_attack_goes_through_the_encoder() -> None:
    """The naive one finds codes that no record need have: the model is surer of codes than of what becomes of them."""
    found = trained("dp_augm")
    labels = challenge().targets.labels

    def sure(name: str) -> float:
        attack = attack_of(name)
        assert found.predict is not None
        answer = play(attack, found.only(attack.needs), challenge())
        return float(found.predict(answer)[np.arange(40), labels].mean())

    assert sure("gradient_inversion") > 0.95
