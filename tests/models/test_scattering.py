"""Scattering features equal a naive implementation, do not mix records and are differentiable."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import keras

from bench.core.errors import UserError
from bench.dp import networks
from bench.models import scattering

SHAPES = {(28, 28, 1): (81, 7, 7), (8, 8, 1): (9, 4, 4), (32, 32, 3): (243, 8, 8), (16, 24, 2): (162, 4, 6)}


def pictures(shape: tuple[int, ...], n: int = 5) -> NDArray[np.float32]:
    """Random pictures, each with a black half, like the background of a digit."""
    x = np.random.default_rng(3).random((n, *shape)).astype(np.float32)
    x[:, :, : shape[1] // 2] = 0
    return x


def torus(sides: tuple[int, int], sigma: float, theta: float, xi: float, slant: float) -> NDArray[Any]:
    """A Gabor function, summed over its periodic copies."""
    out = np.zeros(sides, complex)
    for around in np.ndindex(5, 5):
        row, column = (np.arange(side) + side * (k - 2) for side, k in zip(sides, around, strict=True))
        row, column = np.meshgrid(row, column, indexing="ij")
        along, across = row * np.cos(theta) + column * np.sin(theta), column * np.cos(theta) - row * np.sin(theta)
        size = np.exp(-(along**2 + (slant * across) ** 2) / (2 * sigma**2)) * slant / (2 * np.pi * sigma**2)
        out += size * np.exp(1j * xi * along)
    return out


def circular(x: NDArray[Any], kernel: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.fft.ifft2(np.fft.fft2(x) * np.fft.fft2(kernel)))


def coarse(kernel: NDArray[Any], step: int) -> NDArray[Any]:
    """A real even kernel subsampled by `step`, without the frequencies that would alias."""
    spectrum = np.fft.fft2(kernel).real
    for axis, side in enumerate(kernel.shape):
        removed = [k for k in range(side) if side // (2 * step) <= k < side - side // (2 * step)] if step > 1 else []
        spectrum[(slice(None),) * axis + (removed,)] = 0
    small = np.zeros([side // step for side in kernel.shape])
    for row, column in np.ndindex(*kernel.shape):
        small[row % small.shape[0], column % small.shape[1]] += spectrum[row, column]
    return np.fft.ifft2(small).real


def naive(picture: NDArray[Any], scales: int) -> NDArray[Any]:
    """Scattering of one grey picture in float64: convolve at full size, take moduli, then subsample by 2^j."""
    step = 2**scales
    x = np.pad(picture.astype(float), step, mode="reflect")
    low = torus(x.shape, 0.8 * step / 2, 0, 0, 1)
    psi: list[list[NDArray[Any]]] = []
    for j in range(scales):
        psi.append([])
        for angle in range(8):
            args = (x.shape, 0.8 * 2**j, (3 - angle) * np.pi / 8)
            wave, hill = torus(*args, 3 * np.pi / 4 / 2**j, 0.5), torus(*args, 0, 0.5)
            psi[j].append(wave - wave.sum() / hill.sum() * hill)

    def average(u: NDArray[Any], j: int) -> NDArray[Any]:
        keep = step >> j
        return circular(u, coarse(low, 2**j)).real[::keep, ::keep][1:-1, 1:-1]

    first = [[np.abs(circular(x, kernel))[:: 2**j, :: 2**j] for kernel in psi[j]] for j in range(scales)]
    out = [average(x, 0), *(average(u, j) for j in range(scales) for u in first[j])]
    if scales == 2:
        out += [average(np.abs(circular(u, kernel))[::2, ::2], 1) for u in first[0] for kernel in psi[1]]
    return np.stack(out)


@pytest.mark.parametrize("shape", SHAPES)
def test_scattering_equals_the_naive_implementation(shape: tuple[int, ...]) -> None:
    x = pictures(shape, 2)
    got = scattering.scatter(tf.constant(x), None).numpy()
    assert got.shape == (2, *SHAPES[shape])
    assert scattering.scattered_shape(shape) == SHAPES[shape]
    scales = 1 if min(shape[:2]) < 16 else 2
    truth = np.stack([np.concatenate([naive(record[..., c], scales) for c in range(shape[2])]) for record in x])
    np.testing.assert_allclose(got, truth, atol=2e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_record_is_transformed_independently_of_the_others(shape: tuple[int, ...]) -> None:
    x = pictures(shape, scattering.PIECE + 3)
    before = scattering.scatter(tf.constant(x)).numpy()
    alone = np.concatenate([scattering.scatter(tf.constant(x[i : i + 1])).numpy() for i in (0, 5, len(x) - 1)])
    np.testing.assert_allclose(before[[0, 5, -1]], alone, atol=1e-4)  # the normalisation divides by small numbers
    x[1] = 100
    after = scattering.scatter(tf.constant(x)).numpy()
    assert not np.allclose(before[1], after[1])
    np.testing.assert_array_equal(np.delete(before, 1, 0), np.delete(after, 1, 0))


def test_groups_of_a_record_are_normalised_to_mean_0_and_variance_1() -> None:
    plain = scattering.scatter(tf.constant(pictures((28, 28, 1))), None).numpy().reshape(5, 27, -1)
    mean, variance = plain.mean(2, keepdims=True), plain.var(2, keepdims=True)
    out = scattering.scatter(tf.constant(pictures((28, 28, 1))), 27).numpy().reshape(5, 27, -1)
    np.testing.assert_allclose(out, (plain - mean) / np.sqrt(variance + 1e-5), atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_constant_picture_has_finite_features_and_gradients(value: float) -> None:
    x = tf.fill([2, 8, 8, 1], value)
    with tf.GradientTape() as tape:
        tape.watch(x)
        out = scattering.scatter(x)
        total = tf.reduce_sum(tf.square(out))
    assert np.isfinite(out).all()
    assert np.isfinite(tape.gradient(total, x)).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_match_finite_differences(shape: tuple[int, ...]) -> None:
    x = tf.constant(np.random.default_rng(1).random((3, *shape)), tf.float32)
    weights = np.random.default_rng(2).standard_normal(SHAPES[shape]).astype(np.float32)

    def score(pixels: Any) -> Any:
        return tf.reduce_sum(scattering.scatter(pixels, None) * weights, [1, 2, 3])

    with tf.GradientTape() as tape:
        tape.watch(x)
        scores = score(x)
    gradient = tape.gradient(scores, x).numpy()
    assert np.isfinite(gradient).all()
    assert (np.abs(gradient).max((1, 2, 3)) > 0).all()
    direction = np.random.default_rng(4).standard_normal((3, *shape)).astype(np.float32)
    slope = (score(x + 1e-2 * direction) - score(x - 1e-2 * direction)) / 2e-2
    np.testing.assert_allclose((gradient * direction).sum((1, 2, 3)), slope, rtol=0.05, atol=0.05)


def test_scattering_works_as_a_layer_and_on_arrays_stacks_and_empty_batches() -> None:
    x = pictures((8, 8, 1), 6)
    expected = scattering.scatter(tf.constant(x)).numpy()
    image = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten()(keras.layers.Lambda(scattering.scatter)(image))
    model = keras.Model(image, flat)
    assert model.output_shape == (None, 144)
    np.testing.assert_allclose(model(x), expected.reshape(6, -1), atol=1e-4)
    np.testing.assert_allclose(networks.mapping(scattering.scatter)(x), expected, atol=1e-4)
    stacked = scattering.scatter(tf.constant(x.reshape(2, 3, 8, 8, 1))).numpy()
    np.testing.assert_allclose(stacked, expected.reshape(2, 3, 9, 4, 4), atol=1e-4)
    assert scattering.scatter(tf.zeros([0, 8, 8, 1])).shape == (0, 9, 4, 4)


@pytest.mark.parametrize("shape", [(30,), (8, 8), (2, 2, 1), (7, 8, 1), (30, 30, 1), (28, 28, 0)])
def test_unsupported_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="scattering features need"):
        scattering.scatter(tf.zeros([2, *shape]))


def test_groups_that_do_not_divide_are_refused() -> None:
    with pytest.raises(UserError, match="groups must divide"):
        scattering.scatter(tf.zeros([2, 8, 8, 1]), 2)


# The cache of features


@pytest.mark.parametrize("shape", SHAPES)
def test_kept_features_are_those_of_the_transform(shape: tuple[int, ...]) -> None:
    x = pictures(shape, 7)
    features = scattering.FeatureCache(1 << 24)
    expected = scattering.scatter(tf.constant(x)).numpy()
    np.testing.assert_allclose(features(x), expected, atol=1e-4)
    np.testing.assert_allclose(features(x[::-1]), expected[::-1], atol=1e-4)
    assert features(x[:0]).shape == (0, *SHAPES[shape])


def test_features_are_the_same_bits_in_any_company_and_whatever_is_kept() -> None:
    """Else a cell would depend on which attack ran before it."""
    x = pictures((28, 28, 1), 2 * scattering.PIECE + 5)
    whole = scattering.FeatureCache(0)(x)
    order = np.random.default_rng(0).permutation(len(x))
    features = scattering.FeatureCache(1 << 24)
    for rows in (order[:1], order[:9], order[5 : 5 + scattering.PIECE], order):
        np.testing.assert_array_equal(features(x[rows]), whole[rows])
    small = scattering.scatter(tf.constant(x[order[:9]])).numpy()  # the mutant: scattered as few as they come
    assert not np.array_equal(small, whole[order[:9]])


def test_what_was_scattered_is_not_scattered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    scatter = scattering._scattered

    def counted(x: NDArray[Any]) -> NDArray[Any]:
        seen.append(len(x))
        return scatter(x)

    monkeypatch.setattr(scattering, "_scattered", counted)
    features, x = scattering.FeatureCache(1 << 24), pictures((8, 8, 1), 10)
    before = features(np.concatenate([x[:6], x[:2]]))  # the same picture twice is scattered once
    assert np.array_equal(before[:2], before[6:])
    features(x)
    features(x.copy())  # by content, not by array
    assert seen == [6, 4, 0]
    x[3] += 0.5
    changed = features(x)
    assert seen == [6, 4, 0, 1]
    assert not np.array_equal(changed[3], before[3])


def test_no_more_than_the_limit_is_kept_and_the_oldest_goes_first() -> None:
    x = pictures((8, 8, 1), 10)
    each = 9 * 4 * 4 * 4
    features = scattering.FeatureCache(6 * each + 1)
    features(x)
    kept = list(features._kept.values())
    assert len(kept) == 6
    assert all(one.base is None for one in kept)  # a view would keep the array that it is cut from
    features(x[4:5])
    features(x[:1])
    np.testing.assert_array_equal(list(features._kept.values())[-2:], features(x[[4, 0]]))
    assert len(features._kept) == 6


def test_a_predictor_of_features_is_the_model_that_starts_from_the_picture() -> None:
    image, x = keras.Input((9, 4, 4)), pictures((8, 8, 1), 12)
    head = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(image)))
    whole = networks.mapping(scattering.before(head, (8, 8, 1)), after="softmax")
    np.testing.assert_allclose(scattering.predictor(head)(x), whole(x), atol=1e-5)
