"""Bugs that the linter must find, in a defense or in the optimizer, and more of the same kind.

A table of short, independent examples that is read as a whole: therefore longer than 300 lines.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np

from bench.core.component import defense
from bench.core.dataset import Examples, record_keys
from bench.core.randomness import derive
from bench.core.release import Release
from bench.dp import accounting, training_loop, training_program
from bench.dp import networks as nets
from bench.dp.tensorflow_setup import tensorflow
from bench.dp.train import train

from .bug import (
    CLAIMS,
    Bug,
    dense_gradients,
    halves,
    noised,
    parted,
    recipe,
    released,
    sampled_batches,
    sampling,
    small,
)

# Bugs in the optimizer


def no_noise() -> AbstractContextManager[Any]:
    return noised(lambda before, after, query: before)


def divided_noise() -> AbstractContextManager[Any]:
    return noised(lambda before, after, query: before + (after - before) / 36)


def same_noise() -> AbstractContextManager[Any]:
    """All models get the noise of the first."""
    return noised(lambda before, after, query: before + (after - before)[:1])


def doubled() -> AbstractContextManager[Any]:
    from bench.dp import clipping

    right = clipping.clip_factors
    return patch.object(clipping, "clip_factors", lambda squares, clip: right(squares, 2 * clip))


def in_pairs() -> AbstractContextManager[Any]:
    """num_microbatches at half of the batch: the mean gradient of every two records is clipped, in either engine."""
    import tensorflow as tf

    from bench.dp import optimizer

    right = optimizer.vectorized_clipped_sums

    def means(gradient: Any) -> Any:
        odd = tf.shape(gradient)[0] % 2
        padded = tf.concat([gradient, tf.zeros_like(gradient[:odd])], 0)
        return tf.reduce_mean(tf.reshape(padded, (-1, 2, *gradient.shape[1:])), 1)

    def vectorized(gradients: Any, clip: Any, *rest: Any) -> Any:
        return [2 * total for total in right([means(g) for g in gradients], clip, *rest)]

    def onepass(loss: Any, sites: Any, tape: Any, clip: Any) -> Any:
        gradients = dense_gradients(sites, tape.gradient(loss, [s.z for s in sites]))
        return vectorized(gradients, clip, loss.shape.rank == 2)

    both = {"vectorized_clipped_sums": vectorized, "ghost_clipped_sums": onepass}
    return patch.multiple(optimizer, **both)


@contextmanager
def own_size() -> Iterator[None]:
    """Sums and noise are divided by the actual batch size."""
    import tensorflow as tf

    from bench.dp import optimizer

    sizes: list[Any] = []
    right = training_program.clipped_sums_function

    def clipped(*arguments: Any) -> Any:
        plain = right(*arguments)

        def counted(bx: Any, by: Any, draw: Any, present: Any) -> Any:
            if not (sizes and sizes[0].graph in _outer(present.graph)):  # of a batch in pieces, the first piece
                sizes[:] = [tf.maximum(tf.reduce_sum(tf.cast(present, tf.float32), -1), 1.0)]
            return plain(bx, by, draw, present)

        return counted

    def divisor(made: Any, rank: int) -> Any:
        [size] = sizes
        return size if size.shape.rank == 0 else tf.reshape(size, [-1, *[1] * (rank - 1)])

    with (
        patch.object(training_program, "clipped_sums_function", clipped),
        patch.object(optimizer.PoissonDPAdam, "divisor", divisor),
    ):
        yield


def _outer(graph: Any) -> list[Any]:
    """The outer graphs of a graph."""
    found = []
    while graph := getattr(graph, "outer_graph", None):
        found.append(graph)
    return found


def second_pass() -> AbstractContextManager[Any]:
    """The clip factor is from one forward pass, the gradient from another with other noise inputs."""
    import tensorflow as tf

    from bench.dp import clipping

    def clipped(asked: Any, forward: Any, optimizer: Any, layers: Any) -> Any:
        variables = [w for layer in layers for w in layer.trainable_weights]

        def twice(bx: Any, by: Any, draw: Any, present: Any) -> Any:
            with tf.GradientTape() as tape:
                losses, a, z = forward(bx, by, draw)
                losses = tf.where(present, losses, 0.0)
            sites = [clipping.site(*each) for each in zip(layers, a, z, strict=True)]
            gradients = dense_gradients(sites, tape.gradient(losses, z))
            squares = tf.add_n([clipping._square_of_record(g, 1) for g in gradients])
            factors = tf.where(present, clipping.clip_factors(squares, optimizer._l2_norm_clip), 0.0)
            with tf.GradientTape() as tape:
                again, _, _ = forward(bx, by, 3.0 * tf.reverse(draw, [-1]))
                total = tf.reduce_sum(factors * again)
            return tape.gradient(total, variables)

        return twice

    return patch.object(training_program, "clipped_sums_function", clipped)


def last_layer_alone() -> AbstractContextManager[Any]:
    return noised(lambda before, after, query: after if before.shape[-1] == 2 else before)


def square_root() -> AbstractContextManager[Any]:
    """The standard deviation of the noise is replaced by its square root."""
    return noised(lambda before, after, query: before + (after - before) / np.sqrt(np.maximum(query._stddev, 1e-9)))


def layer_by_layer() -> AbstractContextManager[Any]:
    """Each layer is clipped to the whole clip."""
    from bench.dp import clipping

    def shares(networks: Any, squares: Any, clip: Any) -> Any:
        return [clipping.clip_factors(square, clip) for square in squares]

    return patch.object(clipping, "clip_shares", shares)


def fixed_noise() -> AbstractContextManager[Any]:
    """The streams of noise do not depend on the seed."""
    import tensorflow as tf

    from bench.dp import optimizer

    right = optimizer.SeededGaussianSumQuery.__init__

    def wrong(query: Any, clip: Any, stddev: Any, keys: Any, models: int) -> None:
        fixed = np.arange(np.size(keys)).reshape(np.shape(keys))
        right(query, clip, stddev, tf.constant(fixed, keys.dtype), models)

    return patch.object(optimizer.SeededGaussianSumQuery, "__init__", wrong)


def every_step_alike() -> AbstractContextManager[Any]:
    from bench.dp import optimizer

    right = optimizer.SeededGaussianSumQuery.get_noised_result

    def wrong(query: Any, sums: Any, state: Any) -> Any:
        query.step = 0
        return right(query, sums, state)

    return patch.object(optimizer.SeededGaussianSumQuery, "get_noised_result", wrong)


def clipped_mean() -> AbstractContextManager[Any]:
    """The mean over the batch is clipped instead of the gradient of each record."""
    import tensorflow as tf

    from bench.dp import optimizer

    def onepass(loss: Any, sites: Any, tape: Any, clip: Any) -> Any:
        sums = [tf.reduce_sum(g, 0) for g in dense_gradients(sites, tape.gradient(loss, [s.z for s in sites]))]
        return list(tf.clip_by_global_norm(sums, clip)[0])

    return patch.object(optimizer, "ghost_clipped_sums", onepass)


def fixed_size() -> AbstractContextManager[Any]:
    return sampled_batches(lambda rate, n, rng, t: rng.permutation(n)[: max(1, round(rate * n))])


def shuffled() -> AbstractContextManager[Any]:
    """Epochs: all records in an order that is drawn once."""

    def draw(rate: float, n: int, rng: np.random.Generator, t: int) -> Any:
        size = max(1, round(rate * n))
        return (np.random.default_rng(0).permutation(n)[np.arange(t * size, (t + 1) * size) % max(1, n)])[:n]

    return sampled_batches(draw)


def twice_in_a_batch() -> AbstractContextManager[Any]:
    return sampled_batches(lambda rate, n, rng, t: rng.integers(0, max(1, n), rng.binomial(n, rate)))


# Bugs in a defense


@defense("scaled", **CLAIMS)
def scaled(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Scales by the private maximum, for training only."""
    rescaled = Examples(private.x / private.x.max(), private.y, private.classes)
    return small(rescaled, public, seed=seed, epsilon=epsilon)


