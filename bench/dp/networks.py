"""Networks as frozen descriptions, built as one ordinary Keras model or as many with a leading model axis.

A description wires layers through a namespace of `bench.dp.layers`, so both forms come from the same lines.
Keras is imported inside the functions: describing a network must not cost the import of TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.dp.layers import Single, check_layers

Weights = list[NDArray[Any]]


@dataclass(frozen=True)
class Net:
    """What `train` needs of a network: how it is wired and what one record's loss is. shape: of one record."""

    shape: tuple[int, ...]

    @property
    def noise_inputs(self) -> int:
        """Standard normal numbers that one record takes in one step (sampling layers); 0 for none."""
        return 0

    @property
    def labels(self) -> int:
        """Classes whose one-hot labels the network takes in; 0 where only the loss reads labels."""
        return 0

    def connect(self, layers: Any, x: Any, noise: Any, label: Any) -> list[Any]:
        """Wire Keras tensors x (…, n, *shape), noise (…, n, noise_inputs) and label (…, n, labels) to outputs."""
        raise NotImplementedError

    def loss(self, outputs: list[Any], x: Any, y: Any) -> Any:
        """Per-record losses (…, n): one number per record, never reduced over records."""
        raise NotImplementedError

    def start(self, weights: Weights) -> Weights:
        """Initial weights, made of random ones as any network starts from and of public knowledge alone."""
        return weights

    def unclipped_loss(self, outputs: list[Any]) -> Any:
        """Losses (…, n) that train unclipped layers from noise inputs alone, for nets with some (`Single.part`)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Classifier(Net):
    """A classifier: a 5x5 convolution of stride 2 for each of `filters`, then dense layers; loss is cross-entropy."""

    classes: int
    hidden: tuple[int, ...] = (128,)
    activation: str = "relu"
    filters: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_layers((*self.filters, *self.hidden), self.activation)

    def connect(self, layers: Any, x: Any, noise: Any, label: Any) -> list[Any]:
        h = x
        for filters in self.filters:
            h = layers.conv(h, filters, 5, 2, activation=self.activation)
        h = layers.flatten(h)
        for units in self.hidden:
            h = layers.dense(h, units, self.activation)
        return [layers.dense(h, self.classes)]

    def loss(self, outputs: list[Any], x: Any, y: Any) -> Any:
        import tensorflow as tf

        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=outputs[0])


def bernoulli(logits: Any, x: Any) -> Any:
    """Negative log-likelihood of features in [0, 1], summed over one record's features."""
    import tensorflow as tf

    flat = tf.reshape(x, tf.shape(logits))
    return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(labels=flat, logits=logits), -1)


@dataclass(frozen=True)
class Autoencoder(Net):
    """Dense encoder to an embedding of `code` numbers in (-1, 1), and the mirrored decoder; loss is cross-entropy."""

    hidden: tuple[int, ...]
    code: int
    activation: str = "relu"

    def __post_init__(self) -> None:
        check_layers((*self.hidden, self.code), self.activation)

    def encode(self, layers: Any, x: Any) -> Any:
        h = layers.flatten(x)
        for units in self.hidden:
            h = layers.dense(h, units, self.activation)
        return layers.dense(h, self.code, "tanh")

    def decode(self, layers: Any, h: Any) -> Any:
        for units in reversed(self.hidden):
            h = layers.dense(h, units, self.activation)
        return layers.dense(h, math.prod(self.shape))

    def connect(self, layers: Any, x: Any, noise: Any, label: Any) -> list[Any]:
        return [self.decode(layers.part("decoder"), self.encode(layers.part("encoder"), x))]

    def loss(self, outputs: list[Any], x: Any, y: Any) -> Any:
        return bernoulli(outputs[0], x)


@dataclass(frozen=True)
class GAN(Net):
    """A generative adversarial network (Goodfellow et al. 2014) with dense halves and the non-saturating losses.

    Only the discriminator sees records, each beside a fake that is generated for it, so only it is clipped and noised;
    the generator learns from the discriminator and from noise, which is post-processing (Xie et al. 2018).
    """

    hidden: tuple[int, ...]
    latent: int
    activation: str = "relu"

    def __post_init__(self) -> None:
        check_layers((*self.hidden, self.latent), self.activation)

    @property
    def noise_inputs(self) -> int:
        """One standard normal number for each latent dimension."""
        return self.latent

    def generate(self, layers: Any, z: Any) -> Any:
        for units in reversed(self.hidden):
            z = layers.dense(z, units, self.activation)
        return layers.dense(z, math.prod(self.shape), "sigmoid")

    def discriminate(self, layers: Any, h: Any) -> Any:
        for units in self.hidden:
            h = layers.dense(h, units, self.activation)
        return layers.dense(h, 1)

    def connect(self, layers: Any, x: Any, noise: Any, label: Any) -> list[Any]:
        import tensorflow as tf

        fake = self.generate(layers.part("generator", unclipped=True), noise)
        # One pass over the pair: a discriminator that is used twice could not be clipped as one.
        pair = tf.stack([layers.flatten(x), fake], -2)
        return [self.discriminate(layers.part("discriminator"), pair)[..., 0]]

    def loss(self, outputs: list[Any], x: Any, y: Any) -> Any:
        import tensorflow as tf

        return tf.nn.softplus(-outputs[0][..., 0]) + tf.nn.softplus(outputs[0][..., 1])

    def unclipped_loss(self, outputs: list[Any]) -> Any:
        import tensorflow as tf

        return tf.nn.softplus(-outputs[0][..., 1])


