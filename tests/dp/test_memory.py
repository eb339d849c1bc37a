"""A finished training leaves no traced program and no captured records in memory."""

from __future__ import annotations

import gc
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trainings import examples, recipe

from bench.conformance.short_runs import small_data
from bench.core.dataset import Examples
from bench.dp import training_program
from bench.dp.networks import GAN, Classifier, Net
from bench.dp.program_cache import PROGRAMS
from bench.dp.recipe import Privacy, Recipe
from bench.dp.tensorflow_setup import tensorflow
from bench.dp.train import train
from bench.models import inversion_search
from bench.runner.registry import discover

CLASSIFIER = Classifier((6,), 2, (4,), "tanh")


def programs() -> int:
    """The number of traced programs after garbage collection."""
    gc.collect()
    graph = tensorflow().__internal__.FuncGraph
    return sum(isinstance(one, graph) for one in gc.get_objects())


def left_behind(run: Any) -> int:
    """By how many programs two more calls of `run(seed)` raise their number."""
    run(0)  # creates the programs that every later call reuses
    before = programs()
    run(1)
    run(2)
    return programs() - before


def training(privacy: Privacy | None, net: Net = CLASSIFIER, **changes: Any) -> Any:
    part = Examples(np.random.default_rng(0).random((20, 6)), np.arange(20) % 2, 2)
    recipe = Recipe(net, steps=2, rate=0.5, batch_size=10.0, learning_rate=0.1, privacy=privacy, **changes)

    def run(seed: int) -> None:
        train(recipe, [part], [seed])
        PROGRAMS.clear()  # which keeps some on purpose

    return run


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("privacy", [None, Privacy(1.0, 1.0)], ids=["plain", "dp"])
def test_a_finished_training_leaves_no_program(privacy: Privacy | None, optimizer: str) -> None:
    assert left_behind(training(privacy, optimizer=optimizer)) <= 0


def test_unclipped_layers_averages_and_physical_batches_leave_no_program() -> None:
    assert left_behind(training(Privacy(1.0, 1.0), GAN((6,), (5,), 2), ema=0.5, physical_batch=4)) <= 0


def search(seed: int) -> None:
    start = np.random.default_rng(seed).standard_normal((2, 3, 4)).astype(np.float32)
    inversion_search.search(
        start,
        lambda numbers: numbers,
        lambda points, numbers, step: tensorflow().reduce_sum(points**2, -1),
        steps=2,
        learning_rate=0.1,
    )


def test_a_search_leaves_no_program() -> None:
    assert left_behind(search) <= 0


def test_a_sum_over_replicas_would_leave_every_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: Keras' default. If this fails, TensorFlow frees the programs and the flag is no longer needed."""

    def summed(optimizer: Any, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
        optimizer.apply_gradients(zip(gradients, variables, strict=True))

    monkeypatch.setattr(training_program, "apply_gradients", summed)
    assert left_behind(training(None)) > 0


def test_records_are_freed_when_a_training_ends() -> None:
    """If TensorFlow keeps a program, records captured in it would accumulate with every training."""
    tf, part = tensorflow(), examples(37)
    for privacy in (None, Privacy(0.5, 1.0)):
        train(recipe(privacy=privacy), [part], [1])
        gc.collect()
        kept = [o for o in gc.get_objects() if isinstance(o, type(tf.constant(0))) and tuple(o.shape) == part.x.shape]
        assert not kept


def resident() -> float:
    """MiB of this process that are in memory."""
    gc.collect()
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def growth(first: int, last: int, kept: list[Any] | None = None) -> float:
    """By how many MiB the trainings of `none` after the first ones raise this process' memory, each asked once."""
    data, none = small_data("breast_cancer"), discover().defenses["none"].function
    before = 0.0
    for seed in range(last):
        release = none(data.private, data.public, seed=seed, steps=20)
        release.predict(data.holdout.x)
        if kept is not None:
            kept.append(np.ones(2**20))
        if seed == first - 1:
            before = resident()
    return resident() - before


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
def test_trainings_of_none_hardly_raise_memory() -> None:
    assert growth(5, 25) <= 50 * 20 / 190
    kept: list[Any] = []
    assert growth(1, 3, kept) > 8  # the mutant: 8 MiB of each stay


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
def test_two_hundred_trainings_end_where_the_tenth_was() -> None:
    assert growth(10, 200) <= 50