@defense("scaled_outside", **CLAIMS)
def scaled_outside(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Scales by the private maximum, in the predictor too."""
    top, made = private.x.max(), scaled(private, public, seed=seed, epsilon=epsilon)
    return Release(made.dp_event, predict=lambda x: made.predict(x / top))


@defense("own_loop", **CLAIMS)
def own_loop(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """TensorFlow Privacy's optimizer in a hand-written loop, with half as many microbatches as records."""
    tf = tensorflow()
    from tensorflow_privacy import VectorizedDPKerasSGDOptimizer

    one = recipe(private, len(private), epsilon)
    model = training_loop.build(one.net, [np.random.default_rng(seed)])
    loss = tf.keras.losses.SparseCategoricalCrossentropy(True, reduction="none")
    tf.random.set_seed(seed)
    optimizer = VectorizedDPKerasSGDOptimizer(
        l2_norm_clip=1.0, noise_multiplier=one.privacy.noise_multiplier, num_microbatches=18, learning_rate=0.1
    )
    rng = np.random.default_rng(seed)
    for _ in range(one.steps):
        rows = rng.permutation(len(private))[:36]
        with tf.GradientTape(persistent=True) as tape:
            losses = loss(private.y[rows], model(private.x[rows]))
        optimizer.minimize(losses, model.trainable_weights, tape=tape)
    dp_event = accounting.training_event(one.rate, one.privacy.noise_multiplier, one.steps)
    return Release(dp_event, predict=nets.mapping(model, "softmax"))


@defense("class_by_class", **CLAIMS)
def class_by_class(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """One training per half, each with the seed of the release."""
    parts, one = halves(private), recipe(private, len(private), epsilon)
    fits = [train(one, [private[rows]], [derive(seed, "half")])[0] for rows in parts]
    return released(fits, one.net, accounting.parallel([fit.dp_event for fit in fits], parts))


@defense("overlapping", **CLAIMS)
def overlapping(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Parts that share records, accounted as if they shared none."""
    one, third = recipe(private, len(private), epsilon), np.array([key[0] % 3 for key in record_keys(private)])
    fits = train(one, [private[third != k] for k in range(2)], [derive(seed, k) for k in range(2)])
    return released(fits, one.net)


@defense("doubled_records", **CLAIMS)
def doubled_records(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Every record twice, once reversed, as in data augmentation."""
    x, y = np.concatenate([private.x, private.x[:, ::-1]]), np.tile(private.y, 2)
    return small(Examples(x, y, private.classes), public, seed=seed, epsilon=epsilon)


@defense("fewer_steps", **CLAIMS)
def fewer_steps(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Four times as many steps as are accounted."""
    one = recipe(private, len(private), epsilon, steps=16)
    fits = train(one, [private], [derive(seed, "small")])
    return released(fits, one.net, accounting.training_event(one.rate, one.privacy.noise_multiplier, 4))


@defense("other_rate", **CLAIMS)
def other_rate(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Samples with five times the rate that is accounted."""
    one = recipe(private, len(private), epsilon, rate=1.0)
    fits = train(one, [private], [derive(seed, "small")])
    return released(fits, one.net, accounting.training_event(0.2, one.privacy.noise_multiplier, 4))


@defense("checkpoint", **CLAIMS)
def checkpoint(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """The better of two trainings by the private loss; both are accounted, the selection is not."""
    import dp_accounting as dp

    one = recipe(private, len(private), epsilon / 2)
    fits = [train(one, [private], [derive(seed, k)])[0] for k in range(2)]
    both = [released([fit], one.net) for fit in fits]
    right = [(made.predict(private.x).argmax(1) == private.y).mean() for made in both]
    return Release(dp.ComposedDpEvent([fit.dp_event for fit in fits]), predict=both[int(np.argmax(right))].predict)


@defense("remembering", **CLAIMS)
def remembering(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Predicts private records, which it keeps, with uniform probabilities."""
    made, known = small(private, public, seed=seed, epsilon=epsilon), {row.tobytes() for row in private.x}

    def predict(x: Any) -> Any:
        stored = np.array([row.tobytes() in known for row in np.asarray(x, np.float32)])
        return np.where(stored[:, None], 1 / private.classes, made.predict(x))

    return Release(made.dp_event, predict=predict)


@defense("filtered", publishes={"synthetic"}, private=True)
def filtered(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Synthetic records except those that are close to a private record."""
    made = sampling(private, public, seed=seed, epsilon=epsilon)
    z = np.random.default_rng(seed).standard_normal((100, 2), np.float32)
    x = 1 / (1 + np.exp(-made.decode(z)))
    distances = np.linalg.norm(x[:, None] - private.x[None], axis=2).min(1)
    kept = x[distances > 1e-3 * math.sqrt(x.shape[1])]
    return Release(made.dp_event, synthetic=Examples(kept, np.arange(len(kept)) % private.classes, private.classes))


@defense("shares", **CLAIMS)
def shares(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Predictions times the private shares of the classes."""
    made, prior = small(private, public, seed=seed, epsilon=epsilon), np.bincount(private.y, minlength=private.classes)
    return Release(made.dp_event, predict=lambda x: made.predict(x) * prior)


@defense("means", **CLAIMS)
def means(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Noised sums of features, with the sensitivity of one feature."""
    from bench.dp import gaussian_mechanism

    sigma = accounting.noise_multiplier(epsilon, accounting.delta_for(len(private)), 1.0, 1)
    sums = gaussian_mechanism.gaussian(private.x.sum(0), 1.0, sigma, np.random.default_rng(seed))
    event = accounting.training_event(1.0, sigma, 1)
    return Release(event, predict=lambda x: np.eye(private.classes)[(x @ sums > 0).astype(int)])


BAR = (
    Bug("no noise", small, no_noise),
    Bug("noise divided by the batch", small, divided_noise),
    Bug("doubled sensitivity", small, doubled),
    Bug("num_microbatches at half", small, in_pairs),
    Bug("num_microbatches at half, vectorized", small, in_pairs, (("engine", "vectorized"),)),
    Bug("num_microbatches at half, a loop of its own", own_loop),
    Bug("the same noise for each class", parted, same_noise),
    Bug("the same noise for each class, one by one", class_by_class),
    Bug("scaling by the private maximum", scaled),
    Bug("scaling by the private maximum, in the release", scaled_outside),
    Bug("a partial batch divided by its own size", small, own_size),
    Bug("second forward pass of a sampling layer", sampling, second_pass),
)

MORE = (
    Bug("noise on the last layer alone", small, last_layer_alone),
    Bug("the root of the noise", small, square_root),
    Bug("each layer clipped to the whole clip", small, layer_by_layer),
    Bug("the mean clipped, not the records", small, clipped_mean),
    Bug("a fixed noise seed", small, fixed_noise),
    Bug("the same noise in each step", small, every_step_alike),
    Bug("lots of a fixed size", small, fixed_size),
    Bug("shuffled epochs", small, shuffled),
    Bug("lots drawn with replacement", small, twice_in_a_batch),
    Bug("parts that overlap", overlapping),
    Bug("records used twice", doubled_records),
    Bug("fewer steps accounted than run", fewer_steps),
    Bug("another rate accounted", other_rate),
    Bug("the best by private accuracy", checkpoint),
    Bug("private records looked up later", remembering),
    Bug("synthetic records filtered by private ones", filtered),
    Bug("class counts in the clear", shares),
    Bug("sensitivity of one number for a vector", means),
)
