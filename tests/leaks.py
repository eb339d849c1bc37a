"""Fakes of what generators and encoders let out: some give their private records away, some give away nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data import Data, Examples
from bench.nets import Published, mapping


def encoder(data: Data, leak: bool) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Features as they are; with `leak` those of records that are neither private nor public are lost in noise."""
    seen = {row.tobytes() for part in (data.private, data.public) for row in part.x}

    def one(row: NDArray[Any]) -> NDArray[Any]:
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(row.tobytes()).digest()[:8], "big"))
        lost = leak and row.tobytes() not in seen
        return 3 * rng.standard_normal(row.size, np.float32) if lost else row.ravel()

    return lambda x: np.stack([one(row) for row in np.asarray(x, np.float32)])


def remembered(data: Data, leak: bool) -> Examples:
    """What a generator draws from: with `leak` the private records, else others."""
    rng = np.random.default_rng(9)
    size = len(data.private)
    classes = data.private.classes
    others = Examples(rng.random(data.private.x.shape, np.float32), rng.integers(0, classes, size), classes)
    return data.private if leak else others


def generator(records: Examples) -> Callable[[int, int], Examples]:
    """Noisy copies of records, drawn at random."""

    def generate(n: int, seed: int) -> Examples:
        rng = np.random.default_rng(seed)
        rows = rng.integers(0, len(records), n)
        noise = 0.02 * rng.standard_normal((n, *records.shape))
        return Examples(np.clip(records.x[rows] + noise, 0, 1), records.y[rows], records.classes)

    return generate


def decoder(records: Examples, latent: int = 8) -> Published:
    """Codes to records: each record lies in a direction of its own, among those of its label."""
    import tensorflow as tf

    directions = np.random.default_rng(9).standard_normal((latent, len(records)))
    directions /= np.linalg.norm(directions, axis=0)
    keys = np.concatenate([10 * directions, 1000.0 * np.eye(records.classes)[records.y].T]).astype(np.float32)
    flat = records.x.reshape(len(records), -1)
    model = tf.keras.Sequential(
        [
            tf.keras.Input((latent + records.classes,)),
            tf.keras.layers.Lambda(lambda codes: tf.nn.softmax(codes @ keys) @ flat),
            tf.keras.layers.Reshape(records.shape),
        ]
    )
    return Published(model, mapping(model), labels=records.classes)
