"""Layers that ghost clipping supports, and its refusal of all others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from clipped_batches import (
    CLIP,
    batch,
    distance,
    release_batches,  # noqa: F401 - an autouse fixture
)
from tensorflow import keras
from trainings import layered

from bench.dp.clipping import Site, ghost_clipped_sums, ghost_layers, site, vectorized_clipped_sums


def test_a_layer_that_does_not_affect_the_loss_is_refused() -> None:
    made = batch("classifier", 1)
    with tf.GradientTape() as tape:
        loss = tf.zeros([2]) + tf.reduce_sum(made.variables[0])
    unconnected = Site(made.variables[0], made.variables[1], tf.zeros([2, 6]), tf.zeros([2, 5]))
    with pytest.raises(ValueError, match="does not affect the loss"):
        ghost_clipped_sums(loss, [unconnected], tape, CLIP)


class Tied(keras.layers.Dense):  # type: ignore[misc]
    """A dense layer that multiplies by its kernel twice."""

    def call(self, h: Any) -> Any:
        return tf.matmul(tf.matmul(h, self.kernel), self.kernel, transpose_b=True)


def test_an_unsupported_layer_is_named_and_the_vectorized_engine_suggested() -> None:
    twice = keras.layers.Dense(4, name="again")
    dense, conv = keras.layers.Dense, keras.layers.Conv2D

    def end() -> tuple[Any, Any]:
        return keras.layers.Flatten(), dense(2)

    unsupported = {
        "again": layered(twice, twice),
        "words": layered(keras.layers.Embedding(9, 3, name="words"), keras.layers.Flatten(), dense(2)),
        "scale": layered(dense(3), keras.layers.LayerNormalization(name="scale")),
        "tied": layered(Tied(4, name="tied")),
        "bent": layered(dense(3, activation="relu", name="bent")),
        "unbiased": layered(dense(3, use_bias=False, name="unbiased")),
        "inner": layered(keras.Sequential([dense(3)], name="inner")),
        "grouped": layered(conv(2, 2, groups=2, name="grouped"), *end(), shape=(4, 4, 2)),
        "dilated": layered(conv(2, 2, dilation_rate=2, name="dilated"), *end(), shape=(4, 4, 1)),
        "curved": layered(conv(2, 2, activation="tanh", name="curved"), *end(), shape=(4, 4, 1)),
        "oblong": layered(conv(2, (2, 3), name="oblong"), *end(), shape=(4, 4, 1)),
        "deep": layered(keras.layers.DepthwiseConv2D(2, name="deep"), *end(), shape=(4, 4, 1)),
    }
    for name, model in unsupported.items():
        with pytest.raises(ValueError, match=rf"'{name}'.*engine=vectorized"):
            ghost_layers(model)
    supported = layered(conv(2, 2, name="conv"), dense(3), *end(), shape=(4, 4, 1))
    assert next(layer.name for layer in ghost_layers(supported)) == "conv"


def test_dense_layers_on_sequences_are_clipped_over_all_rows_of_a_record() -> None:
    x = keras.Input((3, 4))
    model = keras.Model(x, keras.layers.Dense(2)(keras.layers.Dense(5)(x)))
    rows = tf.constant(np.random.default_rng(0).random((6, 3, 4)), tf.float32)
    view = keras.Model(x, [model.output, *(h.input for h in model.layers[1:]), *(h.output for h in model.layers[1:])])
    with tf.GradientTape(persistent=True) as tape:
        out, *values = view(rows)
        loss = tf.reduce_sum(tf.square(out), [1, 2])
    sites = [site(h, a, z) for h, a, z in zip(ghost_layers(model), values[:2], values[2:], strict=True)]
    known = vectorized_clipped_sums(tape.jacobian(loss, model.trainable_variables), CLIP)
    assert distance(ghost_clipped_sums(loss, sites, tape, CLIP), known) <= 1e-5
