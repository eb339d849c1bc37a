"""Networks as frozen descriptions, built as one ordinary Keras model or as many with a leading model axis.

A description wires layers through a namespace (`Single` or `Stacked`), so both forms come from the same lines.
Keras is imported inside the functions: describing a network must not cost the import of TensorFlow.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.errors import UserError, nearest

ACTIVATIONS = ("relu", "tanh", "sigmoid", "elu", "selu", "gelu", "softplus", "swish", "linear")
Weights = list[NDArray[Any]]


class Net(Protocol):
    """What `train` needs of a network: how it is wired and what one record's loss is."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one record."""

    @property
    def draws(self) -> int:
        """Standard normal numbers that one record takes in one step (sampling layers); 0 for none."""

    def connect(self, layers: Any, x: Any, draw: Any) -> list[Any]:
        """Wire Keras tensors x (…, n, *shape) and draw (…, n, draws) to outputs."""

    def loss(self, outputs: list[Any], x: Any, y: Any) -> Any:
        """Per-record losses (…, n): one number a record, never reduced over records."""


class Single:
    """Layers of one model: inputs (n, *shape)."""

    models: int | None = None

    def dense(self, h: Any, units: int, activation: str | None = None) -> Any:
        """A dense layer and, apart from it so that its pre-activation can be seen, the activation."""
        from tensorflow import keras

        h = keras.layers.Dense(units)(h)
        return keras.layers.Activation(activation)(h) if activation else h

    def flatten(self, h: Any) -> Any:
        """(n, *shape) -> (n, features)."""
        from tensorflow import keras

        return keras.layers.Reshape((math.prod(h.shape[1:]),))(h)

    def input(self, shape: tuple[int, ...]) -> Any:
        """A Keras input for a batch of records."""
        from tensorflow import keras

        return keras.Input(batch_shape=(None, *shape))


class Stacked(Single):
    """Layers of `models` models of one shape, trained as one: inputs (models, n, *shape)."""

    def __init__(self, models: int) -> None:
        self.models = models

    def dense(self, h: Any, units: int, activation: str | None = None) -> Any:
        from tensorflow import keras

        h = stacked_dense()(self.models, units)(h)
        return keras.layers.Activation(activation)(h) if activation else h

    def flatten(self, h: Any) -> Any:
        import tensorflow as tf

        size = math.prod(h.shape[2:])
        return tf.keras.layers.Lambda(lambda t: tf.reshape(t, (self.models, -1, size)))(h)

    def input(self, shape: tuple[int, ...]) -> Any:
        from tensorflow import keras

        return keras.Input(batch_shape=(self.models, None, *shape))


@functools.lru_cache(maxsize=1)
def stacked_dense() -> Any:
    """The Keras layer class of K dense layers side by side (made on demand, for it needs Keras to subclass)."""
    import tensorflow as tf

    class StackedDense(tf.keras.layers.Layer):  # type: ignore[misc]
        """(K, n, in) -> (K, n, units) with kernel (K, in, units) and bias (K, 1, units)."""

        def __init__(self, models: int, units: int) -> None:
            super().__init__()
            self.models, self.units = models, units

        def build(self, shape: Any) -> None:
            self.kernel = self.add_weight("kernel", (self.models, shape[-1], self.units))
            self.bias = self.add_weight("bias", (self.models, 1, self.units))
            super().build(shape)

        def call(self, x: Any) -> Any:
            return tf.matmul(x, self.kernel) + self.bias

    return StackedDense


def _check_layers(units: tuple[int, ...], activation: str) -> None:
    if min(units, default=1) < 1:
        raise UserError(f"every layer needs at least 1 unit, not {min(units)}.")
    if activation not in ACTIVATIONS:
        raise UserError(f"there is no activation {activation!r}: {nearest(activation, ACTIVATIONS)}")


@dataclass(frozen=True)
class Classifier:
    """A dense classifier; outputs logits, loss is cross-entropy."""

    shape: tuple[int, ...]
    classes: int
    hidden: tuple[int, ...] = (128,)
    activation: str = "relu"
    draws: int = 0

    def __post_init__(self) -> None:
        _check_layers(self.hidden, self.activation)

    def connect(self, layers: Any, x: Any, draw: Any) -> list[Any]:
        h = layers.flatten(x)
        for units in self.hidden:
            h = layers.dense(h, units, self.activation)
        return [layers.dense(h, self.classes)]

    def loss(self, outputs: list[Any], x: Any, y: Any) -> Any:
        import tensorflow as tf

        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=outputs[0])


def _bernoulli(logits: Any, x: Any) -> Any:
    """Negative log-likelihood of features in [0, 1], summed over one record's features."""
    import tensorflow as tf

    flat = tf.reshape(x, tf.shape(logits))
    return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(labels=flat, logits=logits), -1)


