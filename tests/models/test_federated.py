"""Federated training computes what the papers define: resumed steps, partitions, averages and selective sharing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from federations import SIGMAS, flat, small_federation

from bench.core.dataset import Examples, Split
from bench.core.errors import UserError
from bench.core.randomness import derive
from bench.dp import sampling, training_loop
from bench.dp.networks import Weights
from bench.dp.recipe import Privacy, Recipe
from bench.dp.tensorflow_setup import tensorflow
from bench.models.federated.plan import Plan, partition
from bench.models.federated.server import largest
from defenses.federated import federated


@pytest.mark.parametrize("privacy", [None, Privacy(0.5, 1.0)], ids=["plain", "dp"])
@pytest.mark.parametrize("models", [1, 2])
def test_steps_of_two_calls_equal_those_of_one(privacy: Privacy | None, models: int, digits: Split) -> None:
    recipe = Recipe(small_federation(digits).terms.net, 7, 0.1, 20.0, 0.1, privacy=privacy)
    parts, seeds = [digits.private, digits.public][:models], [1, 2][:models]
    ends = []
    for calls in ((7,), (3, 4)):
        training = training_loop.Training([recipe] * models, parts, seeds)
        for steps in calls:
            training.run(steps)
            training.set_weights(training.weights)
        assert training.steps == 7
        ends.append(flat(training.weights))
    assert np.array_equal(*ends)
    whole = training_loop.fit([recipe] * models, parts, seeds, "whole", None)
    assert np.array_equal(ends[0], flat([whole[f"w{i}"] for i in range(4)]))
    with pytest.raises(ValueError, match="8 steps would run, but 7 are accounted"):
        training.run(1)


def test_noise_is_not_reused_between_steps(digits: Split) -> None:
    """From the same weights and with a tiny clip, two steps differ by independent noise."""
    recipe = Recipe(small_federation(digits).terms.net, 2, 1.0, 1.0, 1.0, optimizer="sgd", privacy=Privacy(1e-3, 1e3))
    training = training_loop.Training([recipe], [digits.private], [1])
    start, moves = training.weights, []
    for _ in range(2):
        training.set_weights(start)
        training.run(1)
        moves.append(flat(training.weights) - flat(start))
    assert abs(np.corrcoef(*moves)[0, 1]) < SIGMAS / math.sqrt(len(moves[0]))


def test_clients_have_disjoint_records_of_few_classes(digits: Split) -> None:
    y = digits.private.y
    for plan in (Plan(), Plan(clients=20, classes_each=3), Plan(clients=1, classes_each=10)):
        rows = partition(y, 10, plan, 0)
        assert len(rows) == plan.clients
        assert sorted(np.concatenate(rows)) == list(range(len(y)))
        assert all(len(np.unique(y[shard])) <= plan.classes_each for shard in rows)
        assert all(np.array_equal(a, b) for a, b in zip(rows, partition(y, 10, plan, 0), strict=True))
    fewer = partition(y[:-1], 10, Plan(clients=20, classes_each=3), 0)
    for with_it, without in zip(partition(y, 10, Plan(clients=20, classes_each=3), 0), fewer, strict=True):
        assert np.array_equal(with_it[with_it < len(y) - 1], without)
    with pytest.raises(UserError, match="4 clients of 2 classes cannot hold 10"):
        partition(y, 10, Plan(clients=4), 0)


def test_training_equals_federated_averaging(digits: Split) -> None:
    """Compares with a naive loop over clients and steps that uses the same Poisson batches and seeds."""
    tf = tensorflow()
    fed = small_federation(digits, clients=3, classes_each=4)
    seed = derive(derive(fed.seed, "honest"), "clients")
    streams = [sampling.streams(derive(seed, k)).batches for k in range(3)]
    batches = [sampling.PoissonBatches([fed.rate], [len(p)], [rng]) for p, rng in zip(fed.shards, streams, strict=True)]
    weights, model = fed.start(), fed.terms.model()
    for _ in range(3):
        ends = []
        for part, drawn in zip(fed.shards, batches, strict=True):
            model.set_weights(weights)
            for _ in range(2):
                rows = drawn.rows(1)[0, 0]
                rows = rows[rows >= 0]
                with tf.GradientTape() as tape:
                    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(part.y[rows], model(part.x[rows]))
                    loss = tf.reduce_sum(losses) / fed.batch_size
                for w, gradient in zip(model.weights, tape.gradient(loss, model.weights), strict=True):
                    w.assign_sub(0.1 * gradient)
            ends.append(model.get_weights())
        weights = [np.mean(ws, 0) for ws in zip(*ends, strict=True)]
    np.testing.assert_allclose(flat(fed.trained()), flat(weights), rtol=0, atol=1e-5)
    assert np.abs(flat(weights) - flat(fed.start())).max() > 0.01


@pytest.mark.parametrize("clients", [1, 5])
def test_one_full_batch_step_per_round_equals_pooled_gradient_descent(clients: int, digits: Split) -> None:
    plan = {"clients": clients, "classes_each": 10 // clients, "local_steps": 1, "batch_size": 10**6, "rounds": 8}
    fed = small_federation(digits, **plan)
    assert fed.rate == 1
    n = len(digits.private)
    pooled = Examples(digits.private.x, digits.private.y, 11)
    central = training_loop.Training([Recipe(fed.terms.net, 8, 1.0, float(n), 0.1, optimizer="sgd")], [pooled], [1])
    central.set_weights([w[None] for w in fed.start()])
    central.run(8)
    np.testing.assert_allclose(flat(fed.trained()), flat(central.weights), rtol=0, atol=1e-5)


def test_the_global_model_learns(digits: Split) -> None:
    release = federated(digits.private, digits.public, seed=0, rounds=40, local_steps=10, hidden=(32,))
    assert release.predict
    assert (release.predict(digits.holdout.x).argmax(1) == digits.holdout.y).mean() > 0.75


@pytest.mark.parametrize("share", [0.1, 0.01])
def test_the_largest_changes_of_the_parameters_are_uploaded(share: float, digits: Split) -> None:
    whole, part = small_federation(digits), small_federation(digits, upload=share)
    total = len(flat(whole.start()))
    for full, sparse in zip(whole.updates(), part.updates(), strict=True):
        change = flat(sparse.received) - flat(sparse.sent)
        assert np.count_nonzero(change) <= round(share * total)
        if full.round == 1:  # later the global models differ
            other = flat(full.received) - flat(full.sent)
            kept = change != 0
            np.testing.assert_allclose(change[kept], other[kept], rtol=0, atol=1e-6)
            assert np.abs(other[~kept]).max() <= np.abs(other[kept]).min() + 1e-6


def test_the_largest_changes_of_the_parameters_are_downloaded(digits: Split) -> None:
    fed = small_federation(digits, download=0.25)
    honest = fed.honest_clients(0)
    before = [flat(weights) for weights in honest.local]
    new = [w + np.float32(0.01) * np.arange(w.size, dtype=np.float32).reshape(w.shape) for w in fed.start()]
    starts: list[Weights] = []
    honest.training.set_weights, honest.training.run = starts.append, lambda steps: None  # type: ignore[assignment]
    honest.answers(1, new)
    for k, local in enumerate(before):
        current = flat([w[k] for w in starts[0]])
        downloaded = current != local
        assert downloaded.sum() == pytest.approx(0.25 * len(local), abs=1)
        assert np.array_equal(current[downloaded], flat(new)[downloaded])
        moved = np.abs(flat(new) - local)
        assert moved[downloaded].min() >= moved[~downloaded].max() - 1e-6


def test_selective_sgd_learns(digits: Split) -> None:
    """Uploads and downloads a tenth of the parameters (Shokri and Shmatikov 2015, figure 6)."""
    options: dict[str, Any] = {"clients": 3, "classes_each": 10, "rounds": 40, "local_steps": 10, "hidden": (32,)}
    release = federated(digits.private, digits.public, seed=0, upload=0.1, download=0.1, **options)
    assert release.predict
    assert (release.predict(digits.holdout.x).argmax(1) == digits.holdout.y).mean() > 0.6


def test_a_sparse_update_has_the_largest_numbers() -> None:
    rng = np.random.default_rng(0)
    update = [rng.standard_normal((3, 4)).astype(np.float32), rng.standard_normal(5).astype(np.float32)]
    sparse = flat(largest(update, 0.3))
    assert sorted(np.flatnonzero(sparse)) == sorted(np.argsort(-np.abs(flat(update)))[:5])
    assert np.array_equal(sparse[sparse != 0], flat(update)[sparse != 0])
    assert largest(update, 1.0) is update
