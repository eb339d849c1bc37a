"""Collaborative learning in process: federated averaging (McMahan et al. 2017) of clients that hold few classes each.

With one local step on whole lots it is FedSGD; with shares of the parameters sent and fetched it is the distributed
selective SGD of Shokri and Shmatikov 2015. Clients have the shape of Flower's NumPyClient. Honest ones train as one
program; whoever joins sits beside them and is treated by the server as they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bench import engine, nets
from bench.aggregation import Policy, Refused, Server, largest
from bench.data import Examples
from bench.errors import UserError
from bench.layers import Single
from bench.nets import Published, Weights
from bench.randomness import derive, stream
from bench.store import digest
from bench.training import Privacy, Recipe, code_of, remembered

Config = dict[str, int | str]
Reply = tuple[Weights, int, dict[str, Any]]


class Client(Protocol):
    """Flower's NumPyClient (1.x): weights as lists of arrays; `config` holds `round` and `token`, to be sent back."""

    def get_parameters(self, config: Config) -> Weights:
        """Its weights now."""

    def fit(self, parameters: Weights, config: Config) -> Reply:
        """Global weights in; its own, how many examples they come from, and {"token": config["token"]} back."""

    def evaluate(self, parameters: Weights, config: Config) -> tuple[float, int, dict[str, Any]]:
        """Loss, number of examples and metrics of global weights on its own records; this server asks nobody."""


@dataclass(frozen=True, eq=False)
class Terms:
    """What everybody who takes part is told, all of it public.

    net: of the global model; its last output, number `classes`, is a class of which no honest client has a record.
    local_steps: Poisson lots of `batch_size` records expected, in each of `rounds`. upload, download: shares of the
    parameters. examples: how many a client is expected to hold. encode: what a client does to its records first.
    """

    net: nets.Classifier
    classes: int
    rounds: int
    local_steps: int
    batch_size: float
    learning_rate: float
    examples: int
    upload: float = 1.0
    download: float = 1.0
    encode: Published | None = None

    def model(self) -> Any:
        """A fresh Keras model of the net, (encoded) records to logits of classes + 1: weights are to be set."""
        return nets.build(self.net, Single())


@dataclass(frozen=True, eq=False)
class Seen:
    """What the server sees of one client in one round: the weights that it sent out, and those that came back."""

    round: int
    client: str
    sent: Weights
    received: Weights
    terms: Terms


@dataclass(frozen=True, eq=False)
class Joined:
    """What is left of a run for those who joined it: the last global weights, and the updates that were refused."""

    parameters: Weights
    refused: list[str]


Enter = Callable[[Terms], Client]


@dataclass(frozen=True)
class Plan:
    """How many take part, what each of them holds, and how they train; `net` is hidden layers and filters.

    classes_each: a client has records of so many classes, those in turn in an order drawn from the seed. rounds,
    local_steps, batch_size (expected), learning_rate, download: see Terms.
    """

    clients: int = 5
    classes_each: int = 2
    hidden: tuple[int, ...] = (128,)
    rounds: int = 60
    local_steps: int = 20
    batch_size: int = 64
    learning_rate: float = 0.1
    download: float = 1.0

    def __post_init__(self) -> None:
        if min(self.clients, self.classes_each, self.rounds, self.local_steps, self.batch_size) < 1:
            raise UserError("clients, classes_each, rounds, local_steps and batch_size must each be at least 1.")
        if not 0 < self.download <= 1:
            raise UserError(f"download is a share in (0, 1], not {self.download:g}.")

    def rate(self, n: int) -> float:
        """The chance of a record to be in a lot of its client, where `n` records are shared among the clients."""
        return min(1.0, self.batch_size * self.clients / max(1, n))


def partition(y: NDArray[Any], classes: int, plan: Plan, seed: int) -> list[NDArray[Any]]:
    """Rows of each client, disjoint and of all records: a record goes to one of those who hold its class.

    Who holds what and which of them gets a record is drawn from the seed, for each record apart, so one record more or
    less moves no other. Raises UserError where some class would have no holder.
    """
    each = min(plan.classes_each, classes)
    if plan.clients * each < classes:
        raise UserError(f"{plan.clients} clients with {each} classes each do not cover {classes}: raise either option.")
    order = stream(seed, "classes").permutation(classes)
    holds = np.zeros((plan.clients, classes), bool)
    for k in range(plan.clients):
        holds[k, order[(k * each + np.arange(each)) % classes]] = True
    draw = stream(seed, "holders").random(len(y))
    owner = np.array([np.flatnonzero(holds[:, c])[int(u * holds[:, c].sum())] for c, u in zip(y, draw, strict=True)])
    return [np.flatnonzero(owner == k) for k in range(plan.clients)]


