"""The cost of DP relative to plain training, and of joint relative to separate trainings, as ratios in one run.

Run with `pytest tests/perf --benchmark-enable -s`; without it they are skipped. The limits are for one
idle core, so run them on a quiet machine. A GPU is used where there is one; the name of the device is printed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from contestants import Task, tf_privacy
from contestants import records as dark_records
from on_demand import on_demand  # noqa: F401 - an autouse fixture
from steps import NETS, keras, ours, recipe, records

from bench.core.dataset import Examples
from bench.dp import train
from bench.dp.networks import Classifier
from bench.dp.recipe import Privacy, Recipe
from bench.dp.vae import VAE
from bench.runner import memory

PRIVATE = Privacy(1.0, 1.0)

memory.keep_freed()  # as the program does, or half of what is compared would be faults of pages


def seconds(run: Callable[[], object]) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start


def ratio(benchmark: Any, slow: Callable[[], object], quick: Callable[[], object], rounds: int = 15) -> float:
    """Median of slow ÷ quick, measured alternately, so that a busy machine slows both."""
    pairs: list[tuple[float, float]] = []
    benchmark.pedantic(lambda: pairs.append((seconds(slow), seconds(quick))), rounds=rounds, iterations=1)
    found = [a / b for a, b in pairs]
    benchmark.extra_info["ratio"] = median(found)
    sides = [1e3 * median(side) for side in zip(*pairs, strict=True)]
    spread = f"{min(found):.2f} to {max(found):.2f}; {sides[0]:,.0f} ÷ {sides[1]:,.0f} ms"
    print(f"\n{benchmark.name} on {train.device()}: {median(found):.2f} ({spread})")
    return median(found)


@pytest.mark.parametrize(
    ("name", "batch", "limit"), [("autoencoder", 256, 1.5), ("autoencoder", 1024, 1.3), ("cnn", 256, 1.6)]
)
def test_ghost_clipping_step_over_plain_keras_step(benchmark: Any, name: str, batch: int, limit: float) -> None:
    net = NETS[name]
    part = records(net.shape)
    private, _ = ours(recipe(net, batch, privacy=PRIVATE), [part])
    assert ratio(benchmark, private, keras(net, part, batch)) <= limit


def test_tensorflow_privacy_over_ghost_clipping(benchmark: Any) -> None:
    net = NETS["autoencoder"]
    private, _ = ours(recipe(net, 256, privacy=PRIVATE), [records(net.shape)])
    reference, _ = tf_privacy(Task(dark_records(), 256, private=True))
    reference(1)
    assert ratio(benchmark, lambda: reference(1), lambda: private(1), 5) >= 80


@pytest.mark.parametrize(("name", "batch"), [("autoencoder", 256), ("autoencoder", 1024), ("cnn", 256)])
def test_peak_memory_of_a_dp_step_over_a_plain_step(benchmark: Any, name: str, batch: int) -> None:
    """The peak memory that a training adds, each in a new process."""

    def peak(kind: str) -> float:
        command = [sys.executable, str(Path(__file__).with_name("steps.py")), name, kind, str(batch)]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])

    pairs: list[tuple[float, float]] = []
    benchmark.pedantic(lambda: pairs.append((peak("dp"), peak("plain"))), rounds=3, iterations=1)
    found = median(a / b for a, b in pairs)
    benchmark.extra_info["ratio"] = found
    sides = [median(side) for side in zip(*pairs, strict=True)]
    print(f"\n{benchmark.name} on {train.device()}: {found:.2f} ({sides[0]:.0f} ÷ {sides[1]:.0f} MiB)")
    assert found <= 1.5


def small(k: int, n: int) -> Examples:
    rng = np.random.default_rng(k)
    return Examples(rng.random((n, 64)), np.arange(n) % 10, 10)


@pytest.mark.parametrize(
    ("made", "models", "records_each", "limit"),
    [
        (Recipe(VAE((64,), (64,), 8, "tanh"), 100, 0.5, 50.0, 0.01, privacy=PRIVATE), 10, 100, 3),
        (Recipe(Classifier((64,), 10, (64,), "tanh"), 200, 0.256, 64.0, 0.01, privacy=PRIVATE), 64, 250, 8),
    ],
    ids=["ten VAEs", "64 classifiers"],
)
def test_separate_over_joint_training(
    benchmark: Any, made: Recipe, models: int, records_each: int, limit: float
) -> None:
    parts = [small(k, records_each) for k in range(models)]

    def separately() -> None:
        for k, part in enumerate(parts):
            train.train(made, [part], [k])

    assert ratio(benchmark, separately, partial(train.train, made, parts, range(models)), 2) >= limit


def test_vectorized_over_ghost_clipping_in_training(benchmark: Any) -> None:
    net = NETS["autoencoder"]
    part = records(net.shape, 2000)
    made = replace(recipe(net, 64, 2000, privacy=PRIVATE), steps=5)
    reference, _ = ours(replace(made, engine="vectorized"), [part])
    private, _ = ours(made, [part])
    assert ratio(benchmark, partial(reference, 5), partial(private, 5), 3) > 1


def test_normals_of_tensorflow_over_those_of_the_project(benchmark: Any) -> None:
    from bench.dp.optimizer import normals
    from bench.dp.tensorflow_setup import tensorflow

    tf, size = tensorflow(), 730_512  # the weights of the autoencoder
    tensorflows = tf.function(lambda step: tf.random.stateless_normal([size], tf.stack([step, step]), alg="philox"))
    projects = tf.function(lambda step: normals(1, size, [5], step))
    step = tf.constant(3)
    tensorflows(step), projects(step)
    assert ratio(benchmark, lambda: tensorflows(step).numpy(), lambda: projects(step).numpy()) > 1


def test_a_plain_step_in_xla_over_one_without(benchmark: Any) -> None:
    """The reason not to use XLA: reconsider it if this ratio falls far below 1."""
    from bench.dp import networks
    from bench.dp.layers import Single
    from bench.dp.tensorflow_setup import tensorflow

    tf, net = tensorflow(), NETS["autoencoder"]
    model, x = networks.build(net, Single()), tf.constant(records(net.shape, 256).x)

    def gradients() -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(net.loss(tf.nest.flatten(model(x, training=True)), x, None))
        return tape.gradient(loss, model.trainable_variables)

    compiled, plain = tf.function(gradients, jit_compile=True), tf.function(gradients)
    compiled(), plain()
    assert ratio(benchmark, lambda: compiled()[0].numpy(), lambda: plain()[0].numpy()) > 0.8


def test_a_product_in_half_precision_over_one_in_single(benchmark: Any) -> None:
    """The reason not to use mixed precision on a CPU: reconsider it if this ratio falls far below 1."""
    from bench.dp.tensorflow_setup import tensorflow

    tf = tensorflow()
    rng = np.random.default_rng(0)
    a, b = (tf.constant(rng.random(shape), tf.float32) for shape in ((1024, 784), (784, 400)))
    half = [tf.cast(v, tf.bfloat16) for v in (a, b)]
    assert ratio(benchmark, lambda: tf.matmul(*half).numpy(), lambda: tf.matmul(a, b).numpy()) > 0.8
