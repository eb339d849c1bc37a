"""What every defense owes, whoever wrote it: it lets out what it declares, and private records leave by DP alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from conftest import components, quick, split
from dp_accounting import DpEvent, NoOpDpEvent
from numpy.typing import NDArray

from bench import accounting, runner
from bench.component import Component
from bench.data import Data, Examples
from bench.probes.blindfold import blindfold
from bench.probes.doors import watching
from bench.probes.lint import lint
from bench.probes.outputs import LOOKED_AT, differing, outputs
from bench.probes.records import others
from bench.probes.trial import Trial
from bench.randomness import derive, stream
from bench.registry import Choice
from bench.release import Release

DEFENSES = sorted(components().defenses)
PRIVATE = [name for name in DEFENSES if components().defenses[name].private]
EPSILON = [name for name in DEFENSES if "epsilon" in components().defenses[name].options]
GENERATE = [name for name in DEFENSES if "generate" in components().defenses[name].publishes]
KNOWN_OUTPUTS = {"predict", "model", "encode", "decode", "generate", "synthetic", "join", "updates"}


def defense(name: str) -> Component:
    return components().defenses[name]


def train(name: str, private: Examples, public: Examples, seed: int = 0, **changed: Any) -> Release:
    component = defense(name)
    release: Release = component.function(private, public, seed=seed, **quick(component, **changed))
    return release


@cache
def trained(name: str, data: str = "digits") -> Release:
    """One release a defense and data set, for all tests that only look at it."""
    parts, component = split(data), defense(name)
    sizes = (len(parts.private), len(parts.holdout), len(parts.public))
    seed = derive(0, "defense", Choice(component, quick(component)).label, parts.name, *sizes)
    return train(name, parts.private, parts.public, seed)


@pytest.fixture(scope="module", autouse=True)
def _let_go() -> Iterator[None]:
    """TensorFlow complains of functions that outlive it."""
    yield
    trained.cache_clear()


# What it lets out


@pytest.mark.parametrize("name", DEFENSES)
def test_publishes_what_it_declares(name: str) -> None:
    release = trained(name)
    assert release.published() == defense(name).publishes
    assert release.published() <= KNOWN_OUTPUTS, "teach `outputs` here to look at the new access"
    assert isinstance(release.spent, DpEvent)
    hidden = release.only(set())
    assert hidden.published() == set()
    for access in release.published():
        assert release.only({access}).published() == {access}


@pytest.mark.parametrize("name", DEFENSES)
def test_same_seed_same_release_and_inputs_are_left_alone(name: str, digits: Data) -> None:
    """All of it bit for bit, with other training in between, and by `runner.release`, the way that the program goes."""
    component = defense(name)
    arrays = [array for part in (digits.private, digits.public) for array in (part.x, part.y)]
    before = [array.copy() for array in arrays]
    release = trained(name)
    np.random.seed(3)  # noqa: NPY002 - a component that used the global state would show
    again = runner.release(digits, Choice(component, quick(component)), 0)
    assert not differing(outputs(again, digits.holdout.x), outputs(release, digits.holdout.x))
    assert again.spent == release.spent
    assert again.published() == component.publishes | {"retrain"}
    assert all(np.array_equal(array, old) for array, old in zip(arrays, before, strict=True))


@pytest.mark.parametrize("name", [name for name in DEFENSES if name != "constant"])
def test_another_seed_another_release(name: str, cancer: Data) -> None:
    other = train(name, cancer.private, cancer.public, seed=1)
    first, second = (outputs(release, cancer.holdout.x) for release in (trained(name, "breast_cancer"), other))
    equal = {key for key in first if np.array_equal(first[key], second[key])}
    networks = tuple(f"{name} " for name in ("model", "encode", "decode"))
    started = {key for key in equal if key.startswith(networks) and not first[key].any()}  # biases that nobody trained
    assert not {key for key in equal - started if not key.endswith(" y")}


def test_holdout_is_out_of_reach(digits: Data) -> None:
    """A defense gets two arguments, and the memory behind them holds their own records only."""
    seen: list[tuple[Any, ...]] = []

    def spy(private: Examples, public: Examples, *, seed: int) -> Release:
        seen.append((private, public))
        return Release(NoOpDpEvent(), predict=lambda x: np.ones((len(x), 10)))

    component = Component("spy", "defense", spy, {}, "", runner.Path(__file__), publishes=frozenset({"predict"}))
    runner.release(digits, Choice(component), 0)
    [(private, public)] = seen
    assert (private, public) == (digits.private, digits.public)
    for part in seen[0]:
        for array in (part.x, part.y):
            while array.base is not None:
                array = array.base
                assert array.size == part.x.size or array.size == part.y.size
            assert not np.shares_memory(array, digits.holdout.x)


# predict


def check_probabilities(probabilities: NDArray[Any], n: int, classes: int) -> None:
    assert probabilities.shape == (n, classes)
    assert np.isfinite(probabilities).all()
    assert (probabilities >= 0).all()
    assert np.allclose(probabilities.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in DEFENSES if "predict" in defense(name).publishes])
def test_predict_gives_probabilities(name: str, digits: Data) -> None:
    predict = trained(name).predict
    assert predict
    whole = predict(digits.holdout.x)
    check_probabilities(whole, 120, 10)
    check_probabilities(predict(digits.holdout.x[:0]), 0, 10)
    assert np.allclose(predict(digits.holdout.x[7:9]), whole[7:9], atol=1e-6), "a record's answer depends on the others"


@pytest.mark.parametrize("name", DEFENSES)
def test_two_classes_and_plain_features(name: str, cancer: Data) -> None:
    seen = outputs(trained(name, "breast_cancer"), cancer.holdout.x)
    assert all(np.isfinite(array).all() for array in seen.values())
    if "predict" in seen:
        check_probabilities(seen["predict"], 120, 2)
    if "generate x" in seen:
        assert seen["generate x"].shape == (23, 30)


@pytest.mark.parametrize("name", DEFENSES)
def test_a_class_without_any_private_record(name: str, digits: Data) -> None:
    few = digits.private[np.flatnonzero(digits.private.y == 3)[:5]]
    seen = outputs(train(name, few, digits.public), digits.holdout.x)
    assert all(np.isfinite(array).all() for array in seen.values())
    if "predict" in seen:
        check_probabilities(seen["predict"], 120, 10)
    if "generate y" in seen:
        assert set(seen["generate y"]) <= set(range(10))


# generate


@pytest.mark.parametrize("name", GENERATE)
@pytest.mark.parametrize("n", [0, 1, 10, 25])
def test_generate_gives_as_many_as_asked_for(name: str, n: int) -> None:
    generate = trained(name).generate
    assert generate
    made = generate(n, 3)
    assert made.x.shape == (n, 8, 8, 1)
    assert (made.x >= 0).all()
    assert (made.x <= 1).all()
    assert np.array_equal(made.y, generate(n, 4).y), "labels take turns, they are not drawn"
    again, other = generate(n, 3), generate(n, 4)
    assert np.array_equal(made.x, again.x)
    assert np.array_equal(made.y, again.y)
    assert not n or not np.array_equal(made.x, other.x)


@pytest.mark.parametrize("name", GENERATE)
def test_synthetic_labels_do_not_tell_private_counts(name: str, cancer: Data) -> None:
    """What DP training does not let out of them, labels of synthetic records do not either."""
    skewed = Examples(cancer.private.x, np.arange(200) < 13, 2)
    with watching(blindfold=True):
        release, other = train(name, cancer.private, cancer.public), train(name, skewed, cancer.public)
    assert release.generate
    assert other.generate
    assert np.array_equal(release.generate(31, 0).y, other.generate(31, 0).y)
    assert release.synthetic is not None
    assert other.synthetic is not None
    assert np.array_equal(release.synthetic.y, other.synthetic.y)
    assert release.spent == other.spent


# decode


@pytest.mark.parametrize("data", ["digits", "breast_cancer"])
@pytest.mark.parametrize("name", [name for name in GENERATE if "decode" in defense(name).publishes])
def test_what_is_generated_is_decoded(name: str, data: str) -> None:
    """Whoever holds the decoder can draw the very records that `generate` gives."""
    release = trained(name, data)
    assert release.decode
    assert release.generate
    made = release.generate(50, 3)
    latent = release.decode.model.input_shape[-1] - made.classes
    assert release.decode.labels == made.classes
    z = stream(3, "latent").standard_normal((50, latent), np.float32)
    codes = np.concatenate([z, np.eye(made.classes, dtype=np.float32)[made.y]], axis=1)
    assert np.allclose(release.decode(codes), made.x, atol=1e-6)
    assert np.allclose(release.decode.model(codes), made.x, atol=1e-6), "the model is the map"


# The guarantee


@pytest.mark.parametrize("name", EPSILON)
@pytest.mark.parametrize("asked", [0.5, 8.0])
def test_claim_is_at_most_what_was_asked_and_not_far_below(name: str, asked: float, cancer: Data) -> None:
    release = trained(name) if asked == 8 else train(name, cancer.private, cancer.public, epsilon=asked)
    assert 0.95 * asked < accounting.claim(release.spent, 200)["epsilon"] <= asked * (1 + 1e-6)


@pytest.mark.parametrize("name", EPSILON)
def test_without_privacy_it_says_so(name: str, cancer: Data) -> None:
    release = train(name, cancer.private, cancer.public, epsilon=math.inf)
    claim = accounting.claim(release.spent, 200)
    assert math.isinf(claim["epsilon"])
    assert math.isinf(claim["epsilon_rdp"])
    assert all(np.isfinite(array).all() for array in outputs(release, cancer.holdout.x).values())


def test_who_promises_nothing_claims_nothing(digits: Data) -> None:
    for name in DEFENSES:
        if not defense(name).private:
            assert math.isinf(accounting.claim(trained(name).spent, 200)["epsilon"]), name


@pytest.mark.parametrize("name", ["constant", "public_only", "random_encoder"])
def test_what_reads_no_private_record_depends_on_none(name: str, digits: Data) -> None:
    privates = digits.private, others(digits.private)
    first, second = (train(name, private, digits.public) for private in privates)
    assert not differing(outputs(first, digits.holdout.x), outputs(second, digits.holdout.x))
    assert accounting.claim(first.spent, 200)["epsilon"] == 0


@pytest.mark.parametrize("name", PRIVATE)
def test_who_claims_privacy_passes_the_probes(name: str, cancer: Data) -> None:
    assert lint(Choice(defense(name)), cancer, 0) == ()


@pytest.mark.parametrize("mutant", ["scale", "counts", "rate", "labels"])
def test_statistics_in_the_clear_are_caught(mutant: str, cancer: Data) -> None:
    def leaky(private: Examples, public: Examples, seed: int) -> Release:
        if mutant == "rate":  # a training parameter that tells how many records the first class has
            return train("dp_sgd", private, public, seed, batch_size=10 + int((private.y == 0).sum()))
        release = train("dp_sgd", private, public, seed)
        predict, top = release.predict, private.x.max()
        assert predict
        if mutant == "scale":
            return Release(release.spent, predict=lambda x: predict(x / top))
        if mutant == "labels":
            return Release(release.spent, predict=lambda x: predict(x) * np.isin(np.arange(2), private.y))
        prior = np.bincount(private.y, minlength=2) / len(private)
        return Release(release.spent, predict=lambda x: predict(x) * prior)

    trial = Trial(leaky, cancer.private, cancer.public, cancer.holdout.x, 0)
    assert blindfold(trial.run(cancer.private), trial.run(others(cancer.private)), trial)


def test_every_access_has_a_place_in_these_contracts() -> None:
    assert KNOWN_OUTPUTS == LOOKED_AT
