"""A traced program serves one training after the other, and each gets the bits that a program of its own would give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from trainings import CLASSIFIER, CONVOLUTIONS, SMALL_VAE, examples, flat, one, recipe

from bench.core.dataset import Examples
from bench.dp import optimizer, training_loop
from bench.dp.networks import GAN, Autoencoder, Classifier
from bench.dp.program_cache import PROGRAMS, ProgramCache, program_key
from bench.dp.recipe import Privacy, Recipe
from bench.dp.tensorflow_setup import tensorflow
from bench.dp.train import train
from bench.lint.instrumentation import watching


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    PROGRAMS.clear()
    yield
    PROGRAMS.clear()


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The programs that were traced."""
    programs: list[Any] = []

    def made(*arguments: Any) -> Any:
        programs.append(program(*arguments))
        return programs[-1]

    program = training_loop.Program
    monkeypatch.setattr(training_loop, "Program", made)
    return programs


CASES: dict[str, tuple[Recipe, int]] = {
    "classifier, adam": (recipe(privacy=None, optimizer="adam"), 1),
    "classifier, two models, momentum": (recipe(momentum=0.5), 2),
    "convolutions, cosine": (recipe(CONVOLUTIONS, schedule="cosine"), 1),
    "vae, average, linear": (recipe(SMALL_VAE, ema=0.6, schedule="linear", optimizer="adam"), 2),
    "gan, average": (recipe(GAN((6,), (5,), 2), ema=0.5, optimizer="adam"), 2),
    "autoencoder, pieces, apart": (recipe(Autoencoder((6,), (5,), 3), physical_batch=4, clip_networks=True), 1),
    "reference": (recipe(engine="vectorized"), 2),
}


@pytest.mark.parametrize(("made", "models"), CASES.values(), ids=CASES)
def test_a_program_that_served_gives_the_bits_of_a_new_one(made: Recipe, models: int, traced: list[Any]) -> None:
    def fitted(seed: int, n: int) -> list[Any]:
        parts = [examples(n + k, seed + k, made.net.shape) for k in range(models)]
        return [flat(fit) for fit in train(made, parts, list(range(seed, seed + models)))]

    fitted(1, 20), fitted(3, 20)  # the weights and states that another training leaves
    again = fitted(5, 33)
    assert len(traced) == 1
    PROGRAMS.clear()
    new = fitted(5, 33)
    assert len(traced) == 2
    for a, b in zip(again, new, strict=True):
        assert np.array_equal(a, b)
    assert not np.allclose(again[0], fitted(1, 33)[0])


def test_every_part_of_the_state_is_set_back(traced: list[Any]) -> None:
    """Whatever a variable holds when a training begins does not reach its end."""
    made = recipe(GAN((6,), (5,), 2), ema=0.5, optimizer="adam")
    first = one(made, examples())
    [program] = traced
    keys = [program._input_keys, program.optimizer._keys]
    assert len(program.state) == 8 * 2 + 2 + 8 * 2  # weights and averages, counts of steps, moments
    for variable in (*program.state, *keys):
        before = variable.numpy()
        variable.assign(before + np.ones_like(before))
        assert np.array_equal(one(made, examples()), first)
    assert len(traced) == 1


@dataclass(frozen=True)
class Namesake(Classifier):
    """Equal fields, another class."""


def key(made: Recipe, n: int = 20, models: int = 1) -> Any:
    tf = tensorflow()
    lead = (models,) if models > 1 else ()
    data = [tf.zeros((*lead, n, *made.net.shape)), tf.zeros((*lead, n), tf.int64)]
    return program_key([made] * models, data)


def test_only_what_a_program_has_as_variables_may_differ() -> None:
    made = recipe()
    for same in (recipe(rate=0.2), recipe(steps=9)):
        assert key(same) == key(made)
    assert key(made, n=7) == key(made)
    others = [
        recipe(SMALL_VAE), recipe(Namesake((6,), 3, (5,), "tanh")), recipe(batch_size=9.0), recipe(learning_rate=0.2),
        recipe(optimizer="adam"), recipe(momentum=0.5), recipe(schedule="linear"), recipe(schedule="linear", steps=9),
        recipe(ema=0.5), recipe(privacy=None), recipe(privacy=Privacy(0.5, 2.0)), recipe(privacy=Privacy(0.6, 1.0)),
        recipe(clip_networks=True), recipe(engine="vectorized"), recipe(physical_batch=9),
    ]  # fmt: skip
    keys = [key(made), key(made, models=2), key(made, n=100_000), *map(key, others)]
    assert len(set(keys)) == len(keys)


