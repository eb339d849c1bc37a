"""Recipes with a target epsilon, classifiers, and the encoder and decoder of autoencoders."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from trainings import SMALL_VAE, examples, recipe

from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.dp import accounting, networks, vae
from bench.dp.layers import Single
from bench.dp.networks import Autoencoder
from bench.dp.recipe import Privacy, private_training
from bench.dp.train import train
from bench.models.classifier import batch_rate, classify, standard, uniform


def test_private_training_reaches_its_target_epsilon() -> None:
    made = private_training(2.0, 1000, 0.5, 30, 0.7)
    assert made is not None
    assert made.l2_norm_clip == 0.7
    dp_event = accounting.claim(accounting.training_event(0.5, made.noise_multiplier, 30), 1000)
    assert 1.98 <= dp_event["epsilon"] <= 2.0
    assert private_training(float("inf"), 1000, 0.5, 30, 0.7) is None
    with pytest.raises(UserError, match="above 0"):
        private_training(0.0, 1000, 0.5, 30, 0.7)


def test_the_classifier_learns_and_predicts_probabilities() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 90)
    part = Examples((np.eye(3)[y] + 0.1 * rng.random((90, 3))) / 1.1, y, 3)
    found = classify(part, 1, standard(part, hidden=(8,), steps=60, learning_rate=0.05))
    probabilities = found.predict(part.x)
    assert probabilities.shape == (90, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert (probabilities.argmax(1) == y).mean() > 0.95
    assert accounting.describe(found.fit.dp_event) == "none"
    private = classify(part, 1, replace(standard(part, hidden=(8,), steps=3), privacy=Privacy(1.0, 2.0)))
    assert accounting.describe(private.fit.dp_event) == "Poisson, rate 1, 3 steps, noise multiplier 2"
    assert uniform(4)(part.x).tolist() == [[0.25] * 4] * 90
    assert [batch_rate(n, 50) for n in (0, 10, 200)] == [1, 1, 0.25]


def test_encoder_and_decoder_compose_to_the_autoencoder() -> None:
    part = examples()
    [fit] = train(recipe(Autoencoder((6,), (5,), 3)), [part], [1])
    encoder, decoder = networks.halves(Autoencoder((6,), (5,), 3), fit.weights)
    whole = networks.build(Autoencoder((6,), (5,), 3), Single())
    whole.set_weights(fit.weights)
    decode = networks.mapping(decoder, "sigmoid", (2, 3))
    pictures = decode(networks.mapping(encoder)(part.x))
    assert pictures.shape == (20, 2, 3)
    np.testing.assert_allclose(pictures.reshape(20, 6), networks.mapping(whole, "sigmoid")(part.x), atol=1e-6)
    assert networks.mapping(encoder)(part.x[:0]).shape == (0, 3)
    fitted = train(recipe(SMALL_VAE), [part], [1])[0]
    assert networks.mapping(vae.decoder(SMALL_VAE, fitted.weights))(np.zeros((4, 2))).shape == (4, 6)


def test_a_map_is_traced_once_for_any_number_of_records() -> None:
    from tensorflow import keras

    traced: list[object] = []
    x = keras.Input((3,))
    model = keras.Model(x, keras.layers.Lambda(lambda t: traced.append(t) or 2 * t)(x))
    traced.clear()
    double = networks.mapping(model)
    for n in (5, 1, 4097, 0):
        values = np.full((n, 3), 0.5)
        np.testing.assert_array_equal(double(values), 2 * values)
    assert len(traced) == 1
