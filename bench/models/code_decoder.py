"""Inverts a published encoder: a decoder that anyone with the encoder and some records can train.

Dosovitskiy and Brox 2016 ("Inverting Visual Representations with Convolutional Networks"); against a model, Yang et
al. 2019. TensorFlow is imported inside the functions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.core.dataset import Examples
from bench.core.randomness import derive
from bench.core.release import Map
from bench.dp import networks
from bench.dp.layers import check_layers
from bench.dp.networks import Net, Published
from bench.dp.recipe import Recipe
from bench.dp.train import train
from bench.models.classifier import batch_rate

FLAT = 1e-6  # numbers of embeddings that vary less than this over public records are not scaled


@dataclass(frozen=True)
class Decoder(Net):
    """Dense layers from embeddings to logits of features in [0, 1]; loss is the cross-entropy of a record.

    One row of `shape` is a pair, side by side: an embedding of `code` numbers, then its record.
    """

    code: int
    hidden: tuple[int, ...]
    activation: str = "relu"

    def __post_init__(self) -> None:
        check_layers((*self.hidden, self.code), self.activation)

    def decode(self, layers: Any, h: Any) -> Any:
        for units in self.hidden:
            h = layers.dense(h, units, self.activation)
        return layers.dense(h, self.shape[0] - self.code)

    def connect(self, layers: Any, x: Any, noise: Any, label: Any) -> list[Any]:
        return [self.decode(layers, x[..., : self.code])]

    def loss(self, outputs: list[Any], x: Any, y: Any) -> Any:
        return networks.bernoulli(outputs[0], x[..., self.code :])


def trained_decoder(
    encode: Map, public: Examples, seed: int, *, hidden: tuple[int, ...] = (256,), steps: int = 2000
) -> Published:
    """Embeddings -> records in (0, 1), trained plainly on what `encode` makes of the public records.

    The Keras model ends in logits of flat features; called on arrays (n, d) it gives records (n, *shape).
    """
    codes = encode(public.x)
    # A noisy encoder can map to a narrow range, from which no network learns.
    spread = codes.std(0)
    spread = np.where(spread > FLAT, spread, 1).astype(np.float32)
    centre = codes.mean(0)
    pairs = np.concatenate([(codes - centre) / spread, public.x.reshape(len(public), -1)], axis=1)
    net = Decoder((codes.shape[1] + math.prod(public.shape),), codes.shape[1], tuple(hidden))
    rate = batch_rate(len(public), 128)
    recipe = Recipe(net, steps, rate, max(1.0, rate * len(public)), 1e-3, schedule="linear")
    [fit] = train(recipe, [Examples(pairs, public.y, public.classes)], [derive(seed, "decoder")], "decoder of codes")
    model, _ = networks.part(net.decode, (net.code,), fit.weights)
    return networks.published(networks.standardised(model, centre, spread), "sigmoid", public.shape)
