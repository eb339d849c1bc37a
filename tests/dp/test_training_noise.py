"""Noise has the accounted scale, stacked models train as alone, and records reach no generator directly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2
from trainings import CLASSIFIER, CONVOLUTIONS, SMALL_VAE, TINY, examples, flat, one, recipe

from bench.core.dataset import Examples
from bench.dp import accounting, networks
from bench.dp.networks import GAN, Autoencoder
from bench.dp.recipe import Privacy
from bench.dp.train import train


def test_the_generator_of_a_gan_learns_from_records_only_through_the_discriminator() -> None:
    """All records are near one point: the generator's pictures approach it, with and without DP."""
    net = GAN((6,), (16,), 3)
    part = Examples(np.tile([0.95, 0.9, 0.95, 0.05, 0.1, 0.05], (200, 1)), np.zeros(200, int), 1)
    z = np.random.default_rng(0).standard_normal((50, 3))

    def pictures(privacy: Privacy | None, steps: int, **changed: Any) -> Any:
        made = recipe(net, **{"optimizer": "adam", "learning_rate": 0.01, "steps": steps, "batch_size": 100.0,
                              "momentum": 0.5, "privacy": privacy, **changed})  # fmt: skip
        [fit] = train(made, [part], [1])
        return networks.mapping(networks.generator(net, fit.weights))(z), fit

    before, _ = pictures(None, 1, learning_rate=1e-9)
    for privacy in (None, Privacy(1.0, 0.5)):
        after, fit = pictures(privacy, 300)
        assert np.abs(before.mean(0) - part.x[0]).mean() > 0.3
        assert np.abs(after.mean(0) - part.x[0]).mean() < 0.15
    assert fit.dp_event == accounting.training_event(0.5, 0.5, 300)
    # With a discriminator of noise only, the generator does not depend on the data set.
    other = Examples(1 - part.x, part.y, 1)
    made = recipe(net, privacy=Privacy(1e-12, 1e12), batch_size=100.0)
    first, second = (train(made, [records], [1])[0] for records in (part, other))
    np.testing.assert_allclose(flat(first), flat(second), rtol=0, atol=1e-6)


def test_noise_in_the_weights_has_the_accounted_scale() -> None:
    wide = Autoencoder((40,), (150,), 20)
    part = examples(5, shape=(40,))
    made = recipe(wide, steps=3, rate=1e-9, learning_rate=0.5, batch_size=8.0, privacy=Privacy(0.3, 1.7))
    noise = one(made, part) - one(replace(made, learning_rate=1e-30), part)

    def p(scale: float) -> float:
        square = float(np.sum(np.float64(noise) ** 2)) / (scale * 0.3 * 0.5 / 8 * 3**0.5) ** 2
        return 2 * float(min(chi2.cdf(square, noise.size), chi2.sf(square, noise.size)))

    assert noise.size > 10_000
    assert p(1.7) > TINY  # three independent steps; the same noise in every step would give 1.7 * 3 ** 0.5
    assert p(0.9 * 1.7) < TINY
    assert p(1.1 * 1.7) < TINY


def test_equal_seeds_are_refused() -> None:
    parts = [examples(), examples(seed=1)]
    for seeds in ([1, 1], [1], [1, 2, 3]):
        with pytest.raises(ValueError, match="a different seed"):
            train(recipe(), parts, seeds)


@pytest.mark.parametrize(
    ("net", "optimizer"),
    [
        (CLASSIFIER, "sgd"),
        (SMALL_VAE, "adam"),
        (replace(SMALL_VAE, classes=3), "sgd"),
        (GAN((6,), (5,), 2), "sgd"),
        (CONVOLUTIONS, "sgd"),
    ],
    ids=["classifier", "vae", "conditional vae", "gan", "convolutions"],
)
def test_stacked_models_train_as_alone_noise_included(net: Any, optimizer: str) -> None:
    made = recipe(net, optimizer=optimizer, learning_rate=0.02)
    parts = [examples(n, k, net.shape) for k, n in enumerate((20, 1, 0, 33))]
    seeds = [5, 6, 7, 8]
    stacked = train(made, parts, seeds)
    for fit, part, seed in zip(stacked, parts, seeds, strict=True):
        np.testing.assert_allclose(flat(fit), one(made, part, seed), rtol=0, atol=2e-6)


def test_the_same_seed_gives_the_same_weights_to_the_bit() -> None:
    parts = [examples(), examples(seed=1)]
    first, again, other = (train(recipe(SMALL_VAE), parts, seeds) for seeds in ([1, 2], [1, 2], [1, 3]))
    for k in range(2):
        assert np.array_equal(flat(first[k]), flat(again[k]))
    assert not np.allclose(flat(first[1]), flat(other[1]))
