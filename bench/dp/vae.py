"""Variational autoencoders, also class-conditional ones, and their decoders as Keras models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.core import images
from bench.dp.layers import Routed, check_layers
from bench.dp.networks import Net, Weights, bernoulli, part

COARSE = 14  # pictures of this side or more show what they are
DARK = -2.0  # the logit of a picture's ground before anything is known
LOUD = 5.0  # factor of the initial weights of labels


@dataclass(frozen=True)
class VAE(Net):
    """A variational autoencoder (Kingma and Welling 2014); loss is reconstruction + `kl_weight` * KL of a record.

    Both terms sit in the per-record loss, because a KL handed to Keras' add_loss gets no gradient under DP training.
    With `classes` it is conditional (Sohn et al. 2015): encoder and decoder take the one-hot label too. With `cosines`
    the decoder's numbers are those of that many by that many cosines, and so are the encoder's with `seen` (see
    `bench.core.images`): far fewer weights, so far less noise. Pictures are then compared at half their resolution
    where that leaves enough of them. `hidden` layers are the decoder's, `encoder` the encoder's, by default a linear
    one.
    """

    hidden: tuple[int, ...]
    latent: int
    activation: str = "relu"
    kl_weight: float = 1.0
    classes: int = 0
    encoder: tuple[int, ...] = ()
    cosines: int = 0
    seen: int = 0
    decay: float = 0.0

    def __post_init__(self) -> None:
        check_layers((*self.hidden, *self.encoder, self.latent), self.activation)

    @property
    def noise_inputs(self) -> int:
        """One standard normal number for each latent dimension."""
        return self.latent

    @property
    def labels(self) -> int:
        """Those that it is conditional on."""
        return self.classes

    @property
    def halved(self) -> bool:
        """Whether pictures are compared at half their resolution."""
        return bool(self.cosines) and min(self.shape[:2]) >= 2 * COARSE and not any(n % 2 for n in self.shape[:2])

    def encode(self, layers: Any, x: Any, label: Any = None) -> Any:
        h = layers.flatten(x)
        if self.seen:
            h = layers.product(h, images.cosines(self.shape, self.seen).T / math.sqrt(math.prod(self.shape[:2])))
        h = _beside(h, label)
        for units in self.encoder:
            h = layers.dense(h, units, self.activation)
        return layers.dense(h, 2 * self.latent)  # mean and log variance side by side

    def decode(self, layers: Any, z: Any, shape: tuple[int, ...]) -> Any:
        """Latent numbers (and labels) to logits of features of records of `shape`."""
        for units in self.hidden:
            z = layers.dense(z, units, self.activation)
        if not self.cosines:
            return layers.dense(z, math.prod(shape))
        numbers = layers.dense(z, self.cosines**2 * self.shape[2])
        return layers.product(numbers, images.cosines(shape, self.cosines, self.decay))

    def connect(self, layers: Any, x: Any, noise: Any, label: Any) -> list[Any]:
        import tensorflow as tf

        code = self.encode(layers.part("encoder"), x, label)
        mean, log_variance = code[..., : self.latent], code[..., self.latent :]
        z = mean + noise * tf.exp(0.5 * log_variance)
        height, width, *colours = self.shape if self.halved else (0, 0)
        shape = (height // 2, width // 2, *colours) if self.halved else self.shape
        return [self.decode(layers.part("decoder"), _beside(z, label), shape), code]

    def loss(self, outputs: list[Any], x: Any, y: Any) -> Any:
        import tensorflow as tf

        logits, code = outputs
        mean, log_variance = code[..., : self.latent], code[..., self.latent :]
        kl = 0.5 * tf.reduce_sum(tf.square(mean) + tf.exp(log_variance) - log_variance - 1.0, -1)
        if self.halved:
            height, width, colours = self.shape
            lead = tf.shape(x)[:-3]
            split = tf.concat([lead, [height // 2, 2, width // 2, 2, colours]], 0)
            x = tf.reduce_mean(tf.reshape(x, split), [-4, -2])
        return bernoulli(logits, x) + self.kl_weight * kl

    def start(self, weights: Weights) -> Weights:
        """Cosines start as a dark picture; weights of labels start large, so that each label has units of its own."""
        weights = [w.copy() for w in weights]
        first = 2 * (len(self.encoder) + 1)  # the decoder's first kernel
        if self.classes:
            weights[first][self.latent :] *= LOUD
        if self.cosines:
            weights[-2][:] = 0
            weights[-1][: self.shape[2]] = DARK if self.halved else 0
        return weights


def _beside(h: Any, label: Any) -> Any:
    import tensorflow as tf

    return h if label is None else tf.concat([h, label], -1)


def decoder(net: VAE, weights: Weights) -> Any:
    """The trained decoder as a Keras model: latent numbers (n, latent), then one-hot labels, to logits of features."""
    taken = 2 * (len(net.encoder) + 1)
    return part(lambda layers, z: net.decode(layers, z, net.shape), (net.latent + net.classes,), weights[taken:])[0]


def routed(net: VAE, fits: Sequence[Weights]) -> Any:
    """The decoders of one VAE per class as one Keras model: latent numbers (n, latent), one-hot labels, to logits."""
    taken = 2 * (len(net.encoder) + 1)
    layers = range(taken, len(fits[0]), 2)
    weights = [np.concatenate([np.vstack(fit[i : i + 2]) for fit in fits]) for i in layers]

    def connect(_: Any, code: Any) -> Any:
        return net.decode(Routed(code[:, net.latent :]), code[:, : net.latent], net.shape)

    return part(connect, (net.latent + len(fits),), weights)[0]
