"""The server as observer: pictures whose gradient is what a client sent (Zhu et al. 2019; Geiping et al. 2020).

Zhu et al. match gradients by their distance, Geiping et al. by their angle and with a total-variation prior, which
still works for trained networks and for updates of several steps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option, attack
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.randomness import stream
from bench.core.release import Release
from bench.dp.tensorflow_setup import tensorflow
from bench.games import INVERSION, InversionTargets
from bench.models.federated.protocol import Seen
from bench.models.inversion_search import canvas, search, total_variation


@attack("gradient_leakage", game=INVERSION, needs={"updates"}, required_score=0.6)
def gradient_leakage(
    release: Release,
    targets: InversionTargets,
    public: Examples,
    *,
    seed: int,
    steps: Annotated[int, Option("steps of each search", at_least=1)] = 300,
    learning_rate: Annotated[float, Option("of the search", above=0, below=math.inf)] = 0.05,
    smoothness: Annotated[float, Option("weight of the total variation")] = 0.05,
    cosines: Annotated[
        int, Option("cosines per side that a picture consists of, 0 for single pixels", at_least=0)
    ] = 14,
    first: Annotated[int, Option("first round whose updates are inverted", at_least=1)] = 1,
) -> NDArray[Any]:
    """Pictures whose gradient has the direction of a client's update, with a total-variation prior.

    The pictures of one label are taken from successive rounds, from round `first` on. A label's picture is searched in
    the update of the client that raised the label's output most: its records have that label (Zhao et al. 2020, iDLG).
    Where clients encode their records first, the gradient goes through the encoder. cosines: as in gradient_inversion.
    """
    assert release.updates is not None
    if first < 1:
        raise UserError(f"first is a round, from 1 on, not {first}.")
    delay = _earlier_pictures(targets.labels)
    rounds = itertools.groupby(release.updates(), key=lambda update: update.round)
    size, draw = canvas(public.x, cosines)
    answer = np.zeros((len(targets.labels), *targets.shape), np.float32)
    last = first + int(delay.max())
    for number, updates in rounds:
        rows = np.flatnonzero(first + delay == number)
        if len(rows):
            labels = targets.labels[rows]
            start = 0.1 * stream(seed, "starts", number).standard_normal((len(rows), 1, size), np.float32)
            mismatch = _GradientMismatch(list(updates), labels)

            def loss(pictures: Any, _numbers: Any, _step: Any, mismatch: _GradientMismatch = mismatch) -> Any:
                return mismatch(pictures) + smoothness * total_variation(pictures)

            answer[rows] = search(start, draw, loss, steps=steps, learning_rate=learning_rate)
        if number == last:
            break
    return answer


def _earlier_pictures(labels: NDArray[Any]) -> NDArray[Any]:
    """For each picture, how many of the same label come before it."""
    return np.array([int((labels[:i] == label).sum()) for i, label in enumerate(labels)])


class _GradientMismatch:
    """How far the gradients of pictures, one per label, are from the directions of the clients' updates."""

    def __init__(self, updates: Sequence[Seen], labels: NDArray[Any]) -> None:
        self.labels = labels
        terms = updates[0].terms
        self._model = terms.model(updates[0].sent)
        self._encode = terms.encode.model if terms.encode else lambda x: x
        changes = [[new - old for new, old in zip(one.received, one.sent, strict=True)] for one in updates]
        self.owner = np.array([change[-1] for change in changes])[:, labels].argmax(0)  # of the last biases
        self._changes = {k: changes[k] for k in np.unique(self.owner).tolist()}

    def __call__(self, pictures: Any) -> Any:
        tf = tensorflow()
        weights, mismatch = self._model.trainable_weights, [tf.zeros(len(pictures))]
        for k, change in self._changes.items():
            rows = np.flatnonzero(self.owner == k)
            with tf.GradientTape() as tape:
                logits = self._model(self._encode(tf.gather(pictures, rows)))
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=self.labels[rows], logits=logits)
            gradients = tape.gradient(losses, weights)
            # A client moves against its gradient.
            mismatch.append(tf.where(self.owner == k, (1 + _cosine(gradients, change)) / len(rows), 0.0))
        return tf.add_n(mismatch)


def _cosine(a: Iterable[Any], b: Iterable[Any]) -> Any:
    tf = tensorflow()
    a, b = list(a), list(b)

    def product(x: Sequence[Any], y: Sequence[Any]) -> Any:
        return tf.add_n([tf.reduce_sum(u * v) for u, v in zip(x, y, strict=True)])

    return product(a, b) / tf.sqrt(product(a, a) * product(b, b) + 1e-20)