def test_code_that_was_replaced_traces_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    made, right = recipe(), optimizer.normals
    before = key(made)
    with monkeypatch.context() as patch:
        patch.setattr(optimizer, "normals", lambda *arguments: 0 * right(*arguments))
        assert key(made) != before
    assert key(made) == before
    with monkeypatch.context() as patch:
        patch.setattr(optimizer.PoissonDPSGD, "noised_gradients", lambda *_: [])
        assert key(made) != before
    monkeypatch.setattr(type(CLASSIFIER), "loss", lambda *_: 0)
    assert key(made) != before


def test_an_observed_training_has_a_program_of_its_own(traced: list[Any]) -> None:
    one(recipe(), examples())
    with watching() as seen:
        one(recipe(), examples())
    assert len(traced) == 2
    assert seen.trained[0].steps() == 4  # which nobody has set back
    assert len(PROGRAMS) == 1
    one(recipe(), examples())
    assert len(traced) == 2


def test_a_training_that_fails_gives_no_program_back(traced: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    one(recipe(), examples())

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training_loop.Training, "take", stopped)
        with pytest.raises(KeyboardInterrupt):
            one(recipe(), examples())
    assert len(PROGRAMS) == 0
    one(recipe(), examples())
    assert len(traced) == 2


def test_a_program_in_use_is_nobody_elses(traced: list[Any]) -> None:
    parts = [examples()]

    def started(seed: int) -> training_loop.Training:
        return training_loop.Training([recipe()], parts, [seed], programs=PROGRAMS)

    trainings = [started(1), started(2)]
    for training in (*trainings, *trainings):  # in turn
        training.run(2)
    ends = [np.concatenate([w.ravel() for w in training.weights]) for training in trainings]
    assert len(traced) == 2
    for seed, end in zip((1, 2), ends, strict=True):
        assert np.array_equal(end, one(recipe(), parts[0], seed))


def test_few_programs_and_little_memory_are_kept() -> None:
    def program(size: int) -> Any:
        return SimpleNamespace(state=[np_variable(size)])

    def np_variable(size: int) -> Any:
        return SimpleNamespace(shape=tensorflow().TensorShape([size]), dtype=tensorflow().float32)

    def kept(cache: ProgramCache, names: Sequence[str]) -> str:
        found = {name: cache.take(name) for name in names}
        return "".join(name for name in names if found[name] is not None)

    cache = ProgramCache(most=3)
    for name in "abcd":
        cache.put(name, program(1))
    taken = cache.take("b")
    assert taken
    cache.put("b", taken)  # the last one used
    cache.put("e", program(1))
    assert kept(cache, "abcde") == "bde"
    cache = ProgramCache(most_bytes=4000)
    for name, size in (("a", 300), ("b", 300), ("c", 400), ("d", 301)):
        cache.put(name, program(size))
    assert kept(cache, "abcd") == "cd"
    cache.put("huge", program(1001))
    assert len(cache) == 0


def test_jointly_trained_models_reuse_a_program_too(traced: list[Any]) -> None:
    sets = [Examples(np.random.default_rng(k).random((20, 6)), np.arange(20) % 3, 3) for k in range(4)]
    made = replace(recipe(), privacy=None)
    first, second = train(made, sets[:2], [1, 2]), train(made, sets[2:], [3, 4])
    assert len(traced) == 1
    for fits, parts, seeds in ((first, sets[:2], (1, 2)), (second, sets[2:], (3, 4))):
        for fit, part, seed in zip(fits, parts, seeds, strict=True):
            np.testing.assert_allclose(flat(fit), one(made, part, seed), rtol=0, atol=2e-6)
