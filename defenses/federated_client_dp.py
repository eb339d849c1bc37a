"""Collaborative learning where what is hidden is a whole client (McMahan, Ramage, Talwar and Zhang 2018)."""

from __future__ import annotations

import math
from typing import Annotated

from bench.core.component import Option, defense
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.release import Release
from bench.dp import accounting
from bench.dp.recipe import EPSILON
from bench.models.federated.plan import LocalTraining, Plan
from bench.models.federated.protocol import federation
from bench.models.federated.server import Policy


@defense(
    "federated_client_dp",
    publishes={"predict", "join"},
    private=True,
    public_knowledge=(
        "the number of private records",
        "the number of clients",
        "who holds which class",
        "the server, which alone sees the clients' updates",
    ),
)
def federated_client_dp(
    private: Examples,
    public: Examples,
    *,
    seed: int,
    epsilon: Annotated[float, EPSILON] = 8.0,
    local: LocalTraining = LocalTraining(hidden=(32,), rounds=10, local_steps=40),  # noqa: B008 - options
    update_clip: Annotated[float, Option("L2 norm to which updates are clipped", above=0, below=math.inf)] = 1.0,
    client_rate: Annotated[float, Option("chance of a client to take part in a round", above=0, at_most=1)] = 1.0,
) -> Release:
    """Federated averaging where the server clips every client's update and noises the sum before anybody sees it.

    A record that is added or removed changes its client's update at will, from one vector of length `update_clip` to
    another, so the noise is for twice that; it hides all of a client's records at once. Sampling clients is not counted
    as amplification: what is proven holds for clients that come or go, not for one that changes. One run of the
    protocol is covered. With few clients hardly anything is learnt.
    """
    if not 0 < update_clip < math.inf:
        raise UserError(f"update_clip must be a number above 0, not {update_clip:g}.")
    sigma = accounting.noise_multiplier(epsilon, accounting.delta_for(len(private)), 1.0, local.rounds)
    policy = Policy(clip=update_clip, noise_multiplier=sigma, client_rate=client_rate)
    made = federation(private, Plan(**vars(local)), seed, policy=policy)
    return made.release(accounting.training_event(1.0, sigma, local.rounds), observed=False)
