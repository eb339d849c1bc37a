"""The search behind the inversion attacks: Adam from several starts, for pictures, latent numbers or embeddings.

TensorFlow is imported inside the functions.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import Caveat, UserError
from bench.core.images import cosines, is_picture
from bench.core.release import Map
from bench.dp.tensorflow_setup import tensorflow
from bench.dp.training_program import apply_gradients

Decode = Callable[[Any], Any]
COSINES = 14  # per side of which pictures are sums: fine enough for what they show, too coarse for noise
DECAY = 1.0
SURE = 0.5


def search(
    start: NDArray[Any],
    decode: Decode,
    loss: Callable[[Any, Any, Any], Any],
    *,
    steps: int,
    learning_rate: float,
) -> NDArray[Any]:
    """Points (k, *shape) of least loss, of each the best of several starts: `start` (k, starts, d), by Adam.

    decode: tensors (n, d) -> points (n, *shape); loss: (points, their numbers (n, d), step) -> (n,), where n =
    k * starts with the starts of one point together. Several of them, because nothing here is convex.
    """
    tf = tensorflow()
    check_search(start.shape[1], steps, learning_rate)
    k, starts, size = start.shape
    numbers = tf.Variable(start.reshape(k * starts, size), dtype=tf.float32)
    optimizer = tf.keras.optimizers.legacy.Adam(learning_rate)

    @tf.function  # type: ignore[untyped-decorator]
    def descend() -> Any:
        for step in tf.range(steps):
            with tf.GradientTape() as tape:
                losses = loss(decode(numbers), numbers, step)
            apply_gradients(optimizer, [tape.gradient(losses, numbers)], [numbers])
        points = decode(numbers)
        return points, loss(points, numbers, steps)

    points, losses = (tensor.numpy() for tensor in descend())
    best = losses.reshape(k, starts).argmin(1)
    found: NDArray[Any] = points.reshape(k, starts, *points.shape[1:])[np.arange(k), best]
    return found


def check_search(starts: int, steps: int, learning_rate: float) -> None:
    """Raise UserError for options with which no search is possible."""
    if starts < 1 or steps < 1 or not 0 < learning_rate < math.inf:
        raise UserError(
            f"starts and steps must be at least 1 and learning_rate above 0, not {starts}, {steps} and "
            f"{learning_rate:g}."
        )


def canvas(public: NDArray[Any], frequencies: int = COSINES) -> tuple[int, Decode]:
    """How many numbers make a picture like those of `public`, and the function from numbers to pictures in (0, 1).

    They are coefficients of smooth cosines, added to the logits of the mean public record; all 0 gives that mean. Of
    records that are no pictures they are added to the logits of the features.
    """
    import tensorflow as tf

    shape = public.shape[1:]
    mean = np.clip(public.mean(0), 0.02, 0.98)
    ground = np.log(mean / (1 - mean)).astype(np.float32).ravel()
    if is_picture(shape) and frequencies:
        basis = cosines(shape, min(frequencies, 3 * min(shape[:2]) // 4), DECAY)
    else:
        basis = np.eye(len(ground), dtype=np.float32)

    def draw(numbers: Any) -> Any:
        return tf.reshape(tf.sigmoid(ground + numbers @ basis), (-1, *shape))

    return len(basis), draw


def total_variation(pictures: Any) -> Any:
    """Mean absolute difference of neighbouring pixels, down and across, of each picture (n, h, w, colours): (n,)."""
    import tensorflow as tf

    down, across = pictures[:, 1:] - pictures[:, :-1], pictures[:, :, 1:] - pictures[:, :, :-1]
    return tf.reduce_mean(tf.abs(down), (1, 2, 3)) + tf.reduce_mean(tf.abs(across), (1, 2, 3))


def wanted_loss(
    model: Any, labels: NDArray[Any], starts: int, *, noise: float = 0.0, seed: int = 0
) -> Callable[[Any, Any], Any]:
    """Cross-entropy of the wanted labels (k,) at (points, step), where `starts` points in a row want the same.

    model: to logits. noise: standard deviation of what is added to the points, anew in every step: points that
    the model assigns to a class in spite of it are no artefacts of its weights.
    """
    import tensorflow as tf

    wanted = tf.constant(np.repeat(labels, starts))

    def loss(points: Any, step: Any) -> Any:
        if noise:
            points += noise * tf.random.stateless_normal(tf.shape(points), tf.stack([seed % 2**31, step]))
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=wanted, logits=model(points))

    return loss


def doubt_unsure(predict: Map, points: NDArray[Any], labels: NDArray[Any]) -> None:
    """Warn where the attacked model does not assign the target classes: then the search failed."""
    sure = float(predict(points)[np.arange(len(labels)), labels].mean())
    if not sure >= SURE:
        caveat = f"the attacked model gives its wanted class only {sure:.2f} on average: the search did not arrive"
        warnings.warn(Caveat(caveat), stacklevel=3)
