"""Small networks with batches of ordinary and extreme records, and their clipped sums by three implementations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from bench.dp import networks
from bench.dp.clipping import (
    Site,
    ghost_clipped_sums,
    ghost_layers,
    per_record_gradients,
    site,
    vectorized_clipped_sums,
)
from bench.dp.layers import Single, Stacked
from bench.dp.networks import GAN, Autoencoder, Classifier, Net
from bench.dp.vae import VAE

CLIP = 0.7


ORDINARY = 5


EXTREME = {"zero": 0.0, "hundred": 100.0, "huge": 1e6, "1e19": 1e19, "1e30": 1e30, "nan": np.nan, "inf": np.inf}


@dataclass(frozen=True)
class Tutorial(Classifier):
    """The small convolutional network of TensorFlow Privacy's tutorial, with unpadded convolutions and pooling."""

    def connect(self, layers: Any, x: Any, draw: Any, label: Any) -> list[Any]:
        h = layers.pool(layers.conv(x, 4, 3, 1, "same", "tanh"), 2, 1)
        h = layers.pool(layers.conv(h, 3, 2, 2, "valid", "tanh"), 2, 1)
        return [layers.dense(layers.flatten(h), self.classes)]


NETS: dict[str, Net] = {
    "classifier": Classifier((6,), 3, (5,)),
    "deep classifier": Classifier((3, 2), 4, (5, 4), "tanh"),
    "tempered classifier": Classifier((6,), 3, (5,), "tempered_sigmoid"),
    "linear classifier": Classifier((6,), 3, ()),
    "convolutions": Classifier((6, 6, 2), 3, (4,), "tanh", (3, 8)),
    "tutorial": Tutorial((5, 5, 1), 3),
    "autoencoder": Autoencoder((6,), (5,), 3),
    "vae": VAE((6,), (5,), 2, kl_weight=2.0),
    "conditional vae": VAE((6,), (5,), 2, classes=3),
    "vae of cosines": VAE((8, 8, 2), (5,), 2, classes=3, encoder=(4,), cosines=3, seen=2, decay=0.5),
    "gan": GAN((6,), (5,), 2, "tanh"),
}


