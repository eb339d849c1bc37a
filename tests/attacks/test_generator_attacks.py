"""Attacks on generators and encoders equal naive implementations and stay finite."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cached_trainings import cached_trainings  # noqa: F401 - an autouse fixture
from dp_accounting import NonPrivateDpEvent
from generator_plays import ENCODER, GENERATOR, attack, challenged, noise, toy_release
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.neighbors import KernelDensity

from attacks import code_reconstruction, nearest_sample, vae_reconstruction
from bench.conformance import toy_releases
from bench.core.dataset import Examples, Split
from bench.core.errors import UserError
from bench.core.release import Release
from bench.dp.networks import Published, mapping
from bench.games import MEMBERSHIP
from bench.models.code_decoder import trained_decoder
from bench.models.reference_generator import reference_decoder
from bench.models.vae_generator import generator


def fixed_generator(data: Split, n: int) -> tuple[Release, NDArray[Any]]:
    """A release whose generator returns n fixed records, and these records, flat."""
    made = toy_releases.generator(toy_releases.generator_records(data, True))(n, 5)
    return Release(NonPrivateDpEvent(), generate=lambda *_: made), made.x.reshape(n, -1).astype(np.float64)


def test_nearest_sample_equals_a_loop_over_all_pairs() -> None:
    data = noise()
    targets, _, public = challenged(data)
    release, made = fixed_generator(data, 50)
    slow = [-np.log(min(np.linalg.norm(row.ravel() - other) for other in made)) for row in targets.records.x]
    assert np.allclose(attack("nearest_sample", release, targets, public, calibrated=False), slow, rtol=1e-6)


def test_domias_equals_the_ratio_of_two_kernel_densities() -> None:
    data = noise()
    targets, _, public = challenged(data)
    release, made = fixed_generator(data, 50)
    x, known = targets.records.x.reshape(-1, 16).astype(np.float64), public.x.reshape(-1, 16).astype(np.float64)
    _, values, directions = np.linalg.svd(known - known.mean(0), full_matrices=False)
    white = directions[:4].T / (values[:4] / np.sqrt(len(known)))

    def density(of: NDArray[Any]) -> NDArray[Any]:
        points = (of - known.mean(0)) @ white
        width = np.sqrt(points.var(0).mean()) * len(points) ** (-1 / 8)
        fitted = KernelDensity(bandwidth=width).fit(points)
        return np.asarray(fitted.score_samples((x - known.mean(0)) @ white))

    found = attack("domias", release, targets, public, components=4)
    assert np.allclose(found, density(made) - density(known), atol=1e-6)


@pytest.mark.parametrize("log", [False, True])
def test_monte_carlo_equals_a_count_of_near_samples(log: bool) -> None:
    data = noise()
    targets, _, public = challenged(data)
    release, made = fixed_generator(data, 50)
    known = public.x.reshape(-1, 16).astype(np.float64)
    directions = np.linalg.svd(known - known.mean(0), full_matrices=False)[2][:5].T

    def distances(part: Examples) -> NDArray[Any]:
        return np.asarray(cdist(part.x.reshape(-1, 16) @ directions, made @ directions))

    epsilon = np.median(distances(targets.known).min(1))
    distance = distances(targets.records)
    slow = np.where(distance <= epsilon, -np.log(distance / epsilon) if log else 1.0, 0).mean(1)
    assert len(np.unique(slow)) > 5
    assert np.allclose(attack("monte_carlo", release, targets, public, components=5, log=log), slow, atol=1e-6)


def smooth_decoder() -> Published:
    """Decodes (n, 3 latent + 3 labels) to records (n, 4, 4, 1)."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((6, 16)).astype(np.float32)
    model = tf.keras.Sequential(
        [
            tf.keras.Input((6,)),
            tf.keras.layers.Lambda(lambda codes: tf.sigmoid(codes @ kernel)),
            tf.keras.layers.Reshape((4, 4, 1)),
        ]
    )
    return Published(model, mapping(model), labels=3)


def test_the_search_of_latent_codes_equals_keras_adam_from_the_nearest_draw() -> None:
    """Compares the least error of one record from one start with that of Keras' Adam."""
    import tensorflow as tf

    decode, rng = smooth_decoder(), np.random.default_rng(1)
    record = Examples(rng.random((1, 4, 4, 1), np.float32), np.array([2]), 3)
    z = np.random.default_rng(3).standard_normal((20, 3), np.float32)
    codes = np.concatenate([z, np.tile(np.float32([0, 0, 1]), (20, 1))], axis=1)
    errors = np.square(decode(codes) - record.x).sum((1, 2, 3))
    start = vae_reconstruction.nearest_draws(decode, record, np.random.default_rng(3), 20)
    assert np.array_equal(start[0], codes[errors.argmin()])
    code, optimizer, met = tf.Variable(start[:, :3]), tf.keras.optimizers.legacy.Adam(0.1, epsilon=1e-8), []
    for _ in range(15):
        with tf.GradientTape() as tape:
            error = tf.reduce_sum(tf.square(decode.model(tf.concat([code, start[:, 3:]], 1)) - record.x))
        met.append(float(error))
        optimizer.apply_gradients([(tape.gradient(error, code), code)])
    found = vae_reconstruction.least_errors(decode, start, record.x, 15, 0.1)
    assert met[-1] < 0.95 * met[0]
    assert found[0] == pytest.approx(min(met), rel=1e-3)