def build(net: Net, layers: Any) -> Any:
    """The Keras model of a description: inputs x, then noise and label where the net takes them; outputs a list."""
    from tensorflow import keras

    x = layers.input(net.shape)
    noise = layers.input((net.noise_inputs,)) if net.noise_inputs else None
    label = layers.input((net.labels,)) if net.labels else None
    return keras.Model([i for i in (x, noise, label) if i is not None], net.connect(layers, x, noise, label))


def part(
    connect: Callable[[Any, Any], Any], shape: tuple[int, ...], weights: Sequence[NDArray[Any]]
) -> tuple[Any, int]:
    """A part of a net (say its encoder) as a Keras model, and how many of the leading `weights` it took."""
    from tensorflow import keras

    x = Single().input(shape)
    model = keras.Model(x, connect(Single(), x))
    taken = len(model.get_weights())
    model.set_weights(list(weights[:taken]))
    return model, taken


def halves(net: Autoencoder, weights: Weights) -> tuple[Any, Any]:
    """The trained encoder and decoder as Keras models; the decoder ends in logits of features."""
    encoder, taken = part(net.encode, net.shape, weights)
    decoder, _ = part(net.decode, (net.code,), weights[taken:])
    return encoder, decoder


def generator(net: GAN, weights: Weights) -> Any:
    """The trained generator as a Keras model: standard normal numbers (n, latent) to flat features in (0, 1)."""
    return part(net.generate, (net.latent,), weights)[0]


def standardised(model: Any, centre: NDArray[Any], spread: NDArray[Any]) -> Any:
    """A Keras model that subtracts `centre` and divides by `spread` before it calls `model`."""
    from tensorflow import keras

    x = keras.Input(model.input_shape[1:])
    return keras.Model(x, model(keras.layers.Rescaling(1 / spread, -centre / spread)(x)))


def chained(*models: Any) -> Any:
    """Keras models one after the other, which stay separate layers of the result."""
    from tensorflow import keras

    return keras.Sequential([keras.Input(models[0].input_shape[1:]), *models])


@dataclass(frozen=True, eq=False)
class Published:
    """A network that is published as a whole: a function of arrays, and `model`, its Keras model for white-box use.

    labels: of the decoder of a generator, how many of its last inputs are a one-hot label; those before are
    latent ones from the standard normal distribution.
    """

    model: Any
    call: Callable[[Any], NDArray[Any]]
    labels: int = 0

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        return self.call(x)


def published(model: Any, after: str | None = None, shape: tuple[int, ...] | None = None) -> Published:
    """What `mapping` gives, together with the model."""
    return Published(model, mapping(model, after, shape))


def mapping(
    model: Any, after: str | None = None, shape: tuple[int, ...] | None = None
) -> Callable[[Any], NDArray[Any]]:
    """A Keras model as a function of arrays, in batches; `after`: "softmax" or "sigmoid"; `shape`: of one output."""
    import tensorflow as tf

    finish = {None: tf.identity, "softmax": tf.nn.softmax, "sigmoid": tf.sigmoid}[after]
    # Traced once for any number of records; else the first number is traced alone, and the second once more for all.
    shapes = getattr(model, "input_shape", None)  # a list of several inputs, None of a plain function
    signature = [tf.TensorSpec((None, *shapes[1:]), tf.float32)] if isinstance(shapes, tuple) else None

    @tf.function(input_signature=signature, reduce_retracing=True)  # type: ignore[untyped-decorator]
    def call(x: Any) -> Any:
        return finish(tf.nest.flatten(model(x))[0])  # Keras unwraps a list of one

    def apply(x: NDArray[Any]) -> NDArray[Any]:
        x = np.asarray(x, np.float32)
        pieces = [call(tf.constant(x[i : i + 4096])).numpy() for i in range(0, max(len(x), 1), 4096)]
        out: NDArray[Any] = np.concatenate(pieces)
        return out if shape is None else out.reshape(len(out), *shape)

    return apply
