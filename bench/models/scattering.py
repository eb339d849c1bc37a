"""Fixed features of pictures that cost no privacy: a wavelet scattering transform, normalised record by record.

Bruna and Mallat 2013; before a DP linear model, Tramèr and Boneh 2021 ("Differentially Private Learning Needs Better
Features", section 3). Nothing here is learnt and no record meets another, so what comes out of one record depends on it
alone and a guarantee over features is a guarantee over records. TensorFlow is imported inside the functions.
"""

from __future__ import annotations

import functools
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option
from bench.core.dataset import Examples, row_keys
from bench.core.errors import UserError, suggest
from bench.core.release import Map
from bench.dp.networks import mapping

CHOICES = ("auto", "scattering", "none")
FEATURES = Option("what a classifier sees: scattering, the record itself, or scattering where it fits", one_of=CHOICES)
ANGLES = 8  # of the wavelets, over half a turn
SMALL = 16  # shorter sides take one scale only: with two an 8x8 picture would keep 2x2 places
PIECE = 64  # pictures at a time: whole arrays at once take twice as long and gigabytes
GROUPS = 27  # of channels: the best of 1, 9, 27 and 81 on MNIST, as in Tramèr and Boneh
TINY = 1e-16  # under a square root, whose slope at zero is infinite: a picture's background is exactly zero


def scales(shape: tuple[int, ...]) -> int:
    """How often (J) the scattering of pictures of `shape` (h, w, colours) halves their sides; refuses other records."""
    if len(shape) != 3 or min(shape) < 1:
        raise UserError(f"scattering features need pictures (height, width, colours), not records of shape {shape}.")
    scale = 1 if min(shape[:2]) < SMALL else 2
    if shape[0] % 2**scale or shape[1] % 2**scale or min(shape[:2]) < 4:
        raise UserError(f"scattering features need sides of 4 or more that {2**scale} divides, not {shape[:2]}.")
    return scale


def fits(shape: tuple[int, ...]) -> bool:
    """Whether records of this shape are pictures that can be scattered."""
    try:
        return scales(shape) > 0
    except UserError:
        return False


def chosen(features: str, shape: tuple[int, ...]) -> bool:
    """Whether records of `shape` are to be scattered: "scattering" yes, "none" no, "auto" where they can be."""
    if features not in CHOICES:
        raise UserError(f"there are no features {features!r}: {suggest(features, CHOICES)}")
    return features == "scattering" or (features == "auto" and fits(shape))


def scattered(examples: Examples) -> Examples:
    """The features of pictures, as records."""
    return Examples(features(examples.x), examples.y, examples.classes)


class FeatureCache:
    """Pictures (n, *shape) to their features (n, *scattered_shape), of which `limit` bytes, used last, are kept.

    They are kept by content: shadows share most of their records, and every attack asks about the same ones. Pictures
    are scattered in full pieces, so that the features of one are the same bits in any company, whatever is kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[tuple[tuple[int, ...], bytes], NDArray[Any]] = OrderedDict()

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        x = np.asarray(x, np.float32)
        keys = [(x.shape[1:], key) for key in row_keys(x)]
        new = {key: row for row, key in enumerate(keys) if key not in self._kept}
        found = dict(zip(new, _scattered(x[list(new.values())]), strict=True))
        out = np.empty((len(x), *scattered_shape(x.shape[1:])), np.float32)
        for row, key in enumerate(keys):
            out[row] = found[key] if key in found else self._kept[key]
        self._keep(keys, found)
        return out

    def _keep(self, keys: Sequence[tuple[tuple[int, ...], bytes]], found: Mapping[Any, NDArray[Any]]) -> None:
        for key in keys:
            if key in found:
                self._kept[key] = found[key].copy()  # a view would keep its whole piece
            self._kept.move_to_end(key)
        size = sum(kept.nbytes for kept in self._kept.values())
        while size > self._limit:
            size -= self._kept.popitem(last=False)[1].nbytes


features = FeatureCache(1 << 30)
"""The cache of this process: 1 GiB, the features of 67,000 pictures of MNIST."""


def _scattered(x: NDArray[Any]) -> NDArray[Any]:
    whole = np.concatenate([x, np.zeros((-len(x) % PIECE, *x.shape[1:]), np.float32)])
    return _mapped(x.shape[1:])(whole)[: len(x)] if len(x) else np.empty((0, *scattered_shape(x.shape[1:])), np.float32)


@functools.lru_cache(maxsize=8)
def _mapped(shape: tuple[int, ...]) -> Map:
    """`scatter` as a function of arrays, traced once for each shape of picture."""
    scales(shape)  # refuses what is no picture
    return mapping(scatter)


def predictor(model: Any) -> Map:
    """Records to probabilities, by a Keras model of features (logits), with the features that are kept."""
    head = mapping(model, after="softmax")
    return lambda x: head(features(x))


def before(model: Any, shape: tuple[int, ...]) -> Any:
    """A Keras model of features as one of pictures of `shape`, for what is published starts from the record."""
    from tensorflow import keras

    x = keras.Input(shape)
    return keras.Model(x, model(keras.layers.Lambda(scatter)(x)))


def scattered_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Shape of the features of a record: (colours * (1 + J L + L^2 J (J-1) / 2), h / 2^J, w / 2^J)."""
    scale = scales(shape)
    channels = 1 + scale * ANGLES + ANGLES**2 * scale * (scale - 1) // 2
    return shape[2] * channels, shape[0] >> scale, shape[1] >> scale


