"""The server as observer: pictures whose gradient is what a client sent (Zhu et al. 2019; Geiping et al. 2020).

Zhu et al. match gradients by their distance, Geiping et al. by their angle and with a total-variation prior, which
still works for networks that have been trained and for updates of several steps: those point to where the records are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import attack
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.randomness import stream
from bench.core.release import Release
from bench.dp.tensorflow_setup import tensorflow
from bench.games import INVERSION, Wanted
from bench.models.federated.protocol import Seen
from bench.models.inversion_search import canvas, search, total_variation


@attack("gradient_leakage", game=INVERSION, needs={"updates"}, floor=0.6)
def gradient_leakage(
    release: Release,
    targets: Wanted,
    public: Examples,
    *,
    seed: int,
    steps: int = 300,
    learning_rate: float = 0.05,
    smoothness: float = 0.05,
    cosines: int = 14,
    first: int = 1,
) -> NDArray[Any]:
    """Pictures that a client's update would come from: the angle between gradients, with a total-variation prior.

    Of the wanted pictures of one label each is taken from another round, from round `first` on. A label's pictures are
    sought in the update of the client that raised its output most: its records are there (Zhao et al. 2020, iDLG).
    Where clients encode their records first the gradient goes through the encoder. waves: as in gradient_inversion.
    """
    assert release.updates is not None
    if first < 1:
        raise UserError(f"first is a round, from 1 on, not {first}.")
    turn = _turns(targets.labels)
    rounds = itertools.groupby(release.updates(), key=lambda seen: seen.round)
    size, draw = canvas(public.x, cosines)
    found = np.zeros((len(targets.labels), *targets.shape), np.float32)
    last = first + int(turn.max())
    for number, updates in rounds:
        wanted = np.flatnonzero(first + turn == number)
        if len(wanted):
            labels = targets.labels[wanted]
            start = 0.1 * stream(seed, "starts", number).standard_normal((len(wanted), 1, size), np.float32)
            unlike = _Unlike(list(updates), labels)

            def loss(pictures: Any, _numbers: Any, _step: Any, unlike: _Unlike = unlike) -> Any:
                return unlike(pictures) + smoothness * total_variation(pictures)

            found[wanted] = search(start, draw, loss, steps=steps, learning_rate=learning_rate)
        if number == last:
            break
    return found


def _turns(labels: NDArray[Any]) -> NDArray[Any]:
    """Of each picture, how many of the same label come before it."""
    return np.array([int((labels[:i] == label).sum()) for i, label in enumerate(labels)])


class _Unlike:
    """Of pictures, one a label, how far the gradients by which they would change the model are from what was sent."""

    def __init__(self, updates: Sequence[Seen], labels: NDArray[Any]) -> None:
        self.labels = labels
        terms = updates[0].terms
        self._model = terms.model(updates[0].sent)
        self._encode = terms.encode.model if terms.encode else lambda x: x
        moved = [[new - old for new, old in zip(seen.received, seen.sent, strict=True)] for seen in updates]
        self.owner = np.array([update[-1] for update in moved])[:, labels].argmax(0)  # of the last biases
        self._sent = {k: moved[k] for k in np.unique(self.owner).tolist()}

    def __call__(self, pictures: Any) -> Any:
        tf = tensorflow()
        weights, apart = self._model.trainable_weights, [tf.zeros(len(pictures))]
        for k, sent in self._sent.items():
            own = np.flatnonzero(self.owner == k)
            with tf.GradientTape() as tape:
                logits = self._model(self._encode(tf.gather(pictures, own)))
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=self.labels[own], logits=logits)
            gradients = tape.gradient(losses, weights)
            # A client moves against its gradient.
            apart.append(tf.where(self.owner == k, (1 + _cosine(gradients, sent)) / len(own), 0.0))
        return tf.add_n(apart)


def _cosine(a: Iterable[Any], b: Iterable[Any]) -> Any:
    tf = tensorflow()
    a, b = list(a), list(b)

    def product(x: Sequence[Any], y: Sequence[Any]) -> Any:
        return tf.add_n([tf.reduce_sum(u * v) for u, v in zip(x, y, strict=True)])

    return product(a, b) / tf.sqrt(product(a, a) * product(b, b) + 1e-20)
