"""`check_private` refuses models whose per-record losses depend on other records or change state elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf
from tensorflow import keras
from trainings import layered

from bench.dp.optimizer import check_private


def assert_refused(model: Any, match: str) -> None:
    x = tf.random.stateless_uniform((3, *model.input_shape[1:]), [1, 2])
    with pytest.raises(ValueError, match=match):
        check_private(model, lambda p: tf.reduce_sum(tf.square(model(p, training=True)), -1), x)


@keras.utils.register_keras_serializable("test_check_private")
class AddsLoss(keras.layers.Layer):  # type: ignore[misc]
    """A layer that adds a loss, as the VAE examples of Keras add the KL divergence."""

    def call(self, h: Any) -> Any:
        self.add_loss(tf.reduce_mean(tf.square(h)))
        return h


class KeepsCount(keras.layers.Layer):  # type: ignore[misc]
    """A layer with a non-trainable weight."""

    def build(self, shape: Any) -> None:
        self.count = self.add_weight("count", (), trainable=False)

    def call(self, h: Any) -> Any:
        return h


MIXING = {
    "minus the batch mean": lambda h: h - tf.reduce_mean(h, 0),
    "minus the batch mean, its gradient stopped": lambda h: h - tf.stop_gradient(tf.reduce_mean(h, 0)),
    "a running sum": lambda h: tf.cumsum(h, 0),
    "a running sum from the end": lambda h: tf.cumsum(h, 0, reverse=True),
    "the neighbour": lambda h: h + tf.roll(h, 1, 0),
    "softmax over records": lambda h: tf.nn.softmax(h, 0),
}


@pytest.mark.parametrize("mix", MIXING.values(), ids=MIXING.keys())
def test_a_layer_that_mixes_records_is_refused(mix: Any) -> None:
    assert_refused(layered(keras.layers.Dense(5), keras.layers.Lambda(mix), keras.layers.Dense(2)), "mixes records")


def test_a_model_that_mixes_the_models_of_a_stack_is_refused() -> None:
    def losses(x: Any) -> Any:
        return tf.reduce_sum(tf.square(x), -1)

    x = tf.random.stateless_uniform((2, 3, 4), [1, 2])
    model = layered(keras.layers.Dense(1))
    check_private(model, losses, x)
    with pytest.raises(ValueError, match="mixes records"):
        check_private(model, lambda p: losses(p - tf.reduce_mean(p, 0)), x)


def test_layers_that_do_not_mix_records_pass() -> None:
    def check(*layers: Any) -> None:
        model = layered(*layers)
        x = tf.random.stateless_uniform((3, 4), [1, 2])
        check_private(model, lambda p: tf.reduce_sum(tf.square(model(p, training=True)), -1), x)

    keras.utils.set_random_seed(1)
    check(keras.layers.Dense(5), keras.layers.LayerNormalization(), keras.layers.Dense(2))
    check(keras.layers.Dense(5), keras.layers.Dropout(0.5), keras.layers.GaussianNoise(0.1), keras.layers.Dense(2))


def test_batch_statistics_side_losses_and_frozen_weights_are_refused() -> None:
    dense = keras.layers.Dense
    assert_refused(layered(dense(5), keras.layers.BatchNormalization(), dense(2)), "batch means")
    nested = keras.Sequential([keras.layers.BatchNormalization(center=False, scale=False)])
    assert_refused(layered(dense(5), nested, dense(2)), "batch means")
    assert_refused(layered(dense(5), AddsLoss(), dense(2)), "add_loss")
    assert_refused(layered(dense(5, kernel_regularizer="l2"), dense(2)), "add_loss")
    assert_refused(layered(dense(5), KeepsCount(), dense(2)), "outside of the noised step")


def test_a_scalar_loss_is_refused_before_training() -> None:
    model = layered(keras.layers.Dense(2))
    with pytest.raises(ValueError, match="one number per record"):
        check_private(model, lambda p: tf.reduce_mean(model(p)), tf.ones([3, 4]))
