"""Toy accesses of releases, which leak either their private records or nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples, Split
from bench.core.release import Map, Release
from bench.dp import accounting
from bench.dp.networks import Published, mapping

SUPPORTED = frozenset({"predict", "encode", "decode", "generate", "retrain"})


def release(accesses: frozenset[str], data: Split, leak: bool) -> Release:
    """A release with these accesses, all of them among SUPPORTED."""
    records = generator_records(data, leak)

    def retrain(private: Examples, seed: int, public: Examples | None = None) -> Release:
        predict = predictor(data, leak, seed, private)
        return Release(accounting.no_privacy(), predict, encode=encoder(data, leak=False))

    make: dict[str, Callable[[], Any]] = {
        "predict": lambda: predictor(data, leak),
        "encode": lambda: encoder(data, leak),
        "decode": lambda: decoder(records),
        "generate": lambda: generator(records),
        "retrain": lambda: retrain,
    }
    return Release(accounting.no_privacy(), **{name: make[name]() for name in accesses})


def predictor(data: Split, leak: bool, seed: int = 1, members: Examples | None = None) -> Map:
    """The stored prediction for the nearest record: with `leak` near 1 for a member's label and wrong for others.

    Without `leak` it is right for all, with random confidence.
    """
    from scipy.spatial.distance import cdist

    everyone, classes = [data.private, data.holdout, data.public], data.private.classes
    x, y = (np.concatenate([getattr(part, name) for part in everyone]) for name in "xy")
    inside = {row.tobytes() for row in (data.private if members is None else members).x}
    member, rng = np.array([row.tobytes() in inside for row in x]), np.random.default_rng(seed)
    sure = np.where(member, rng.uniform(0.97, 0.999, len(x)), rng.uniform(0.45, 0.55, len(x)))
    sure = (sure if leak else rng.uniform(0.4, 0.999, len(x))).astype(np.float32)
    answers = np.repeat((1 - sure[:, None]) / (classes - 1), classes, 1)
    answers[np.arange(len(x)), np.where(member | (not leak), y, (y + 1) % classes)] = sure
    table = x.reshape(len(x), -1)
    return lambda queries: answers[cdist(np.asarray(queries).reshape(len(queries), -1), table).argmin(1)]


def knower(data: Split, knows: tuple[str, ...], seed: int = 1) -> Map:
    """Confident in the label of exactly the records of the parts `knows`: not with another value of an attribute."""
    parts: list[Examples] = [getattr(data, name) for name in knows]
    known = {row.tobytes(): int(y) for part in parts for row, y in zip(part.x, part.y, strict=True)}
    classes = data.private.classes

    def one(row: NDArray[Any]) -> NDArray[Any]:
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(row.tobytes() + bytes([seed])).digest()[:8], "big"))
        y = known.get(row.tobytes())
        out = rng.dirichlet(np.ones(classes)) if y is None else np.eye(classes)[y] * 0.998 + 0.002 / classes
        return out.astype(np.float32)

    return lambda x: np.stack([one(row) for row in np.asarray(x, np.float32)])


def encoder(data: Split, leak: bool) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """The features; with `leak`, noise in place of those of records that are neither private nor public."""
    known = {row.tobytes() for part in (data.private, data.public) for row in part.x}

    def one(row: NDArray[Any]) -> NDArray[Any]:
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(row.tobytes()).digest()[:8], "big"))
        unknown = leak and row.tobytes() not in known
        return 3 * rng.standard_normal(row.size, np.float32) if unknown else row.ravel()

    return lambda x: np.stack([one(row) for row in np.asarray(x, np.float32)])


def generator_records(data: Split, leak: bool) -> Examples:
    """The records that a generator copies: with `leak` the private ones, else others."""
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
    """Latent codes and labels to records: each record of a label belongs to another direction of the code."""
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