@dataclass(frozen=True, eq=False)
class Federation:
    """A protocol with its honest clients; each call of `rounds` plays it from the start.

    parts: records of each client, as `terms.net` takes them; privacy: clip and noise of record-level DP-SGD in each.
    """

    terms: Terms
    parts: Sequence[Examples]
    rate: float
    policy: Policy
    seed: int
    privacy: Privacy | None = None

    @property
    def recipe(self) -> Recipe:
        """How each honest client trains, over all rounds."""
        terms = self.terms
        steps = terms.rounds * terms.local_steps
        return Recipe(terms.net, steps, self.rate, terms.batch_size, terms.learning_rate, "sgd", privacy=self.privacy)

    def start(self) -> Weights:
        """The first global weights."""
        model = engine.build(self.terms.net, [stream(self.seed, "start")])
        return [np.asarray(w) for w in model.get_weights()]

    def rounds(self, run: str, enter: Sequence[Enter] = ()) -> Iterator[Round]:
        """Play it: one Round after the other, in a run of its own randomness, which the word `run` names."""
        seed = derive(self.seed, run)
        honest = _Honest(self, seed)
        clients: dict[str, Client] = {f"client {k}": _Member(honest, k) for k in range(len(self.parts))}
        clients |= {f"joined {k}": made(self.terms) for k, made in enumerate(enter)}
        server = Server(self.start(), list(clients), self.terms.examples, self.policy, derive(seed, "server"))
        for _ in range(self.terms.rounds):
            now = Round(server.round + 1, server.parameters, {}, [], [])
            for name, token in server.open().items():
                handed = [w.copy() for w in server.parameters]
                weights, examples, metrics = clients[name].fit(handed, {"round": now.number, "token": token})
                try:
                    server.receive(name, str(metrics.get("token")), weights, examples)
                except Refused as reason:
                    now.refused.append(str(reason))
                else:
                    now.received[name] = weights
            server.close()
            now.after.extend(server.parameters)
            yield now

    def trained(self) -> Weights:
        """The global weights at the end of the honest run, remembered like any fit."""
        key = digest((self.recipe, vars(self.policy), [(p.x, p.y) for p in self.parts], self.seed, self.terms.download,
                      code_of(self.terms.net, "aggregation", "federated")))  # fmt: skip

        def play() -> dict[str, NDArray[Any]]:
            last = _last(self.rounds("honest"))
            return {f"w{i}": w for i, w in enumerate(last.after)}

        found = remembered(key, play)
        return [found[f"w{i}"] for i in range(len(self.start()))]

    def updates(self) -> Iterator[Seen]:
        """What the server of the honest run sees, client by client and round by round, computed as it is asked for."""
        for now in self.rounds("honest"):
            for name, weights in now.received.items():
                yield Seen(now.number, name, now.before, weights, self.terms)

    def join(self, *enter: Enter) -> Joined:
        """A run with everybody who enters beside the honest clients; its noise and lots are not the honest run's."""
        refused: list[str] = []
        weights = self.start()
        for now in self.rounds("joined", enter):
            refused += now.refused
            weights = now.after
        return Joined(weights, refused)


@dataclass(frozen=True, eq=False)
class Round:
    """One round: the global weights before and after it, what was received of whom, and why others were refused."""

    number: int
    before: Weights
    received: dict[str, Weights]
    refused: list[str]
    after: Weights


def _last(rounds: Iterator[Round]) -> Round:
    for now in rounds:
        pass
    return now


class _Honest:
    """All honest clients, trained side by side: when the first is asked in a round, all of them take their steps."""

    def __init__(self, federation: Federation, seed: int) -> None:
        count = len(federation.parts)
        seeds = [derive(seed, "client", k) for k in range(count)]
        self.terms, self.parts = federation.terms, federation.parts
        self._training = engine.Training([federation.recipe] * count, federation.parts, seeds)
        self._round = 0
        self.local = [np.repeat(w[None], count, 0) for w in federation.start()]
        self.replies: list[Weights] = []

    def take_part(self, number: int, parameters: Weights) -> None:
        """Train in round `number`, once."""
        if number == self._round:
            return
        self._round = number
        count = len(self.parts)
        before = self.local
        if self.terms.download < 1:
            mine = [[w[k] for w in before] for k in range(count)]
            fetched = [
                largest([new - old for new, old in zip(parameters, own, strict=True)], self.terms.download)
                for own in mine
            ]
            # In place of old + (new - old), so that what is fetched is what was sent to the last bit.
            before = [
                np.stack([np.where(fetched[k][i] != 0, new, old[k]) for k in range(count)])
                for i, (new, old) in enumerate(zip(parameters, before, strict=True))
            ]
        else:
            before = [np.repeat(w[None], count, 0) for w in parameters]
        self._training.set_weights(before)
        self._training.run(self.terms.local_steps)
        self.local = self._training.weights
        self.replies = [
            _changed(parameters, largest([now[k] - old[k] for now, old in zip(self.local, before, strict=True)],
                                         self.terms.upload))
            for k in range(count)
        ]  # fmt: skip


def _changed(parameters: Weights, update: Weights) -> Weights:
    return [w + part for w, part in zip(parameters, update, strict=True)]


class _Member:
    """One honest client."""

    def __init__(self, honest: _Honest, k: int) -> None:
        self._honest, self._k = honest, k

    def get_parameters(self, config: Config) -> Weights:
        return [w[self._k] for w in self._honest.local]

    def fit(self, parameters: Weights, config: Config) -> Reply:
        self._honest.take_part(int(config["round"]), parameters)
        # The expected number of examples: how many it really has is nobody's business.
        return self._honest.replies[self._k], self._honest.terms.examples, {"token": config["token"]}

    def evaluate(self, parameters: Weights, config: Config) -> tuple[float, int, dict[str, Any]]:
        raise PermissionError("an honest client tells nobody how it does on its own records")
