"""Collaborative learning in process: federated averaging (McMahan et al. 2017) of clients that hold few classes each.

With one local step on whole lots it is FedSGD; with shares of the parameters sent and fetched it is the distributed
selective SGD of Shokri and Shmatikov 2015. Clients have the shape of Flower's NumPyClient. Honest ones train as one
program; whoever joins sits beside them, and the server treats all alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.randomness import derive, stream
from bench.core.release import Release
from bench.dp import networks, train, training_loop
from bench.dp.layers import Single
from bench.dp.networks import Published, Weights
from bench.dp.train import Privacy, Recipe
from bench.models.federated.server import Message, Policy, Refused, Server, largest

if TYPE_CHECKING:
    from dp_accounting import DpEvent

Config = dict[str, int | str]
Reply = tuple[Weights, int, dict[str, Any]]


class Client(Protocol):
    """Flower's NumPyClient: weights are lists of arrays, and `config` holds "round" and "token"."""

    def get_parameters(self, config: Config) -> Weights:
        """Its weights as they are."""

    def fit(self, parameters: Weights, config: Config) -> Reply:
        """Global weights in; trained ones, the number of examples and {"token": config["token"], ...} back."""

    def evaluate(self, parameters: Weights, config: Config) -> tuple[float, int, dict[str, Any]]:
        """Loss and accuracy on its own records; this server asks nobody, since no noise would cover the answer."""


@dataclass(frozen=True)
class Plan:
    """How many clients there are, what they hold and how they train; all of it public.

    classes_each: a client has records of so many classes. hidden: layers of the global model. local_steps: plain SGD
    steps on Poisson lots of `batch_size` records expected, in each of `rounds`. upload, download: the share of the
    parameters that a client sends (those that it changed most) and fetches (those that changed most since).
    """

    clients: int = 5
    classes_each: int = 2
    hidden: tuple[int, ...] = (128,)
    rounds: int = 60
    local_steps: int = 20
    batch_size: int = 64
    learning_rate: float = 0.1
    upload: float = 1.0
    download: float = 1.0

    def __post_init__(self) -> None:
        if min(self.clients, self.classes_each, self.rounds, self.local_steps, self.batch_size) < 1:
            raise UserError("clients, classes_each, rounds, local_steps and batch_size must each be at least 1.")
        if not (0 < self.upload <= 1 and 0 < self.download <= 1):
            raise UserError(f"upload and download are shares in (0, 1], not {self.upload:g} and {self.download:g}.")

    @property
    def steps(self) -> int:
        """That each client takes in all rounds."""
        return self.rounds * self.local_steps

    def rate(self, n: int) -> float:
        """The chance of a record to be in a lot of its client, where the clients share `n` records."""
        return min(1.0, self.batch_size * self.clients / max(1, n))


@dataclass(frozen=True, eq=False)
class Terms:
    """What everybody is told who takes part.

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
        """The global model as a Keras model of its own: (encoded) records to logits of classes + 1."""
        model = networks.build(self.net, Single())
        if parameters is not None:
            model.set_weights(parameters)
        return model


@dataclass(frozen=True, eq=False)
class Seen:
    """What the server sees of one client in one round: the weights that it sent to it, and those that came back."""

    round: int
    client: str
    sent: Weights
    received: Weights
    terms: Terms


@dataclass(eq=False)
class Run:
    """The server's weights after the rounds that were played, and why updates were refused, a sentence each."""

    parameters: Weights
    refused: list[str] = field(default_factory=list)


Enter = Callable[[Terms], Client]


@dataclass(frozen=True, eq=False)
class Federation:
    """A protocol with its honest clients, whose records are `parts`; every run starts afresh.

    rows: which of the private records those are. privacy: clip and noise of record-level DP-SGD within each client.
    """

    terms: Terms
    parts: Sequence[Examples]
    rows: Sequence[NDArray[Any]]
    rate: float
    batch_size: float
    privacy: Privacy | None
    seed: int

    @property
    def recipe(self) -> Recipe:
        """How each honest client trains, over all rounds."""
        plan = self.terms.plan
        return Recipe(
            self.terms.net,
            plan.steps,
            self.rate,
            self.batch_size,
            plan.learning_rate,
            optimizer="sgd",
            privacy=self.privacy,
        )

    def start(self) -> Weights:
        """The first global weights."""
        found: Weights = training_loop.build(self.terms.net, [stream(self.seed, "start")]).get_weights()
        return found

    def play(self, name: str, run: Run, enter: Sequence[Enter] = ()) -> Iterator[Seen]:
        """Play all rounds, with randomness of the run's name; `run` is kept up to date, each update is shown."""
        seed = derive(self.seed, name)
        honest = Honest(self, derive(seed, "clients"))
        clients: dict[str, Client] = {f"client {k}": member for k, member in enumerate(honest.members)}
        clients |= {f"joined {k}": made(self.terms) for k, made in enumerate(enter)}
        terms, plan = self.terms, self.terms.plan
        server = Server(run.parameters, tuple(clients), terms.examples, plan.upload, terms.policy, seed)
        for number in range(1, plan.rounds + 1):
            sent = server.parameters
            for client, token in server.open().items():
                handed = [w.copy() for w in sent]
                weights, examples, metrics = clients[client].fit(handed, {"round": number, "token": token})
                try:
                    server.receive(Message(client, metrics.get("token"), weights, examples))
                except Refused as reason:
                    run.refused.append(f"Round {number}: {reason}")
                else:
                    yield Seen(number, client, sent, weights, terms)
            server.close()
            run.parameters = server.parameters
            train.progress(f"federated learning, {name} run", number, plan.rounds)

    def updates(self) -> Iterator[Seen]:
        """What the server of the honest run sees, computed as it is asked for."""
        return self.play("honest", Run(self.start()))

    def join(self, *enter: Enter) -> Run:
        """A run with all who enter beside the honest clients; its lots and noise are not those of the honest run."""
        run = Run(self.start())
        for _ in self.play("joined", run, enter):
            pass
        return run

    def trained(self) -> Weights:
        """The global weights at the end of the honest run, remembered as any fit is."""
        records = [(part.x, part.y) for part in self.parts]
        asked = self.recipe, self.terms.plan, self.terms.policy, records, self.terms.examples, self.seed

        def make() -> dict[str, NDArray[Any]]:
            start, run = time.perf_counter(), Run(self.start())
            for _ in self.play("honest", run):
                pass
            found = {f"w{i}": w for i, w in enumerate(run.parameters)}
            return found | {"seconds": np.array(time.perf_counter() - start)}

        found = train.remembered(asked, self.terms.net, make, Path(__file__))
        return [found[f"w{i}"] for i in range(len(found) - 1)]

    def release(self, dp_event: DpEvent, *, observed: bool = True) -> Release:
        """What everybody, whoever joins and, where it is `observed`, the server get to see; each of one run."""
        tf = training_loop.tensorflow()
        encode, head = self.terms.encode, self.terms.model(self.trained())
        known = tf.keras.layers.Lambda(lambda logits: logits[:, : self.terms.classes])
        model = networks.chained(*([encode.model] if encode else []), head, known)
        predict = networks.mapping(model, after="softmax")
        updates = self.updates if observed else None
        return Release(dp_event, predict=predict, join=self.join, updates=updates, encode=encode)