def test_records_of_the_decoder_are_reconstructed_independently_of_one_another() -> None:
    decode = smooth_decoder()
    rng = np.random.default_rng(2)
    y = rng.integers(0, 3, 30)
    codes = np.concatenate([rng.standard_normal((30, 3)), np.eye(3)[y]], axis=1, dtype=np.float32)
    records = Examples(decode(codes), y, 3)
    start = vae_reconstruction.nearest_draws(decode, records, rng, 20)
    errors = vae_reconstruction.least_errors(decode, start, records.x, 200, 0.05)
    first = vae_reconstruction.least_errors(decode, start, records.x, 1, 0.05)
    assert (errors < 0.05 * first).all()
    alone = vae_reconstruction.least_errors(decode, start[7:8], records.x[7:8], 200, 0.05)
    assert alone[0] == pytest.approx(errors[7], rel=0.05, abs=1e-7)


def test_code_reconstruction_equals_the_error_of_the_decoder() -> None:
    data = noise()
    targets, _, public = challenged(data)
    encode = toy_releases.encoder(data, leak=True)
    release = Release(NonPrivateDpEvent(), encode=encode, retrain=lambda *_: pytest.fail("was called"))
    found = attack("code_reconstruction", release, targets, public, steps=5, calibrated=False)
    decode = trained_decoder(encode, public, code_reconstruction.derive(0, "release"), steps=5)
    pairs = zip(decode(encode(targets.records.x)), targets.records.x, strict=True)
    slow = [-np.log(np.square(reconstructed - x).sum()) for reconstructed, x in pairs]
    assert np.allclose(found, slow, rtol=1e-4)


def test_references_are_trained_on_the_public_records_of_the_challenge(monkeypatch: pytest.MonkeyPatch) -> None:
    """With public targets, the public part of the adversary excludes them: no reference may be trained on targets."""
    data = noise()
    challenge = MEMBERSHIP.challenge(data, np.random.default_rng(0), "public")
    used: list[Examples] = []

    def retrain(private: Examples, seed: int, public: Examples | None = None) -> Release:
        assert public is not None
        used.extend([private, public])
        return Release(NonPrivateDpEvent(), encode=toy_releases.encoder(data, leak=False))

    def reference(public: Examples, seed: int) -> Published:
        used.append(public)
        return reference_decoder(public, seed, steps=2)

    for module in (nearest_sample, vae_reconstruction):
        monkeypatch.setattr(module, "reference_decoder", reference)
    release = replace(toy_release(data, leak=True), retrain=retrain)
    for name in ("nearest_sample", "vae_reconstruction", "code_reconstruction"):
        attack(name, release, challenge.targets, challenge.public)
    assert len(used) == 4
    assert all(part is challenge.public for part in used)


@pytest.mark.parametrize("name", [*GENERATOR, *ENCODER])
def test_scores_of_a_collapsed_release_are_finite(name: str) -> None:
    """A generator with one picture, which is a target record, and a constant encoder."""
    import tensorflow as tf

    data = noise()
    targets, _, public = challenged(data)
    one = targets.records.x[0]
    same = tf.keras.layers.Lambda(lambda codes: 0 * codes[:, :1, None, None] + one)
    model = tf.keras.Sequential([tf.keras.Input((5,)), same])

    def encode(x: NDArray[Any]) -> NDArray[Any]:
        return np.zeros((len(x), 3), np.float32)

    release = Release(
        NonPrivateDpEvent(),
        encode=encode,
        decode=Published(model, mapping(model), labels=3),
        generate=lambda n, _: Examples(np.tile(one, (n, 1, 1, 1)), np.arange(n) % 3, 3),
        retrain=lambda *_: Release(NonPrivateDpEvent(), encode=encode),
    )
    assert np.isfinite(attack(name, release, targets, public)).all()


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("nearest_sample", {"samples": 0}),
        ("domias", {"samples": 0}),
        ("domias", {"components": 0}),
        ("monte_carlo", {"samples": -1}),
        ("monte_carlo", {"components": 0}),
        ("vae_reconstruction", {"draws": 0}),
        ("vae_reconstruction", {"steps": 0}),
        ("code_distance", {"components": 0}),
        ("code_reconstruction", {"steps": 0}),
    ],
)
def test_an_option_out_of_range_is_refused_in_one_sentence(name: str, option: dict[str, int]) -> None:
    data = noise()
    targets, _, public = challenged(data)
    with pytest.raises(UserError, match="at least 1") as caught:
        attack(name, toy_release(data, leak=True), targets, public, **option)
    assert "\n" not in str(caught.value)


def test_the_reference_generates_records_of_the_requested_label(digits: Split) -> None:
    """The mean of the generated records of a class is closest to the public mean of this class."""
    made = generator(reference_decoder(digits.public, 0), np.full(10, 0.1))(200, 1)
    means = np.stack([digits.public.x[digits.public.y == k].mean(0).ravel() for k in range(10)])
    generated = np.stack([made.x[made.y == k].mean(0).ravel() for k in range(10)])
    assert (cdist(generated, means).argmin(1) == np.arange(10)).mean() >= 0.9
