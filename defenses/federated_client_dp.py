"""Collaborative learning where what is hidden is a whole client (McMahan, Ramage, Talwar and Zhang 2018)."""

from __future__ import annotations

from bench.core.component import defense
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.release import Release
from bench.dp import accounting
from bench.models.federated.protocol import Plan, federation
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
    epsilon: float = 8.0,
    clients: int = 5,
    classes_each: int = 2,
    hidden: tuple[int, ...] = (32,),
    rounds: int = 10,
    local_steps: int = 40,
    batch_size: int = 64,
    learning_rate: float = 0.1,
    update_clip: float = 1.0,
    client_rate: float = 1.0,
) -> Release:
    """Federated averaging where the server clips every client's update and noises the sum before anybody sees it.

    A record that is added or removed changes its client's update at will, from one vector of length `update_clip` to
    another, so the noise is for twice that; it hides all of a client's records at once. Sampling clients is not counted
    as amplification: what is proven holds for clients that come or go, not for one that changes. One run of the
    protocol is covered. With few clients hardly anything is learnt.
    """
    if not 0 < update_clip < float("inf"):
        raise UserError(f"update_clip must be a number above 0, not {update_clip:g}.")
    plan = Plan(clients, classes_each, hidden, rounds, local_steps, batch_size, learning_rate)
    sigma = accounting.noise_multiplier(epsilon, accounting.delta_for(len(private)), 1.0, rounds)
    policy = Policy(clip=update_clip, noise_multiplier=sigma, client_rate=client_rate)
    made = federation(private, plan, seed, policy=policy)
    return made.release(accounting.training_event(1.0, sigma, rounds), observed=False)