class Batch:
    """A network, its records, labels and noise inputs; `rows` selects the records that the network runs on."""

    def __init__(self, net: Net, models: int, *, extreme: bool = True) -> None:
        rng = np.random.default_rng(7)
        lead = (models,) if models > 1 else ()
        features = int(np.prod(net.shape))
        x = rng.random((*lead, ORDINARY, features)).astype(np.float32)
        rows = [x, x[..., :1, :]]  # a duplicate of the first record
        if extreme:
            for value in EXTREME.values():
                row = rng.random((*lead, 1, features)).astype(np.float32)
                row[..., ::2] = value
                rows.append(row)
        x = np.concatenate(rows, -2)
        self.n = x.shape[-2]
        self.net, self.models, self.lead = net, models, lead
        self.x = x.reshape(*lead, self.n, *net.shape)
        self.y = rng.integers(0, 3, (*lead, self.n))
        self.noise = rng.standard_normal((*lead, self.n, net.noise_inputs)).astype(np.float32)
        keras.utils.set_random_seed(5)
        self.model = networks.build(net, Stacked(models) if models > 1 else Single())
        self.model.set_weights([w + 0.1 * rng.standard_normal(w.shape) for w in self.model.get_weights()])
        self.layers = ghost_layers(self.model)
        watched = [*self.model.outputs, *(h.input for h in self.layers), *(h.output for h in self.layers)]
        self.view = keras.Model(self.model.inputs, watched)
        self.variables = [v for layer in self.layers for v in layer.trainable_weights]
        self.networks = [layer.network for layer in self.layers for _ in layer.trainable_weights]

    def select(self, rows: Any) -> list[Any]:
        return [tf.constant(np.take(v, rows, len(self.lead))) for v in (self.x, self.y, self.noise)]

    def losses(self, model: Any, x: Any, y: Any, noise: Any) -> tuple[Any, list[Any]]:
        inputs = [x, *([noise] if self.net.noise_inputs else []), *([tf.one_hot(y, 3)] if self.net.labels else [])]
        out = tf.nest.flatten(model(inputs, training=True))
        first = len(self.model.outputs)
        return self.net.loss(out[:first], x, y), out[first:]

    def run(self, rows: Any, apart: bool = False) -> tuple[Any, list[Site], Any]:
        """Per-record losses, the sites of the layers and the tape that recorded them."""
        return self.run_on(*self.select(rows), apart)

    def run_on(self, x: Any, y: Any, noise: Any, apart: bool = False) -> tuple[Any, list[Site], Any]:
        with tf.GradientTape(persistent=True) as tape:
            losses, values = self.losses(self.view, x, y, noise)
        pairs = zip(self.layers, values[: len(self.layers)], values[len(self.layers) :], strict=True)
        return losses, [site(layer, a, z, apart=apart) for layer, a, z in pairs], tape

    def onepass(self, rows: Any, clip: Any = CLIP, apart: bool = False) -> list[np.ndarray[Any, Any]]:
        losses, sites, tape = self.run(rows, apart)
        return [s.numpy() for s in ghost_clipped_sums(losses, sites, tape, clip)]

    def summed_loss(self, record: Any) -> Any:
        x, y, noise = (tf.expand_dims(t, len(self.lead)) for t in record)
        return tf.reduce_sum(self.losses(self.model, x, y, noise)[0])

    def vectorized(self, rows: Any, clip: Any = CLIP, apart: bool = False) -> list[np.ndarray[Any, Any]]:
        axis = len(self.lead)
        selected = tuple(tf.constant(np.moveaxis(v.numpy(), axis, 0)) for v in self.select(rows))
        found = per_record_gradients(self.summed_loss, selected, self.variables)
        sums = vectorized_clipped_sums(found, clip, self.models > 1, self.networks if apart else None)
        return [s.numpy() for s in sums]

    def naive(self, rows: Any, clip: Any = CLIP, apart: bool = False) -> list[np.ndarray[Any, Any]]:
        """Gradients of one record of one model at a time, clipped and summed in float64."""
        sums = [np.zeros(v.shape) for v in self.variables]
        clips = np.broadcast_to(np.ravel(clip), self.models)
        for i in rows:
            losses, _, tape = self.run([i])
            for model in range(self.models):
                with tape:
                    one = tf.reshape(losses, [-1])[model]
                grads = [np.float64(g.numpy()) for g in tape.gradient(one, self.variables)]
                names = self.networks if apart else ["whole"] * len(grads)
                share = clips[model] / len(set(names)) ** 0.5
                for name in set(names):
                    group = [k for k, network in enumerate(names) if network == name]
                    with np.errstate(over="ignore", invalid="ignore"):
                        square = sum((grads[k] ** 2).sum() for k in group)
                        if np.isfinite(np.float32(square)):
                            for k in group:
                                sums[k] += grads[k] * min(1, share / max(np.sqrt(square), 1e-300))
        return sums


@cache
def batch(name: str, models: int, extreme: bool = True) -> Batch:
    return Batch(NETS[name], models, extreme=extreme)


@pytest.fixture(scope="module", autouse=True)
def release_batches() -> Iterator[None]:
    """Frees the cached networks after each module: TensorFlow warns of functions that outlive it."""
    yield
    batch.cache_clear()


def flat(sums: Any, model: int | None = None) -> np.ndarray[Any, Any]:
    return np.concatenate([np.ravel(s if model is None else s[model]) for s in sums])


def distance(found: Any, known: Any) -> float:
    return float(np.linalg.norm(flat(found) - flat(known)) / np.linalg.norm(flat(known)))


def dense_site(a: Any, kernel: Any, bias: Any) -> Site:
    return Site(kernel, bias, a, tf.matmul(a, kernel) + bias)
