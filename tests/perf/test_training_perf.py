"""What DP costs over plain training, and what training many models as one saves: ratios, both sides in one run.

Run with `pytest tests/perf --benchmark-enable -s`; without it they are skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from bench import nets, training
from bench.data import Examples
from bench.nets import VAE, Autoencoder
from bench.training import Privacy, Recipe

PRIVATE = Privacy(1.0, 1.0)


@pytest.fixture(autouse=True)
def _on_demand(request: pytest.FixtureRequest) -> None:
    if not (request.config.getoption("benchmark_enable") or request.config.getoption("benchmark_only")):
        pytest.skip("a timing: pytest tests/perf --benchmark-enable")


def records(n: int, seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    return Examples(rng.random((n, 64)), np.zeros(n, np.int64), 10)


def stepper(recipe: Recipe, parts: list[Examples]) -> Callable[[], None]:
    """Twenty steps, traced and warm: what a training consists of, without its start."""
    tf = training.tensorflow()
    streams = [training._streams(k) for k in range(len(parts))]
    models = len(parts)
    model = nets.build(recipe.net, nets.Stacked(models) if models > 1 else nets.Single())
    x, y = training._pad(parts)
    rows = training._poisson_rows(recipe, [len(part) for part in parts], [s[1] for s in streams])
    step, iterations = training._step(recipe, model, models, x, y, streams)

    @tf.function
    def run(batches: Any) -> None:
        for t in tf.range(tf.shape(batches)[0]):
            step(batches[t])

    batches = tf.constant(rows)

    def twenty() -> None:
        run(batches)
        iterations.numpy()

    twenty()
    return twenty


def seconds(run: Callable[[], object]) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start


def ratio(benchmark: Any, slow: Callable[[], object], quick: Callable[[], object], rounds: int = 9) -> float:
    """Median of slow ÷ quick, the two in turn, so that a busy machine slows both."""
    pairs: list[float] = []
    benchmark.pedantic(lambda: pairs.append(seconds(slow) / seconds(quick)), rounds=rounds, iterations=1)
    benchmark.extra_info["ratio"] = median(pairs)
    print(f"\n{benchmark.name}: {median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})")
    return median(pairs)


def test_one_pass_dp_step_over_plain_step(benchmark: Any) -> None:
    recipe = Recipe(Autoencoder((64,), (128,), 16), 20, 0.256, 256.0, 1e-3)
    parts = [records(1000)]
    assert ratio(benchmark, stepper(replace(recipe, privacy=PRIVATE), parts), stepper(recipe, parts)) < 6


def test_reference_engine_over_one_pass(benchmark: Any) -> None:
    recipe = Recipe(Autoencoder((64,), (128,), 16), 20, 0.256, 256.0, 1e-3, privacy=PRIVATE)
    parts = [records(1000)]
    assert ratio(benchmark, stepper(replace(recipe, engine="vectorized"), parts), stepper(recipe, parts), 5) > 1


def test_ten_vaes_one_by_one_over_together(benchmark: Any) -> None:
    recipe = Recipe(VAE((64,), (64,), 8, "tanh"), 100, 0.5, 50.0, 0.01, privacy=PRIVATE)
    parts = [records(100, k) for k in range(10)]

    def one_by_one() -> None:
        for k, part in enumerate(parts):
            training.train(recipe, [part], [k])

    assert ratio(benchmark, one_by_one, lambda: training.train(recipe, parts, range(10)), 2) > 2
