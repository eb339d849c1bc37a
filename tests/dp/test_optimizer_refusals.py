"""The DP optimizer refuses losses and gradients that would break the accounted sensitivity."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from optimizers import dp_optimizer, vector_loss
from tensorflow import keras
from tensorflow_privacy import VectorizedDPKerasAdamOptimizer, VectorizedDPKerasSGDOptimizer

from bench.dp.clipping import Site
from bench.dp.optimizer import PoissonDPAdam, PoissonDPSGD


def test_sites_must_be_those_of_the_variables() -> None:
    made, (v, w) = dp_optimizer(), (tf.Variable(tf.zeros([2, 2])), tf.Variable(tf.zeros([2])))
    with tf.GradientTape() as tape:
        z = tf.matmul(tf.ones([3, 2]), v) + w
        loss = tf.reduce_sum(z, -1)
    found = [Site(v, w, tf.ones([3, 2]), z)]
    with pytest.raises(ValueError, match="trained by noise"):
        made.clipped_sums(loss, [v, w, tf.Variable(0.0)], tape, sites=found)


def test_a_reduced_loss_is_refused() -> None:
    w = tf.Variable([0.0, 0.0])
    reference = VectorizedDPKerasSGDOptimizer(
        l2_norm_clip=1e-3, noise_multiplier=0.0, num_microbatches=1, learning_rate=1.0
    )
    reference.minimize(lambda: tf.reduce_mean(vector_loss(w)), [w])  # trains without a warning
    assert np.linalg.norm(w.numpy()) == pytest.approx(1e-3, rel=1e-4)  # the sum is clipped, not each record
    made = dp_optimizer()
    for reduced in (
        lambda: tf.reduce_mean(vector_loss(w)),
        lambda: tf.reduce_mean(vector_loss(w), keepdims=True)[None],
    ):
        with pytest.raises(ValueError, match="one number per record"):
            made.minimize(reduced, [w])
    stacked = dp_optimizer(noise_keys=[12, 34])
    with pytest.raises(ValueError, match=r"\(models, n\)"):
        stacked.minimize(lambda: vector_loss(w), [w])
    with pytest.raises(ValueError, match="2 models"):
        stacked.minimize(lambda: tf.stack([vector_loss(w)] * 3), [w])
    assert made.iterations.numpy() == stacked.iterations.numpy() == 0


def test_microbatches_are_refused_because_they_double_the_sensitivity() -> None:
    def moved(made: Any, scale: float) -> float:
        """The change of the sum when record 1 is removed (its loss becomes 0), for losses w * x."""
        ends = []
        for kept in (1.0, 0.0):
            w = tf.Variable(0.0)
            x = tf.constant([-10.0, 30.0, 5.0, 5.0]) * tf.constant([1.0, kept, 1.0, 1.0])
            with tf.GradientTape(persistent=True) as tape:
                losses = w * x
            [(gradient, _)] = made()._compute_gradients(losses, [w], tape=tape)
            ends.append(float(gradient) * scale)
        return abs(ends[0] - ends[1])

    def tensorflow_privacy() -> Any:
        return VectorizedDPKerasSGDOptimizer(
            l2_norm_clip=1.0, noise_multiplier=0.0, num_microbatches=2, learning_rate=1.0
        )

    assert moved(tensorflow_privacy, 2) == pytest.approx(2.00, abs=1e-4)
    assert moved(dp_optimizer, 1) == pytest.approx(1.00, abs=1e-4)
    for few in (1, 2, 4):
        with pytest.raises(ValueError, match="double the sensitivity"):
            dp_optimizer(num_microbatches=few)


@pytest.mark.parametrize(
    ("kind", "base"), [(PoissonDPSGD, VectorizedDPKerasSGDOptimizer), (PoissonDPAdam, VectorizedDPKerasAdamOptimizer)]
)
def test_raw_gradients_are_refused_before_and_after_a_step(kind: Any, base: Any) -> None:
    w = tf.Variable([0.5, -0.5])
    raw = tf.constant([1e6, 1e6])
    made = dp_optimizer(kind)
    assert isinstance(made, base)
    with pytest.raises(ValueError, match="not clipped and noised"):
        made.apply_gradients([(raw, w)])
    made.minimize(lambda: vector_loss(w), [w])
    before = w.numpy()
    for pairs in ([(raw, w)], []):
        with pytest.raises(ValueError, match="not clipped and noised"):
            made.apply_gradients(pairs)
    [(noised, _)] = made._compute_gradients(lambda: vector_loss(w), [w])
    with pytest.raises(ValueError, match="not clipped and noised"):
        made.apply_gradients([(noised + raw, w)])
    assert np.array_equal(w.numpy(), before)
    reference = base(l2_norm_clip=1.0, noise_multiplier=0.0, learning_rate=1.0)
    reference.minimize(lambda: vector_loss(w), [w], tape=tf.GradientTape(persistent=True))
    before = w.numpy()
    reference.apply_gradients([(raw, w)])  # the mutant: TensorFlow Privacy accepts raw gradients
    assert not np.array_equal(w.numpy(), before)


def test_training_through_art_is_refused() -> None:
    from art.estimators.classification import TensorFlowV2Classifier

    model = keras.Sequential([keras.layers.Dense(2, input_shape=(3,))])
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    x, y = np.zeros((8, 3), np.float32), np.eye(2, dtype=np.float32)[[0, 1] * 4]
    made = dp_optimizer(noise_multiplier=1.0)
    with tf.GradientTape(persistent=True) as tape:
        losses = tf.reduce_sum(model(x), -1)
    made.minimize(losses, model.trainable_variables, tape=tape)  # from now on TensorFlow Privacy would not refuse ART
    before = [w.copy() for w in model.get_weights()]
    art = TensorFlowV2Classifier(model=model, nb_classes=2, input_shape=(3,), loss_object=loss, optimizer=made)
    with pytest.raises(ValueError, match="never trained through ART"):
        art.fit(x, y, batch_size=4, nb_epochs=1)
    assert all(map(np.array_equal, before, model.get_weights()))


@pytest.mark.parametrize("kind", [PoissonDPSGD, PoissonDPAdam])
def test_rebuilding_from_a_configuration_is_refused(kind: Any) -> None:
    with pytest.raises(TypeError, match="make a new one"):
        kind.from_config({"learning_rate": 0.1, "name": "x"})
