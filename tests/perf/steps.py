"""Traced and warmed-up loops of training steps for the benchmarks; only this module uses internals of the engine.

As a script, `python tests/perf/steps.py NET plain|dp BATCH` prints by how many MiB twenty steps raise the peak of
resident memory, or of a GPU's where there is one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.dataset import Examples
from bench.dp import networks, train, training_loop
from bench.dp.layers import Single
from bench.dp.recipe import Privacy, Recipe
from bench.dp.tensorflow_setup import tensorflow

STEPS = 20


@dataclass(frozen=True)
class Tutorial(networks.Classifier):
    """The small convolutional network of TensorFlow Privacy's MNIST tutorial."""

    def connect(self, layers: Any, x: Any, draw: Any, label: Any) -> list[Any]:
        h = layers.pool(layers.conv(x, 16, 8, 2, "same", "relu"), 2, 1)
        h = layers.pool(layers.conv(h, 32, 4, 2, "valid", "relu"), 2, 1)
        return [layers.dense(layers.dense(layers.flatten(h), 32, "relu"), self.classes)]


NETS: dict[str, networks.Net] = {
    "autoencoder": networks.Autoencoder((784,), (400,), 128),
    "cnn": Tutorial((28, 28, 1), 10),
}


def records(shape: tuple[int, ...], n: int = 10_000) -> Examples:
    rng = np.random.default_rng(0)
    return Examples(rng.random((n, *shape), np.float32) ** 6, rng.integers(0, 10, n), 10)


def recipe(net: networks.Net, batch: int, n: int = 10_000, **changed: Any) -> Recipe:
    return Recipe(net, STEPS, batch / n, float(batch), 1e-3, **changed)


def ours(made: Recipe, parts: Sequence[Examples], start: Sequence[Any] | None = None) -> tuple[Callable[..., Any], Any]:
    """Returns a function that runs k steps of the engine on Poisson batches, and their training.

    Warmed up, unless `start` gives the initial weights.
    """
    training = training_loop.Training([made] * len(parts), parts, range(len(parts)))
    if start:
        training.set_weights(start)
    rows = tensorflow().constant(training.draw(made.steps))

    def steps(k: int = STEPS) -> None:
        training.take(rows[:k])
        _ = training.steps

    if not start:
        steps()
    return steps, training


def keras(net: networks.Net, part: Examples, batch: int) -> Callable[[], None]:
    """Twenty ordinary Keras steps: a traced loop, fixed batches, the Adam of Keras and a mean loss."""
    tf = tensorflow()
    model, optimizer = networks.build(net, Single()), tf.keras.optimizers.Adam(1e-3)
    x, y = tf.constant(part.x), tf.constant(part.y)
    rng = np.random.default_rng(1)
    rows = tf.constant(np.stack([rng.permutation(len(part))[:batch] for _ in range(STEPS)]))

    @tf.function
    def run() -> None:
        for t in tf.range(STEPS):
            bx, by = tf.gather(x, rows[t]), tf.gather(y, rows[t])
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(net.loss(tf.nest.flatten(model(bx, training=True)), bx, by))
            variables = model.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    def steps() -> None:
        run()
        optimizer.iterations.numpy()

    steps()
    return steps


def _resident(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


if __name__ == "__main__":
    name, kind, batch = sys.argv[1:]
    net = NETS[name]
    part = records(net.shape)
    ours(recipe(net, 8), [part])  # memory that TensorFlow allocates once
    memory = tensorflow().config.experimental
    on_gpu = train.device() != "CPU"
    if on_gpu:
        memory.reset_memory_stats("GPU:0")
    else:
        Path("/proc/self/clear_refs").write_text("5")
    before = memory.get_memory_info("GPU:0")["current"] / 2**20 if on_gpu else _resident("VmRSS")
    made = recipe(net, int(batch))
    ours(replace(made, privacy=Privacy(1.0, 1.0)) if kind == "dp" else made, [part])
    print((memory.get_memory_info("GPU:0")["peak"] / 2**20 if on_gpu else _resident("VmHWM")) - before)
