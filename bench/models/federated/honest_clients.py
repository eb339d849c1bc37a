"""The honest clients of collaborative learning, which train as one program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.core.dataset import Examples
from bench.core.randomness import derive
from bench.dp import training_loop
from bench.dp.networks import Weights
from bench.dp.recipe import Recipe
from bench.dp.tensorflow_setup import tensorflow
from bench.models.federated.plan import Config, Reply, Terms
from bench.models.federated.server import largest


class HonestClients:
    """All honest clients, trained as one program: when the first of them is asked in a round, all take their steps.

    shards: the records of each; start: the first weights of all.
    """

    def __init__(self, terms: Terms, recipe: Recipe, shards: Sequence[Examples], start: Weights, seed: int) -> None:
        count = len(shards)
        self.terms = terms
        self.local = [start] * count
        self.members = [_Member(self, k, shard) for k, shard in enumerate(shards)]
        self.training = training_loop.Training([recipe] * count, shards, [derive(seed, k) for k in range(count)])
        self._answered: tuple[int, list[Weights]] = (0, [])

    def answers(self, number: int, parameters: Weights) -> list[Weights]:
        """What each of them sends in round `number`."""
        if number != self._answered[0]:
            plan = self.terms.plan
            before = [_downloaded(weights, parameters, plan.download) for weights in self.local]
            self.training.set_weights([np.stack(ws) for ws in zip(*before, strict=True)])
            self.training.run(plan.local_steps)
            weights = self.training.weights
            self.local = [[w[k] for w in weights] for k in range(len(before))]
            changes = (_less(new, old) for new, old in zip(self.local, before, strict=True))
            sent = [_plus(parameters, largest(change, plan.upload)) for change in changes]
            self._answered = number, sent
        return self._answered[1]


@dataclass(frozen=True, eq=False)
class _Member:
    """One honest client."""

    clients: HonestClients
    k: int
    records: Examples

    def get_parameters(self, config: Config) -> Weights:
        return self.clients.local[self.k]

    def fit(self, parameters: Weights, config: Config) -> Reply:
        sent = self.clients.answers(int(config["round"]), parameters)[self.k]
        return sent, self.clients.terms.examples, {"token": config["token"]}

    def evaluate(self, parameters: Weights, config: Config) -> tuple[float, int, dict[str, Any]]:
        tf = tensorflow()
        logits = self.clients.terms.model(parameters)(self.records.x)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=self.records.y, logits=logits)
        right = logits.numpy().argmax(1) == self.records.y
        return float(tf.reduce_mean(losses)), len(right), {"accuracy": float(right.mean())}


def _downloaded(local: Weights, parameters: Weights, share: float) -> Weights:
    """A client's weights, with the share of the global ones in their place that differ most from them."""
    if share == 1:
        return parameters
    differ = largest(_less(parameters, local), share)
    return [np.where(part != 0, new, old) for part, new, old in zip(differ, parameters, local, strict=True)]


def _less(a: Weights, b: Weights) -> Weights:
    return [x - y for x, y in zip(a, b, strict=True)]


def _plus(a: Weights, b: Weights) -> Weights:
    return [x + y for x, y in zip(a, b, strict=True)]
