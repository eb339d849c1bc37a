"""What participants of collaborative learning know: plan, terms, interface of a client, and who holds which records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option
from bench.core.errors import UserError
from bench.core.randomness import stream
from bench.dp import networks
from bench.dp.layers import Single
from bench.dp.networks import Published, Weights
from bench.models.federated.server import Policy

Config = dict[str, int | str]
Reply = tuple[Weights, int, dict[str, Any]]


class Client(Protocol):
    """The interface of Flower's NumPyClient: weights are lists of arrays, `config` holds "round" and "token"."""

    def get_parameters(self, config: Config) -> Weights:
        """The current weights of the client."""

    def fit(self, parameters: Weights, config: Config) -> Reply:
        """Global weights in; trained ones, the number of examples and {"token": config["token"], ...} back."""

    def evaluate(self, parameters: Weights, config: Config) -> tuple[float, int, dict[str, Any]]:
        """Loss and accuracy on the client's records; this server never calls it: no noise would cover the answer."""


@dataclass(frozen=True)
class LocalTraining:
    """How many clients there are, what they hold and how they train; all of it public."""

    clients: Annotated[int, Option("number of clients", at_least=1)] = 5
    classes_each: Annotated[int, Option("classes of which a client holds records", at_least=1)] = 2
    hidden: Annotated[tuple[int, ...], Option("units of the hidden layers of the global model", at_least=1)] = (128,)
    rounds: Annotated[int, Option("rounds of the protocol", at_least=1)] = 60
    local_steps: Annotated[int, Option("SGD steps of a client in each round", at_least=1)] = 20
    batch_size: Annotated[int, Option("expected records of a client in a Poisson batch", at_least=1)] = 64
    learning_rate: Annotated[float, Option("learning rate of the clients", above=0)] = 0.1

    def __post_init__(self) -> None:
        if min(self.clients, self.classes_each, self.rounds, self.local_steps, self.batch_size) < 1:
            raise UserError("clients, classes_each, rounds, local_steps and batch_size must each be at least 1.")

    @property
    def steps(self) -> int:
        """The steps that each client takes in all rounds."""
        return self.rounds * self.local_steps

    def rate(self, n: int) -> float:
        """The chance of a record to be in a Poisson batch of its client, where the clients share `n` records."""
        return min(1.0, self.batch_size * self.clients / max(1, n))


@dataclass(frozen=True)
class Plan(LocalTraining):
    """Local training, and the share of the parameters that clients exchange with the server.

    A client uploads the parameters that it changed most and downloads those that differ most from its weights.
    """

    upload: Annotated[float, Option("share of the parameters that a client uploads", above=0, at_most=1)] = 1.0
    download: Annotated[float, Option("share of the parameters that a client downloads", above=0, at_most=1)] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 < self.upload <= 1 and 0 < self.download <= 1):
            raise UserError(f"upload and download are shares in (0, 1], not {self.upload:g} and {self.download:g}.")


@dataclass(frozen=True, eq=False)
class Terms:
    """What every participant knows.

    net: of the global model; its last output, number `classes`, is a class of which no honest client has a record.
    policy: what the server does to updates, and which it refuses.
    examples: how many a client is expected to hold. encode: what a client does to its records first.
    """

    plan: Plan
    policy: Policy
    net: networks.Classifier
    examples: int
    encode: Published | None = None

    @property
    def classes(self) -> int:
        """Those of the records; the number of the one class more."""
        return self.net.classes - 1

    def model(self, parameters: Weights | None = None) -> Any:
        """The global model as a new Keras model: (encoded) records to logits of classes + 1."""
        model = networks.build(self.net, Single())
        if parameters is not None:
            model.set_weights(parameters)
        return model


def partition(y: NDArray[Any], classes: int, plan: Plan, seed: int) -> list[NDArray[Any]]:
    """Rows of each client, disjoint and of all records: a record goes to one of the clients that hold its class.

    Which classes a client holds, and which client gets a record, is drawn from the seed, for each record independently
    of all others: one record more or less changes one client. Raises UserError where a class would have no client.
    """
    each = min(plan.classes_each, classes)
    if plan.clients * each < classes:
        held = f"{plan.clients} clients of {each} classes"
        raise UserError(f"{held} cannot hold {classes}: raise clients or classes_each.")
    order = stream(seed, "classes").permutation(classes)
    holds = np.zeros((plan.clients, classes), bool)
    for k in range(plan.clients):
        holds[k, order[(k * each + np.arange(each)) % classes]] = True
    owner = np.zeros(len(y), np.int64)
    for i, (label, draw) in enumerate(zip(y, stream(seed, "holders").random(len(y)), strict=True)):
        holders = np.flatnonzero(holds[:, label])
        owner[i] = holders[int(draw * len(holders))]
    return [np.flatnonzero(owner == k) for k in range(plan.clients)]