def federation(
    private: Examples,
    plan: Plan,
    seed: int,
    *,
    policy: Policy | None = None,
    privacy: Privacy | None = None,
    encode: Published | None = None,
) -> Federation:
    """The clients that share the `private` records, and their terms.

    Rates, divisors and weights of the average follow from the plan and from how many records there are in all, never
    from what a client holds: with them clients' counts would leave in the clear.
    """
    rows = partition(private.y, private.classes, plan, derive(seed, "partition"))
    seen = Examples(encode(private.x), private.y, private.classes) if encode else private
    # One class more in the records' schema as well: what is trained on them has its output.
    parts = [Examples(seen.x[own], seen.y[own], private.classes + 1) for own in rows]
    net = networks.Classifier(seen.shape, private.classes + 1, plan.hidden)
    n, rate = len(private), plan.rate(len(private))
    terms = Terms(plan, policy or Policy(), net, max(1, n // plan.clients), encode)
    return Federation(terms, parts, rows, rate, max(1.0, rate * n / plan.clients), privacy, seed)


def partition(y: NDArray[Any], classes: int, plan: Plan, seed: int) -> list[NDArray[Any]]:
    """Rows of each client, disjoint and of all records: a record goes to one of those who hold its class.

    Who holds what, and which of them gets a record, is drawn from the seed, for each record independently of all
    others: one record more or less changes one client. Raises UserError where a class would have no holder.
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


class Honest:
    """All honest clients, trained side by side: when the first of them is asked in a round, all take their steps."""

    def __init__(self, federation: Federation, seed: int) -> None:
        count = len(federation.parts)
        self.terms = federation.terms
        self.local = [federation.start()] * count
        self.members = [_Member(self, k, part) for k, part in enumerate(federation.parts)]
        recipes, seeds = [federation.recipe] * count, [derive(seed, k) for k in range(count)]
        self._training = training_loop.Training(recipes, federation.parts, seeds)
        self._answered: tuple[int, list[Weights]] = (0, [])

    def answers(self, number: int, parameters: Weights) -> list[Weights]:
        """What each of them sends in round `number`."""
        if number != self._answered[0]:
            plan = self.terms.plan
            before = [_fetched(own, parameters, plan.download) for own in self.local]
            self._training.set_weights([np.stack(ws) for ws in zip(*before, strict=True)])
            self._training.run(plan.local_steps)
            weights = self._training.weights
            self.local = [[w[k] for w in weights] for k in range(len(before))]
            changes = (_less(new, old) for new, old in zip(self.local, before, strict=True))
            sent = [_plus(parameters, largest(change, plan.upload)) for change in changes]
            self._answered = number, sent
        return self._answered[1]


@dataclass(frozen=True, eq=False)
class _Member:
    """One honest client."""

    honest: Honest
    k: int
    records: Examples

    def get_parameters(self, config: Config) -> Weights:
        return self.honest.local[self.k]

    def fit(self, parameters: Weights, config: Config) -> Reply:
        sent = self.honest.answers(int(config["round"]), parameters)[self.k]
        return sent, self.honest.terms.examples, {"token": config["token"]}

    def evaluate(self, parameters: Weights, config: Config) -> tuple[float, int, dict[str, Any]]:
        tf = training_loop.tensorflow()
        logits = self.honest.terms.model(parameters)(self.records.x)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=self.records.y, logits=logits)
        right = logits.numpy().argmax(1) == self.records.y
        return float(tf.reduce_mean(losses)), len(right), {"accuracy": float(right.mean())}


def _fetched(own: Weights, parameters: Weights, share: float) -> Weights:
    """A client's weights, with the share of the global ones in their place that differ most from them."""
    if share == 1:
        return parameters
    differ = largest(_less(parameters, own), share)
    return [np.where(part != 0, new, old) for part, new, old in zip(differ, parameters, own, strict=True)]


def _less(a: Weights, b: Weights) -> Weights:
    return [x - y for x, y in zip(a, b, strict=True)]


def _plus(a: Weights, b: Weights) -> Weights:
    return [x + y for x, y in zip(a, b, strict=True)]
