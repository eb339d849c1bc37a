"""Collaborative learning without a defense: federated averaging of clients that hold few classes each."""

from __future__ import annotations

import math
from typing import Annotated

from bench.core.component import defense
from bench.core.dataset import Examples
from bench.core.release import Release
from bench.dp import accounting
from bench.models.federated.plan import Plan
from bench.models.federated.protocol import federation
from bench.models.federated.server import NORM_BOUND, Policy


@defense("federated", publishes={"predict", "join", "updates"}, undefended=True)
def federated(
    private: Examples,
    public: Examples,
    *,
    seed: int,
    plan: Plan = Plan(),  # noqa: B008 - a group of options
    norm_bound: Annotated[float, NORM_BOUND] = math.inf,
) -> Release:
    """Federated averaging, undefended: clients train on their records, and a server averages their updates.

    FedSGD: local_steps=1 and a batch_size of all records of a client. Upload and download are as in Shokri and
    Shmatikov 2015.
    """
    return federation(private, plan, seed, policy=Policy(norm_bound)).release(accounting.no_privacy())
