"""Mean embeddings of records in random Fourier features, and a generator that is matched to them (Harder et al. 2021).

Both trainings are ones of `bench.dp.train.train`. TensorFlow is imported inside the functions.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core import images
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.randomness import stream
from bench.dp.networks import Net, Weights, part
from bench.dp.recipe import Recipe, private_training
from bench.dp.vae import DARK, LOUD, VAE

LENGTH = 3.0  # norm of the features of every record, without the 1 that counts the records of a class
NORM = math.sqrt(LENGTH**2 + 1)  # of everything that one record adds
BANDWIDTH = {True: 0.5, False: 1.0}  # median distances of pictures, and of other records
LEAST = 0.1  # of an equal share: the least share of a class after noise
LOGISTIC = 1.7  # standard deviation of the normal distribution that is nearly the standard logistic one
SHARP = 3.0  # inverse temperature of the coins


@dataclass(frozen=True)
class Kernel:
    """A Gaussian kernel exp(-|a - b|^2 / (2 bandwidth^2)), as `frequencies` random ones (Rahimi and Recht 2007).

    Of pictures a and b are the coefficients of their `cosines` by `cosines` smoothest cosines, 0: the records
    themselves. The frequencies are drawn from a public seed, so they cost nothing.
    """

    shape: tuple[int, ...]
    frequencies: int
    bandwidth: float
    cosines: int = 0

    def __post_init__(self) -> None:
        if self.frequencies < 1 or not 0 < self.bandwidth < math.inf:
            raise UserError(
                f"frequencies must be at least 1 and bandwidth a number above 0, not {self.frequencies} and "
                f"{self.bandwidth:g}."
            )

    def features(self, layers: Any, x: Any) -> Any:
        """Keras tensor of flat records (…, n, d) to features (…, n, 2 * frequencies), each row of norm LENGTH."""
        import tensorflow as tf

        phase = layers.product(x, _matrix(self))
        return tf.concat([tf.cos(phase), tf.sin(phase)], -1) * (LENGTH / math.sqrt(self.frequencies))


@functools.lru_cache(maxsize=8)
def _matrix(kernel: Kernel) -> NDArray[Any]:
    """The frequencies as columns (d, frequencies)."""
    seen = projection(kernel.shape, kernel.cosines)
    drawn = stream(0, "frequencies").standard_normal((seen.shape[1], kernel.frequencies)) / kernel.bandwidth
    return np.asarray(seen @ drawn, np.float32)


def projection(shape: tuple[int, ...], cosines: int) -> NDArray[Any]:
    """The projection of flat records to cosine coefficients, or the identity: columns (d, inputs of the kernel)."""
    if not cosines:
        return np.eye(math.prod(shape), dtype=np.float32)
    return images.cosines(shape, cosines).T / math.sqrt(math.prod(shape[:2]))


def median_distance(x: NDArray[Any], shape: tuple[int, ...], cosines: int) -> float:
    """The median distance of records x (n, *shape) that differ, as a kernel with `cosines` sees them, to two digits.

    Of the first 1,000; rounded, so that models of like records are one program. 1 where no two differ.
    """
    from scipy.spatial.distance import pdist

    distances = pdist(x[:1000].reshape(min(len(x), 1000), -1) @ projection(shape, cosines))
    distances = distances[distances > 1e-6]
    return float(f"{np.median(distances):.2g}") if len(distances) else 1.0


@dataclass(frozen=True)
class ClassSums(Net):
    """Sums of features and numbers of records of each class, in the form in which `train` adds up: gradients.

    One step of SGD with learning rate 1 from weights of 0 leaves them in the weights, divided by the `batch_size`:
    features (2 * frequencies, classes), then counts (classes,). A record's gradient has the norm NORM.
    """

    kernel: Kernel
    classes: int

    def connect(self, layers: Any, x: Any, noise: Any, label: Any) -> list[Any]:
        return [layers.dense(self.kernel.features(layers, layers.flatten(x)), self.classes)]

    def loss(self, outputs: list[Any], x: Any, y: Any) -> Any:
        import tensorflow as tf

        return -tf.gather(outputs[0], y, batch_dims=y.shape.rank)

    def start(self, weights: Weights) -> Weights:
        """Zeros: nothing has been added up."""
        return [np.zeros_like(w) for w in weights]


def embedding_recipe(kernel: Kernel, classes: int, n: int, epsilon: float) -> Recipe:
    """The one Gaussian sum of features and counts by class, divided by n, their (public) number; epsilon=inf: plain."""
    privacy = private_training(epsilon, n, 1.0, 1, NORM)
    net = ClassSums(kernel.shape, kernel, classes)
    return Recipe(net, 1, 1.0, max(1, n), 1.0, optimizer="sgd", momentum=0.0, privacy=privacy)


def rows(weights: Weights) -> tuple[Examples, NDArray[Any]]:
    """What `Matched` is trained on, out of the weights of a `ClassSums`, and the share of each class (classes,)."""
    sums, counts = weights
    shares = np.maximum(counts, LEAST / len(counts))
    shares = shares / shares.sum()
    return Examples(np.column_stack([sums.T, shares]), np.arange(len(shares)), len(shares)), shares


@dataclass(frozen=True)
class Matched(Net):
    """A generator for whose records the mean embedding of a class is that of the private ones, up to noise.

    One "record" of `shape` is a class: the sum of its features over all private records divided by their number, then
    the class's share of them. Loss is the squared distance from that of `drawn` records of the class, weighted by
    1 / share, less what depends on the private ones alone. `binary` features are coins that fall with the chance that
    the decoder says, a little blurred, so that they have a gradient (Maddison et al. 2017): as means of many they would
    make records that lie between the real ones.
    """

    kernel: Kernel
    decoder: VAE
    drawn: int
    binary: tuple[int, ...] = ()

    @property
    def noise_inputs(self) -> int:
        """Of all records that are generated for a class in a step: latent numbers, and one for each binary feature."""
        return self.drawn * (self.decoder.latent + len(self.binary))

    @property
    def labels(self) -> int:
        """Those that it is conditional on."""
        return self.decoder.classes

    def decode(self, layers: Any, code: Any) -> Any:
        """Latent numbers, then one-hot labels, to logits of flat features."""
        return self.decoder.decode(layers, code, self.decoder.shape)

    def generator(self, weights: Weights) -> Any:
        """The trained generator as a Keras model: latent numbers (n, latent), then one-hot labels, to logits."""
        return part(self.decode, (self.decoder.latent + self.labels,), weights)[0]

    def connect(self, layers: Any, x: Any, noise: Any, label: Any) -> list[Any]:
        import tensorflow as tf

        latent, flat = self.decoder.latent, math.prod(self.decoder.shape)
        noise = tf.reshape(noise, (*noise.shape[:-2], -1, self.drawn, latent + len(self.binary)))
        code = tf.concat([noise[..., :latent], tf.repeat(label[..., None, :], self.drawn, -2)], -1)
        logits = self.decode(layers, code)
        if self.binary:
            coins = layers.product(noise[..., latent:], np.eye(flat, dtype=np.float32)[list(self.binary)])
            sharp = np.ones(flat, np.float32)
            sharp[list(self.binary)] = SHARP
            logits = (logits + LOGISTIC * coins) * sharp
        made = tf.sigmoid(logits)
        return [tf.reduce_mean(self.kernel.features(layers, made), -2)]

    def loss(self, outputs: list[Any], x: Any, y: Any) -> Any:
        """Unbiased: the mean of few features is longer than that of many, by what the factor takes out again."""
        import tensorflow as tf

        [mean] = outputs
        wanted, share = x[..., :-1], x[..., -1]
        product = tf.reduce_sum(wanted * mean, -1)
        square = tf.reduce_sum(mean**2, -1) * self.drawn / (self.drawn - 1)
        return share * square - 2 * product

    def start(self, weights: Weights) -> Weights:
        """Weights of labels start large, as in a conditional VAE, and pictures dark: a narrow kernel has no gradient
        far from the records."""
        weights = [w.copy() for w in weights]
        weights[0][self.decoder.latent :] *= LOUD
        if self.decoder.cosines:
            weights[-1][: self.decoder.shape[2]] = DARK
        return weights
