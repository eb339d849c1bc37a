"""Layers of one model, or of K models of one shape side by side with a leading model axis: one wiring serves both.

Keras is imported inside the functions: describing a network must not cost the import of TensorFlow.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

from bench.core.component import Option
from bench.core.errors import UserError, suggest

ACTIVATIONS = ("relu", "tanh", "sigmoid", "elu", "selu", "gelu", "softplus", "swish", "linear", "tempered_sigmoid")
# Options that defenses have in common.
HIDDEN = Option("units of each hidden layer", at_least=1)
ACTIVATION = Option("activation of the hidden layers", one_of=ACTIVATIONS)
TEMPERED = (1.58, 3.0, 0.71)  # scale, inverse temperature, offset: the best of Papernot et al. 2021 on MNIST


class Single:
    """Layers of one model: inputs (n, *shape)."""

    models: int | None = None
    network = "whole"
    unclipped = False

    def part(self, network: str, *, unclipped: bool = False) -> Single:
        """The same, for the layers of one named network of several, which clipping may treat apart.

        unclipped: this network is trained by `Net.unclipped_loss`, which reads no record, and is neither clipped nor
        noised.
        """
        other = copy.copy(self)
        other.network, other.unclipped = network, unclipped
        return other

    def dense(self, h: Any, units: int, activation: str | None = None) -> Any:
        """A dense layer on the last axis."""
        from tensorflow import keras

        return self._wire(keras.layers.Dense(units), h, activation)

    def conv(
        self,
        h: Any,
        filters: int,
        size: int,
        stride: int = 1,
        padding: str = "same",
        activation: str | None = None,
    ) -> Any:
        """A convolution of pictures (…, height, width, channels) with filters of `size` by `size`."""
        return self._wire(self._convolution(filters, size, stride, padding), h, activation)

    def _convolution(self, filters: int, *window: Any) -> Any:
        """A Keras layer; window: size, stride and padding."""
        from tensorflow import keras

        return keras.layers.Conv2D(filters, *window)

    def pool(self, h: Any, size: int, stride: int) -> Any:
        """Maxima over windows of `size` by `size`."""
        from tensorflow import keras

        return keras.layers.MaxPooling2D(size, stride)(h)

    def product(self, h: Any, matrix: Any) -> Any:
        """The product with a matrix that is fixed and public: nothing of it is trained."""
        import tensorflow as tf

        return tf.keras.layers.Lambda(lambda t: tf.tensordot(t, matrix, 1))(h)

    def flatten(self, h: Any) -> Any:
        """(n, *shape) -> (n, features)."""
        from tensorflow import keras

        return keras.layers.Reshape((math.prod(h.shape[1:]),))(h)

    def input(self, shape: tuple[int, ...]) -> Any:
        """A Keras input for a batch of records."""
        from tensorflow import keras

        return keras.Input(batch_shape=(None, *shape))

    def _wire(self, layer: Any, h: Any, activation: str | None) -> Any:
        """The layer and, apart from it so that its pre-activation can be seen, the activation."""
        from tensorflow import keras

        layer.network, layer.unclipped = self.network, self.unclipped
        h = layer(h)
        return keras.layers.Activation(_function(activation))(h) if activation else h


class Stacked(Single):
    """Layers of `models` models of one shape, trained as one: inputs (models, n, *shape)."""

    def __init__(self, models: int) -> None:
        self.models = models

    def dense(self, h: Any, units: int, activation: str | None = None) -> Any:
        return self._wire(stacked_dense()(self.models, units), h, activation)

    def _convolution(self, filters: int, *window: Any) -> Any:
        return stacked_conv()(self.models, filters, *window)

    def pool(self, h: Any, size: int, stride: int) -> Any:
        import tensorflow as tf

        def pooled(t: Any) -> Any:
            flat = tf.reshape(t, (-1, *t.shape[2:]))
            small = tf.nn.max_pool2d(flat, size, stride, "VALID")
            return tf.reshape(small, (self.models, -1, *small.shape[1:]))

        return tf.keras.layers.Lambda(pooled)(h)

    def flatten(self, h: Any) -> Any:
        import tensorflow as tf

        size = math.prod(h.shape[2:])
        return tf.keras.layers.Lambda(lambda t: tf.reshape(t, (self.models, -1, size)))(h)

    def input(self, shape: tuple[int, ...]) -> Any:
        from tensorflow import keras

        return keras.Input(batch_shape=(self.models, None, *shape))


class Routed(Single):
    """Dense layers of one model per label as one model, which takes of each record the label beside it.

    `label` (n, models) is one-hot. The kernel of a layer holds the kernels of the models one above the other, each with
    its bias as a last row: (models * (in + 1), units); the numbers of a record are placed where its model begins.
    """

    def __init__(self, label: Any) -> None:
        self.label = label

    def dense(self, h: Any, units: int, activation: str | None = None) -> Any:
        import tensorflow as tf

        placed = self.label[:, :, None] * tf.pad(h, [[0, 0], [0, 1]], constant_values=1.0)[:, None, :]
        flat = tf.keras.layers.Reshape((placed.shape[1] * placed.shape[2],))(placed)
        return self._wire(tf.keras.layers.Dense(units, use_bias=False), flat, activation)


def patches(x: Any, size: int, stride: int, padding: str) -> Any:
    """What each place of a convolution sees: (…, height, width, channels) -> (…, places, size * size * channels)."""
    import tensorflow as tf

    lead = tf.shape(x)[:-3]
    flat = tf.reshape(x, (-1, *x.shape[-3:]))
    window, step = [1, size, size, 1], [1, stride, stride, 1]
    seen = tf.image.extract_patches(flat, window, step, [1, 1, 1, 1], padding.upper())
    places = seen.shape[1] * seen.shape[2]
    return tf.reshape(seen, tf.concat([lead, [places, seen.shape[3]]], 0))


@functools.lru_cache(maxsize=1)
def stacked_dense() -> Any:
    """The Keras layer class of K dense layers side by side (made on demand, for it needs Keras to subclass)."""
    import tensorflow as tf

    class StackedDense(tf.keras.layers.Layer):  # type: ignore[misc]
        """(K, n, …, in) -> (K, n, …, units) with kernel (K, in, units) and bias (K, 1, units)."""

        def __init__(self, models: int, units: int) -> None:
            super().__init__()
            self.models, self.units = models, units

        def build(self, shape: Any) -> None:
            self.kernel = self.add_weight("kernel", (self.models, shape[-1], self.units))
            self.bias = self.add_weight("bias", (self.models, 1, self.units))
            super().build(shape)

        def call(self, x: Any) -> Any:
            if x.shape.rank == 3:
                return tf.matmul(x, self.kernel) + self.bias
            flat = tf.reshape(x, (self.models, -1, x.shape[-1]))
            out = tf.matmul(flat, self.kernel) + self.bias
            return tf.reshape(out, (self.models, -1, *x.shape[2:-1], self.units))

    return StackedDense


@functools.lru_cache(maxsize=1)
def stacked_conv() -> Any:
    """The Keras layer class of K convolutions side by side, as products with patches: no kernel of TensorFlow has K."""
    import tensorflow as tf

    class StackedConv(tf.keras.layers.Layer):  # type: ignore[misc]
        """(K, n, h, w, c) -> (K, n, h', w', filters) with kernel (K, size, size, c, filters), bias (K, 1, filters)."""

        def __init__(self, models: int, filters: int, size: int, stride: int, padding: str) -> None:
            super().__init__()
            self.models, self.filters = models, filters
            self.window = size, stride, padding

        def build(self, shape: Any) -> None:
            size = self.window[0]
            self.kernel = self.add_weight("kernel", (self.models, size, size, shape[-1], self.filters))
            self.bias = self.add_weight("bias", (self.models, 1, self.filters))
            super().build(shape)

        def call(self, x: Any) -> Any:
            seen = patches(x, *self.window)
            flat = tf.reshape(seen, (self.models, -1, seen.shape[-1]))
            out = tf.matmul(flat, tf.reshape(self.kernel, (self.models, -1, self.filters))) + self.bias
            size, stride, padding = self.window
            cut = 0 if padding == "same" else size - 1
            sides = [-(-(side - cut) // stride) for side in x.shape[2:4]]
            return tf.reshape(out, (self.models, -1, *sides, self.filters))

    return StackedConv


def _function(activation: str) -> str | Callable[[Any], Any]:
    if activation != "tempered_sigmoid":
        return activation
    import tensorflow as tf

    scale, inverse, offset = TEMPERED
    return lambda h: scale * tf.sigmoid(inverse * h) - offset


def check_layers(units: tuple[int, ...], activation: str) -> None:
    """Raise UserError where a layer would be empty or its activation unknown."""
    if min(units, default=1) < 1:
        raise UserError(f"every layer needs at least 1 unit, not {min(units)}.")
    if activation not in ACTIVATIONS:
        raise UserError(f"there is no activation {activation!r}: {suggest(activation, ACTIVATIONS)}")
