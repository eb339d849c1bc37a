"""Small federations, clients and servers for the tests of federated learning."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.core.dataset import Split
from bench.dp.networks import Weights
from bench.models.federated.plan import Config, Plan, Reply, Terms
from bench.models.federated.protocol import Federation, federation
from bench.models.federated.server import Message, Policy, Refused, Server

SMALL = {"rounds": 3, "local_steps": 2, "hidden": (8,)}
SIGMAS = 5.0  # standard deviations; the error rate of each statistical test is below 1e-6


def flat(weights: Weights) -> np.ndarray[Any, Any]:
    return np.concatenate([np.ravel(w) for w in weights])


def small_federation(data: Split, **changed: Any) -> Federation:
    return federation(data.private, Plan(**{**SMALL, **changed}), 0)


class Echo:
    """A client with the methods of Flower's NumPyClient that returns `change` of the parameters it receives."""

    def __init__(self, terms: Terms, change: Any = lambda weights: weights, examples: Any = 1) -> None:
        self.terms, self.change, self.examples = terms, change, examples
        self.received: list[Weights] = []

    def get_parameters(self, config: Config) -> Weights:
        return self.received[-1]

    def fit(self, parameters: Weights, config: Config) -> Reply:
        self.received.append([w.copy() for w in parameters])
        return self.change(parameters), self.examples, {"token": config["token"]}

    def evaluate(self, parameters: Weights, config: Config) -> tuple[float, int, dict[str, Any]]:
        return 0.0, 1, {}


def poisoned(weights: Weights, value: float) -> Weights:
    out = [w.copy() for w in weights]
    out[0].flat[3] = value
    return out


def server(**changed: Any) -> Server:
    start = [np.ones((2, 3), np.float32), np.zeros(3, np.float32)]
    policy = Policy(norm_bound=changed.pop("norm_bound", 5.0))
    return Server(start, ("a", "b"), 10, changed.pop("upload", 0.5), policy, 1)


def outcome(target: Server, messages: list[Message]) -> tuple[np.ndarray[Any, Any], list[str]]:
    """Returns the parameters after a round with these messages, and the reasons of refused messages."""
    refused = []
    for message in messages:
        try:
            target.receive(message)
        except Refused as reason:
            refused.append(str(reason))
    target.close()
    return flat(target.parameters), refused


def honest(target: Server, token: str) -> Message:
    return Message("a", token, poisoned(target.parameters, 1.25), 10)
