"""Collaborative learning in process: federated averaging (McMahan et al. 2017) of clients that hold few classes each.

With one local step on all records it is FedSGD; with shares of the parameters uploaded and downloaded it is the
distributed selective SGD of Shokri and Shmatikov 2015. Clients have the interface of Flower's NumPyClient. Honest ones
train as one program; an adversary joins as one more client, and the server treats all alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples
from bench.core.randomness import derive, stream
from bench.core.release import Release
from bench.dp import networks, training_loop
from bench.dp.networks import Published, Weights
from bench.dp.recipe import Privacy, Recipe
from bench.dp.tensorflow_setup import tensorflow
from bench.dp.train import cached
from bench.dp.training_context import progress
from bench.models.federated.honest_clients import HonestClients
from bench.models.federated.plan import Client, Plan, Terms, partition
from bench.models.federated.server import Message, Policy, Refused, Server

if TYPE_CHECKING:
    from dp_accounting import DpEvent


@dataclass(frozen=True, eq=False)
class Seen:
    """What the server sees of one client in one round: the weights that it sent, and those that came back."""

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
    """A protocol with its honest clients, who hold one shard of the records each; every run starts from the beginning.

    rows: which private records are in each shard. privacy: clip and noise of record-level DP-SGD within each client.
    """

    terms: Terms
    shards: Sequence[Examples]
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

    def honest_clients(self, seed: int) -> HonestClients:
        """Its honest clients before the first round."""
        return HonestClients(self.terms, self.recipe, self.shards, self.start(), seed)

    def play(self, name: str, run: Run, enter: Sequence[Enter] = ()) -> Iterator[Seen]:
        """Play all rounds, with randomness that depends on `name`; updates `run` after each, yields every update."""
        seed = derive(self.seed, name)
        honest = self.honest_clients(derive(seed, "clients"))
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
            progress(f"federated learning, {name} run", number, plan.rounds)

    def updates(self) -> Iterator[Seen]:
        """What the server of the honest run sees, computed lazily."""
        return self.play("honest", Run(self.start()))

    def join(self, *enter: Enter) -> Run:
        """A run with more clients beside the honest ones; its batches and noise are not those of the honest run."""
        run = Run(self.start())
        for _ in self.play("joined", run, enter):
            pass
        return run

    def trained(self) -> Weights:
        """The global weights at the end of the honest run, cached as any fit is."""
        records = [(shard.x, shard.y) for shard in self.shards]
        key = self.recipe, self.terms.plan, self.terms.policy, records, self.terms.examples, self.seed

        def make() -> dict[str, NDArray[Any]]:
            start, run = time.perf_counter(), Run(self.start())
            for _ in self.play("honest", run):
                pass
            found = {f"w{i}": w for i, w in enumerate(run.parameters)}
            return found | {"seconds": np.array(time.perf_counter() - start)}

        found = cached(key, self.terms.net, make, Path(__file__))
        return [found[f"w{i}"] for i in range(len(found) - 1)]

    def release(self, dp_event: DpEvent, *, observed: bool = True) -> Release:
        """What the public, a client that joins and, with `observed`, the server can see; each of one run."""
        tf = tensorflow()
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

    Rates, divisors and weights of the average follow from the plan and from the number of all records, never from what
    a client holds: they would publish the counts of the clients.
    """
    rows = partition(private.y, private.classes, plan, derive(seed, "partition"))
    seen = Examples(encode(private.x), private.y, private.classes) if encode else private
    # The shards have one class more as well, because the models that are trained on them have an output for it.
    shards = [Examples(seen.x[one], seen.y[one], private.classes + 1) for one in rows]
    net = networks.Classifier(seen.shape, private.classes + 1, plan.hidden)
    n, rate = len(private), plan.rate(len(private))
    terms = Terms(plan, policy or Policy(), net, max(1, n // plan.clients), encode)
    return Federation(terms, shards, rows, rate, max(1.0, rate * n / plan.clients), privacy, seed)
