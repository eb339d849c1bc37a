"""Model inversion through predictions alone: a trained inverse (Yang et al. 2019) or finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import attack
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.randomness import stream
from bench.core.release import Map, Release
from bench.dp.tensorflow_setup import tensorflow
from bench.dp.training_program import apply_gradients
from bench.games import INVERSION, Wanted
from bench.models.code_decoder import trained_decoder
from bench.models.inversion_search import canvas, check_search, doubt_unsure, total_variation

METHODS = ("trained", "finite_differences")
LEAST = 1e-4  # of a probability: what lies below is the last digits of the model's output
TOP = 5  # public records a class whose predictions, the surest there are, are asked for
REACH = 0.1  # how far apart the pictures of a pair are, in numbers of the canvas


@attack("black_box_inversion", game=INVERSION, needs={"predict"}, floor=0.8)
def black_box_inversion(
    release: Release,
    targets: Wanted,
    public: Examples,
    *,
    seed: int,
    method: str = "trained",
    hidden: tuple[int, ...] = (256,),
    steps: int = 1000,
    pairs: int = 10,
    learning_rate: float = 0.05,
    smoothness: float = 2.0,
) -> NDArray[Any]:
    """A network from predictions to records, trained on those of public records and asked for a sure prediction.

    The prediction that is asked for is the mean of the logs of the surest that public records got for the label.
    method: "trained", or "finite_differences" for ascent along gradients that are estimated from the predictions of
    `pairs` of pictures at either side of the present one (Ilyas et al. 2018): 2 * steps * pairs queries a picture, and
    the only method that `pairs`, `learning_rate` and `smoothness` are for.
    """
    if method not in METHODS:
        raise UserError(f"black_box_inversion takes method={'|'.join(METHODS)}, not method={method}.")
    predict = release.predict
    assert predict is not None
    if method == "trained":
        found = _inverse(predict, targets, public, seed, hidden, steps)
    else:
        found = _ascent(predict, targets, public, seed, steps, pairs, learning_rate, smoothness)
    doubt_unsure(predict, found, targets.labels)
    return found


def _inverse(
    predict: Map, wanted: Wanted, public: Examples, seed: int, hidden: tuple[int, ...], steps: int
) -> NDArray[Any]:
    """What the trained inverse makes of the sharpest prediction that a public record ever got for each label."""

    def spoken(x: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any] = np.log(np.maximum(predict(x), LEAST))
        return found

    logs = spoken(public.x)
    asked = []
    for label in range(wanted.classes):
        ahead = logs[:, label] - np.delete(logs, label, axis=1).max(1)
        asked.append(logs[np.argsort(-ahead, kind="stable")[:TOP]].mean(0))
    decode = trained_decoder(spoken, public, seed, hidden=hidden, steps=steps)
    return decode(np.stack(asked)[wanted.labels])


def _ascent(
    predict: Map,
    wanted: Wanted,
    public: Examples,
    seed: int,
    steps: int,
    pairs: int,
    learning_rate: float,
    smoothness: float,
) -> NDArray[Any]:
    """Adam on the numbers of a canvas, along the mean slope between the two pictures of random pairs."""
    tf = tensorflow()
    check_search(pairs, steps, learning_rate)
    size, draw = canvas(public.x)
    k, rng = len(wanted.labels), stream(seed, "pairs")
    numbers = tf.Variable(0.1 * rng.standard_normal((k, size), np.float32))
    optimizer = tf.keras.optimizers.legacy.Adam(learning_rate)
    render = tf.function(draw, reduce_retracing=True)

    def loss(points: NDArray[Any]) -> NDArray[Any]:
        """Of pairs (2, pairs, k, size): (2, pairs, k)."""
        pictures = render(points.reshape(-1, size))
        sure = predict(pictures.numpy()).reshape(-1, k, wanted.classes)[:, np.arange(k), wanted.labels]
        rough = total_variation(pictures).numpy().reshape(-1, k)
        found: NDArray[Any] = smoothness * rough - np.log(np.maximum(sure, LEAST))
        return found.reshape(points.shape[:-1])

    for _ in range(steps):
        aside = rng.standard_normal((pairs, k, size), np.float32)
        low, high = loss(numbers.numpy() + REACH * np.stack([-aside, aside]))
        slope = ((high - low)[..., None] * aside).mean(0) / (2 * REACH)
        apply_gradients(optimizer, [tf.constant(slope, tf.float32)], [numbers])
    found: NDArray[Any] = render(numbers).numpy()
    return found