def wavelet(sides: tuple[int, int], j: int, angle: int) -> NDArray[np.float32]:
    """A Morlet wavelet of scale j on the torus `sides`, in Fourier: real, and zero at frequency zero (as kymatio's)."""
    sigma, frequency, slant = 0.8 * 2**j, 0.75 * math.pi / 2**j, 4 / ANGLES
    theta = (ANGLES - ANGLES // 2 - 1 - angle) * math.pi / ANGLES
    turns = np.arange(-2, 3)  # around the torus; further ones add nothing
    u, v = ((np.arange(side) + side * turns[:, None]).ravel() for side in sides)
    along = u[:, None] * math.cos(theta) + v * math.sin(theta)
    across = v * math.cos(theta) - u[:, None] * math.sin(theta)
    envelope = np.exp(-(along**2 + slant**2 * across**2) / (2 * sigma**2)) * slant / (2 * math.pi * sigma**2)
    wave, hill = (
        (envelope * factor).reshape(len(turns), sides[0], len(turns), sides[1]).sum((0, 2))
        for factor in (np.exp(1j * frequency * along), 1)
    )
    return np.asarray(np.fft.fft2(wave - hill * (wave.sum() / hill.sum())).real, np.float32)


def averaging(side: int, scale: int, j: int) -> NDArray[np.float32]:
    """The Gaussian low pass along one padded side at resolution 2^-j, as a matrix (side / 2^scale - 2, side / 2^j).

    It keeps every 2^(scale-j)-th place, and drops the one at either end, which is padding.
    """
    sigma = 0.8 * 2 ** (scale - 1)
    place = (np.arange(side) + side * np.arange(-2, 3)[:, None]).ravel()
    gauss = (np.exp(-(place**2) / (2 * sigma**2)) / (math.sqrt(2 * math.pi) * sigma)).reshape(5, side).sum(0)
    low = np.fft.fft(gauss).real
    if j:  # on a coarser grid only its own frequencies
        half = side >> (j + 1)
        low[half : side - half] = 0
        low = low.reshape(2**j, -1).sum(0)
    kernel = np.fft.ifft(low).real  # circular, of length side / 2^j
    places = np.arange(0, len(kernel), 2 ** (scale - j))[1:-1]
    return np.asarray(kernel[(places[:, None] - np.arange(len(kernel))) % len(kernel)], np.float32)


@functools.lru_cache(maxsize=8)
def _filters(sides: tuple[int, int], scale: int) -> tuple[list[NDArray[Any]], list[tuple[NDArray[Any], NDArray[Any]]]]:
    """Wavelets (angles, *sides) of every scale in Fourier, and the averaging of rows and columns at each resolution."""
    wavelets = [np.stack([wavelet(sides, j, angle) for angle in range(ANGLES)]) for j in range(scale)]
    return wavelets, [(averaging(sides[0], scale, j), averaging(sides[1], scale, j)) for j in range(scale)]


def _modulus(spectrum: Any, wavelets: NDArray[Any], j: int) -> Any:
    """|picture * wavelet| on every 2^j-th place, for spectra (n, h, w) -> (n, angles, h / 2^j, w / 2^j)."""
    import tensorflow as tf

    height, width = (side >> j for side in wavelets.shape[1:])
    corners = [(a, b) for a in range(0, wavelets.shape[1], height) for b in range(0, wavelets.shape[2], width)]

    def folded(part: Any) -> Any:  # keeping every 2^j-th place folds a spectrum onto its own corner
        areas = [(slice(a, a + height), slice(b, b + width)) for a, b in corners]
        return tf.add_n([part[:, None, i, k] * (wavelets[:, i, k] / 4**j) for i, k in areas])

    # Two real products: TensorFlow's complex ones take twice as long.
    z = tf.signal.ifft2d(tf.complex(folded(tf.math.real(spectrum)), folded(tf.math.imag(spectrum))))
    return tf.sqrt(tf.maximum(tf.square(tf.math.real(z)) + tf.square(tf.math.imag(z)), TINY))


def _scatter(x: Any, scale: int) -> Any:
    """Scattering of grey pictures (n, h, w) -> (n, channels, h / 2^scale, w / 2^scale): orders 0, 1 and 2 in turn."""
    import tensorflow as tf

    step = 2**scale
    x = tf.pad(x, [[0, 0], [step, step], [step, step]], "REFLECT")
    sides = (x.shape[1], x.shape[2])
    wavelets, low = _filters(sides, scale)

    def average(u: Any, j: int) -> Any:
        return tf.einsum("nchb,ah->ncab", tf.einsum("nchw,bw->nchb", u, low[j][1]), low[j][0])

    def moduli(u: Any, j: int) -> Any:
        return _modulus(tf.signal.fft2d(tf.cast(u, tf.complex64)), wavelets[j], j)

    first = [moduli(x, j) for j in range(scale)]
    out = [average(x[:, None], 0), *(average(u, j) for j, u in enumerate(first))]
    if scale == 2:  # angle by angle, which keeps what is being worked on small enough for the caches
        out += [average(moduli(u, 1), 1) for u in tf.unstack(first[0], axis=1)]
    return tf.concat(out, 1)


def scatter(x: Any, groups: int | None = GROUPS) -> Any:
    """Scattering of pictures (..., h, w, colours), each colour alone, then normalised: (..., *scattered_shape).

    groups: of `normalise`, at most one a channel; None leaves it out. Differentiable, as a white-box attack needs it.
    """
    import tensorflow as tf

    shape = tuple(x.shape[1:] if x.shape.rank < 4 else x.shape[-3:])
    scale, out = scales(shape), scattered_shape(shape)
    lead = tf.shape(x)[:-3]
    x = tf.reshape(tf.transpose(tf.reshape(x, [-1, *shape]), [0, 3, 1, 2]), [-1, *shape[:2]])
    n = tf.shape(x)[0]
    piece = tf.clip_by_value(n, 1, PIECE)
    x = tf.pad(x, [[0, -n % piece + tf.cast(n == 0, tf.int32)], [0, 0], [0, 0]])  # map_fn wants one at least
    pieces = tf.reshape(x, tf.stack([-1, piece, *shape[:2]]))
    x = tf.map_fn(lambda pictures: _scatter(pictures, scale), pieces, parallel_iterations=1)
    x = tf.reshape(x, [-1, out[0] // shape[2], *out[1:]])[:n]
    if groups is not None:
        x = normalise(tf.reshape(x, [-1, *out]), min(groups, out[0]))
    return tf.reshape(x, tf.concat([lead, out], 0))


def normalise(x: Any, groups: int) -> Any:
    """Group normalisation (Wu and He 2018) of (n, channels, h, w): mean 0 and variance 1 in each group of a record."""
    import tensorflow as tf

    if groups < 1 or x.shape[1] % groups:
        raise UserError(f"groups must divide the {x.shape[1]} channels, not be {groups}.")
    grouped = tf.reshape(x, [-1, groups, math.prod(x.shape[1:]) // groups])
    mean, variance = tf.nn.moments(grouped, [2], keepdims=True)
    return tf.reshape((grouped - mean) * tf.math.rsqrt(variance + 1e-5), [-1, *x.shape[1:]])
