"""Collaborative learning with DP-SGD within each client (Shokri and Shmatikov 2015; Abadi et al. 2016)."""

from __future__ import annotations

import math
from typing import Annotated

from bench.core.component import defense
from bench.core.dataset import Examples
from bench.core.release import Release
from bench.dp import accounting
from bench.dp.recipe import CLIP, EPSILON, private_training
from bench.models.federated.plan import Plan
from bench.models.federated.protocol import federation
from bench.models.federated.server import NORM_BOUND, Policy


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
    epsilon: Annotated[float, EPSILON] = 8.0,
    plan: Plan = Plan(hidden=(32,), rounds=40, local_steps=5, batch_size=500, learning_rate=2.0),  # noqa: B008 - a group of options
    norm_bound: Annotated[float, NORM_BOUND] = math.inf,
    l2_norm_clip: Annotated[float, CLIP] = 1.0,
) -> Release:
    """Federated averaging where every local step of every client is one of DP-SGD: clipped records, noised sums.

    Clients share no record, so one that is added or removed touches the steps of one client alone: parallel
    composition. Everything that a client sends is covered for one run of the protocol, against server and clients; the
    honest run and a joined one beside it would spend twice.
    """
    rate = plan.rate(len(private))
    privacy = private_training(epsilon, len(private), rate, plan.steps, l2_norm_clip)
    made = federation(private, plan, seed, policy=Policy(norm_bound), privacy=privacy)
    dp_event = accounting.training_event(rate, privacy.noise_multiplier if privacy else 0.0, plan.steps)
    return made.release(accounting.parallel([dp_event] * plan.clients, made.rows))