@dataclass(frozen=True)
class Autoencoder:
    """Dense encoder to `code` numbers in (-1, 1) and the mirrored decoder; loss is the cross-entropy of features."""

    shape: tuple[int, ...]
    hidden: tuple[int, ...]
    code: int
    activation: str = "relu"
    draws: int = 0

    def __post_init__(self) -> None:
        _check_layers((*self.hidden, self.code), self.activation)

    def encode(self, layers: Any, x: Any) -> Any:
        h = layers.flatten(x)
        for units in self.hidden:
            h = layers.dense(h, units, self.activation)
        return layers.dense(h, self.code, "tanh")

    def decode(self, layers: Any, h: Any) -> Any:
        for units in reversed(self.hidden):
            h = layers.dense(h, units, self.activation)
        return layers.dense(h, math.prod(self.shape))

    def connect(self, layers: Any, x: Any, draw: Any) -> list[Any]:
        return [self.decode(layers, self.encode(layers, x))]

    def loss(self, outputs: list[Any], x: Any, y: Any) -> Any:
        return _bernoulli(outputs[0], x)


@dataclass(frozen=True)
class VAE:
    """A variational autoencoder (Kingma and Welling 2014); loss is reconstruction + `kl_weight` * KL of a record.

    Both terms sit in the per-record loss, because a KL handed to Keras' add_loss gets no gradient under DP training.
    """

    shape: tuple[int, ...]
    hidden: tuple[int, ...]
    latent: int
    activation: str = "relu"
    kl_weight: float = 1.0

    def __post_init__(self) -> None:
        _check_layers((*self.hidden, self.latent), self.activation)

    @property
    def draws(self) -> int:
        """One standard normal number for each latent dimension."""
        return self.latent

    def encode(self, layers: Any, x: Any) -> Any:
        h = layers.flatten(x)
        for units in self.hidden:
            h = layers.dense(h, units, self.activation)
        return layers.dense(h, 2 * self.latent)  # mean and log variance side by side

    def decode(self, layers: Any, z: Any) -> Any:
        for units in reversed(self.hidden):
            z = layers.dense(z, units, self.activation)
        return layers.dense(z, math.prod(self.shape))

    def connect(self, layers: Any, x: Any, draw: Any) -> list[Any]:
        import tensorflow as tf

        code = self.encode(layers, x)
        mean, log_variance = code[..., : self.latent], code[..., self.latent :]
        z = mean + draw * tf.exp(0.5 * log_variance)
        return [self.decode(layers, z), code]

    def loss(self, outputs: list[Any], x: Any, y: Any) -> Any:
        import tensorflow as tf

        logits, code = outputs
        mean, log_variance = code[..., : self.latent], code[..., self.latent :]
        kl = 0.5 * tf.reduce_sum(tf.square(mean) + tf.exp(log_variance) - log_variance - 1.0, -1)
        return _bernoulli(logits, x) + self.kl_weight * kl


def build(net: Net, layers: Any) -> Any:
    """The Keras model of a description: inputs x, and draw where the net takes draws; outputs a list."""
    from tensorflow import keras

    x = layers.input(net.shape)
    draw = layers.input((net.draws,)) if net.draws else None
    return keras.Model([x] if draw is None else [x, draw], net.connect(layers, x, draw))


def part(
    connect: Callable[[Any, Any], Any], shape: tuple[int, ...], weights: Sequence[NDArray[Any]]
) -> tuple[Any, int]:
    """One stretch of a net (say its encoder) as a Keras model, and how many of the leading `weights` it took."""
    from tensorflow import keras

    x = Single().input(shape)
    model = keras.Model(x, connect(Single(), x))
    taken = len(model.get_weights())
    model.set_weights(list(weights[:taken]))
    return model, taken


def halves(net: Autoencoder | VAE, weights: Weights) -> tuple[Any, Any]:
    """The trained encoder and decoder as Keras models; the decoder ends in logits of features."""
    code = net.code if isinstance(net, Autoencoder) else net.latent
    encoder, taken = part(net.encode, net.shape, weights)
    decoder, _ = part(net.decode, (code,), weights[taken:])
    return encoder, decoder


def mapping(
    model: Any, after: str | None = None, shape: tuple[int, ...] | None = None
) -> Callable[[Any], NDArray[Any]]:
    """A Keras model as a function of arrays, in batches; `after`: "softmax" or "sigmoid"; `shape`: of one output."""
    import tensorflow as tf

    finish = {None: tf.identity, "softmax": tf.nn.softmax, "sigmoid": tf.sigmoid}[after]

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def call(x: Any) -> Any:
        return finish(tf.nest.flatten(model(x))[0])  # Keras unwraps a list of one

    def apply(x: NDArray[Any]) -> NDArray[Any]:
        x = np.asarray(x, np.float32)
        pieces = [call(tf.constant(x[i : i + 4096])).numpy() for i in range(0, max(len(x), 1), 4096)]
        out: NDArray[Any] = np.concatenate(pieces)
        return out if shape is None else out.reshape(len(out), *shape)

    return apply
