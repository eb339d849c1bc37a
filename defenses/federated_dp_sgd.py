"""Collaborative learning with DP-SGD within each client (Shokri and Shmatikov 2015; Abadi et al. 2016)."""

from __future__ import annotations

import math

from bench.core.component import defense
from bench.core.dataset import Examples
from bench.core.release import Release
from bench.dp import accounting
from bench.dp.train import private_training
from bench.models.federated.protocol import Plan, federation
from bench.models.federated.server import Policy


@defense(
    "federated_dp_sgd",
    publishes={"predict", "join", "updates"},
    private=True,
    public_knowledge=(
        "the number of private records",
        "the set of labels",
        "features between 0 and 1",
        "who holds which class",
    ),
)
def federated_dp_sgd(
    private: Examples,
    public: Examples,
    *,
    seed: int,
    epsilon: float = 8.0,
    clients: int = 5,
    classes_each: int = 2,
    hidden: tuple[int, ...] = (32,),
    rounds: int = 40,
    local_steps: int = 5,
    batch_size: int = 500,
    learning_rate: float = 2.0,
    upload: float = 1.0,
    download: float = 1.0,
    norm_bound: float = math.inf,
    l2_norm_clip: float = 1.0,
) -> Release:
    """Federated averaging where every local step of every client is one of DP-SGD: clipped records, noised sums.

    Clients share no record, so one that is added or removed touches the steps of one client alone: parallel
    composition. Everything that a client sends is covered, whoever looks, for one run of the protocol; the honest run
    and a joined one beside it would spend twice.
    """
    plan = Plan(clients, classes_each, hidden, rounds, local_steps, batch_size, learning_rate, upload, download)
    rate = plan.rate(len(private))
    privacy = private_training(epsilon, len(private), rate, plan.steps, l2_norm_clip)
    made = federation(private, plan, seed, policy=Policy(norm_bound), privacy=privacy)
    dp_event = accounting.training_event(rate, privacy.noise_multiplier if privacy else 0.0, plan.steps)
    return made.release(accounting.parallel([dp_event] * clients, made.rows))
