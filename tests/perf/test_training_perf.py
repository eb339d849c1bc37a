"""What DP costs over plain training, and what training many models as one saves: ratios, both sides in one run.

Run with `pytest tests/perf --benchmark-enable -s`; without it they are skipped. A quiet machine, please: the bars are
those of one idle core. Where there is a GPU it is what trains, and its name is printed.
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
from peers import Task, tf_privacy
from peers import records as dark
from steps import NETS, keras, ours, recipe, records

from bench.core.dataset import Examples
from bench.dp import train
from bench.dp.networks import Classifier
from bench.dp.recipe import Privacy, Recipe
from bench.dp.vae import VAE

PRIVATE = Privacy(1.0, 1.0)


@pytest.fixture(autouse=True)
def _on_demand(request: pytest.FixtureRequest) -> None:
    if not (request.config.getoption("benchmark_enable") or request.config.getoption("benchmark_only")):
        pytest.skip("a timing: pytest tests/perf --benchmark-enable")


def seconds(run: Callable[[], object]) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start


def ratio(benchmark: Any, slow: Callable[[], object], quick: Callable[[], object], rounds: int = 15) -> float:
    """Median of slow ÷ quick, the two in turn, so that a busy machine slows both."""
    pairs: list[tuple[float, float]] = []
    benchmark.pedantic(lambda: pairs.append((seconds(slow), seconds(quick))), rounds=rounds, iterations=1)
    found = [a / b for a, b in pairs]
    benchmark.extra_info["ratio"] = median(found)
    sides = [1e3 * median(side) for side in zip(*pairs, strict=True)]
    spread = f"{min(found):.2f} to {max(found):.2f}; {sides[0]:,.0f} ÷ {sides[1]:,.0f} ms"
    print(f"\n{benchmark.name} on {train.device()}: {median(found):.2f} ({spread})")
    return median(found)


@pytest.mark.parametrize(
    ("name", "batch", "bar"), [("autoencoder", 256, 1.5), ("autoencoder", 1024, 1.3), ("cnn", 256, 1.6)]
)
def test_one_pass_dp_step_over_plain_keras_step(benchmark: Any, name: str, batch: int, bar: float) -> None:
    net = NETS[name]
    part = records(net.shape)
    private, _ = ours(recipe(net, batch, privacy=PRIVATE), [part])
    assert ratio(benchmark, private, keras(net, part, batch)) <= bar


def test_tensorflow_privacy_over_one_pass(benchmark: Any) -> None:
    net = NETS["autoencoder"]
    private, _ = ours(recipe(net, 256, privacy=PRIVATE), [records(net.shape)])
    theirs, _ = tf_privacy(Task(dark(), 256, private=True))
    theirs(1)
    assert ratio(benchmark, lambda: theirs(1), lambda: private(1), 5) >= 80


@pytest.mark.parametrize(("name", "batch"), [("autoencoder", 256), ("autoencoder", 1024), ("cnn", 256)])
def test_peak_memory_of_a_dp_step_over_a_plain_step(benchmark: Any, name: str, batch: int) -> None:
    """What a training adds to the process, each in a process of its own."""

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
    ("made", "models", "records_each", "bar"),
    [
        (Recipe(VAE((64,), (64,), 8, "tanh"), 100, 0.5, 50.0, 0.01, privacy=PRIVATE), 10, 100, 3),
        (Recipe(Classifier((64,), 10, (64,), "tanh"), 200, 0.256, 64.0, 0.01, privacy=PRIVATE), 64, 250, 8),
    ],
    ids=["ten VAEs", "64 classifiers"],
)
def test_one_by_one_over_together(benchmark: Any, made: Recipe, models: int, records_each: int, bar: float) -> None:
    parts = [small(k, records_each) for k in range(models)]

    def one_by_one() -> None:
        for k, part in enumerate(parts):
            train.train(made, [part], [k])

    assert ratio(benchmark, one_by_one, partial(train.train, made, parts, range(models)), 2) >= bar


def test_the_reference_over_one_pass_through_training(benchmark: Any) -> None:
    net = NETS["autoencoder"]
    part = records(net.shape, 2000)
    made = replace(recipe(net, 64, 2000, privacy=PRIVATE), steps=5)
    reference, _ = ours(replace(made, engine="vectorized"), [part])
    private, _ = ours(made, [part])
    assert ratio(benchmark, partial(reference, 5), partial(private, 5), 3) > 1


def test_tensorflows_own_normals_over_ours(benchmark: Any) -> None:
    from bench.dp.optimizer import normals
    from bench.dp.tensorflow_setup import tensorflow

    tf, size = tensorflow(), 730_512  # the weights of the autoencoder
    theirs = tf.function(lambda step: tf.random.stateless_normal([size], tf.stack([step, step]), alg="philox"))
    own = tf.function(lambda step: normals(1, size, [5], step))
    step = tf.constant(3)
    theirs(step), own(step)
    assert ratio(benchmark, lambda: theirs(step).numpy(), lambda: own(step).numpy()) > 1


def test_a_plain_step_in_xla_over_one_without(benchmark: Any) -> None:
    """Why XLA is not used: where this falls below 1 by much, think again."""
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
    """Why mixed precision is not used on a CPU: as above."""
    from bench.dp.tensorflow_setup import tensorflow

    tf = tensorflow()
    rng = np.random.default_rng(0)
    a, b = (tf.constant(rng.random(shape), tf.float32) for shape in ((1024, 784), (784, 400)))
    half = [tf.cast(v, tf.bfloat16) for v in (a, b)]
    assert ratio(benchmark, lambda: tf.matmul(*half).numpy(), lambda: tf.matmul(a, b).numpy()) > 0.8
