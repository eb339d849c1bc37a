"""Collaborative learning without a defense: federated averaging of clients that hold few classes each."""

from __future__ import annotations

import math

from bench.core.component import defense
from bench.core.dataset import Examples
from bench.core.release import Release
from bench.dp import accounting
from bench.models.federated.protocol import Plan, federation
from bench.models.federated.server import Policy


@defense("federated", publishes={"predict", "join", "updates"})
def federated(
    private: Examples,
    public: Examples,
    *,
    seed: int,
    clients: int = 5,
    classes_each: int = 2,
    hidden: tuple[int, ...] = (128,),
    rounds: int = 60,
    local_steps: int = 20,
    batch_size: int = 64,
    learning_rate: float = 0.1,
    upload: float = 1.0,
    download: float = 1.0,
    norm_bound: float = math.inf,
) -> Release:
    """Federated averaging, undefended: clients train on their own records, and a server averages what they send.

    FedSGD: local_steps=1 and a batch_size of all that a client holds. upload, download: shares of the parameters, as in
    Shokri and Shmatikov 2015. norm_bound: above which the server refuses an update.
    """
    plan = Plan(clients, classes_each, hidden, rounds, local_steps, batch_size, learning_rate, upload, download)
    return federation(private, plan, seed, policy=Policy(norm_bound)).release(accounting.no_privacy())
