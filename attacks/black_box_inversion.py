"""Model inversion through predictions alone: a trained inverse (Yang et al. 2019) or finite differences."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option, attack
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.randomness import stream
from bench.core.release import Map, Release
from bench.dp.tensorflow_setup import tensorflow
from bench.dp.training_program import apply_gradients
from bench.games import INVERSION, InversionTargets
from bench.models.code_decoder import trained_decoder
from bench.models.inversion_search import canvas, check_search, doubt_unsure, total_variation

METHODS = ("trained", "finite_differences")
LEAST = 1e-4  # probability below which the model's output is rounding noise
TOP = 5  # public records per class whose predictions, the most confident ones, are inverted
REACH = 0.1  # half of the distance between the pictures of a pair, in coordinates of the canvas


@attack("black_box_inversion", game=INVERSION, needs={"predict"}, required_score=0.8)
def black_box_inversion(
    release: Release,
    targets: InversionTargets,
    public: Examples,
    *,
    seed: int,
    method: Annotated[
        str, Option("train an inverse network, or estimate gradients from predictions", one_of=METHODS)
    ] = "trained",
    hidden: Annotated[tuple[int, ...], Option("units of each hidden layer of the inverse network", at_least=1)] = (
        256,
    ),
    steps: Annotated[int, Option("training steps of the inverse network, or steps of the ascent", at_least=1)] = 1000,
    pairs: Annotated[
        int, Option("pairs of pictures that a gradient is estimated from, for method=finite_differences", at_least=1)
    ] = 10,
    learning_rate: Annotated[
        float, Option("of the ascent, for method=finite_differences", above=0, below=math.inf)
    ] = 0.05,
    smoothness: Annotated[float, Option("weight of the total variation, for method=finite_differences")] = 2.0,
) -> NDArray[Any]:
    """A network from predictions to records, trained on public records and applied to a confident prediction.

    The prediction that it inverts is the mean of the logs of the most confident ones of public records for the label.
    method: "trained", or "finite_differences" for ascent along gradients that are estimated from the predictions of
    `pairs` of pictures on either side of the current one (Ilyas et al. 2018): 2 * steps * pairs queries per picture.
    `pairs`, `learning_rate` and `smoothness` are for that method alone.
    """
    if method not in METHODS:
        raise UserError(f"black_box_inversion takes method={'|'.join(METHODS)}, not method={method}.")
    predict = release.predict
    assert predict is not None
    if method == "trained":
        answer = _inverse(predict, targets, public, seed, hidden, steps)
    else:
        answer = _ascent(predict, targets, public, seed, steps, pairs, learning_rate, smoothness)
    doubt_unsure(predict, answer, targets.labels)
    return answer


def _inverse(
    predict: Map, targets: InversionTargets, public: Examples, seed: int, hidden: tuple[int, ...], steps: int
) -> NDArray[Any]:
    """The trained inverse of the most confident predictions of public records for each label."""

    def log_probabilities(x: NDArray[Any]) -> NDArray[Any]:
        logs: NDArray[Any] = np.log(np.maximum(predict(x), LEAST))
        return logs

    logs = log_probabilities(public.x)
    confident = []
    for label in range(targets.classes):
        margin = logs[:, label] - np.delete(logs, label, axis=1).max(1)
        confident.append(logs[np.argsort(-margin, kind="stable")[:TOP]].mean(0))
    decode = trained_decoder(log_probabilities, public, seed, hidden=hidden, steps=steps)
    return decode(np.stack(confident)[targets.labels])


def _ascent(
    predict: Map,
    targets: InversionTargets,
    public: Examples,
    seed: int,
    steps: int,
    pairs: int,
    learning_rate: float,
    smoothness: float,
) -> NDArray[Any]:
    """Adam on the coordinates of a canvas, along the mean slope between the two pictures of random pairs."""
    tf = tensorflow()
    check_search(pairs, steps, learning_rate)
    size, draw = canvas(public.x)
    k, rng = len(targets.labels), stream(seed, "pairs")
    coordinates = tf.Variable(0.1 * rng.standard_normal((k, size), np.float32))
    optimizer = tf.keras.optimizers.legacy.Adam(learning_rate)
    render = tf.function(draw, reduce_retracing=True)

    def loss(points: NDArray[Any]) -> NDArray[Any]:
        """Losses (2, pairs, k) of pairs (2, pairs, k, size)."""
        pictures = render(points.reshape(-1, size))
        confidence = predict(pictures.numpy()).reshape(-1, k, targets.classes)[:, np.arange(k), targets.labels]
        rough = total_variation(pictures).numpy().reshape(-1, k)
        losses: NDArray[Any] = smoothness * rough - np.log(np.maximum(confidence, LEAST))
        return losses.reshape(points.shape[:-1])

    for _ in range(steps):
        direction = rng.standard_normal((pairs, k, size), np.float32)
        low, high = loss(coordinates.numpy() + REACH * np.stack([-direction, direction]))
        slope = ((high - low)[..., None] * direction).mean(0) / (2 * REACH)
        apply_gradients(optimizer, [tf.constant(slope, tf.float32)], [coordinates])
    answer: NDArray[Any] = render(coordinates).numpy()
    return answer
