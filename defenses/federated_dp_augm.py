"""Collaborative learning on codes: the encoder of DP-AuGM in front of every client (Chen et al. 2018, section 4.1).

The encoder is differentially private; what the clients then do is not. They train on codes of their *private* records
and add no noise, so what they send depends on those records beyond what the encoder's epsilon covers, and the defense
claims no epsilon at all. In `dp_augm` classifiers see codes of public records only, which is why its claim holds. What
this one may be worth is perturbation: `encoder=random` and `encoder_epsilon=inf` show how much of it is due to
differential privacy.
"""

from __future__ import annotations

import math

from bench.core.component import defense
from bench.core.dataset import Examples
from bench.core.errors import UserError, suggest
from bench.core.release import Release
from bench.dp import accounting, networks
from bench.dp.networks import Autoencoder
from bench.dp.train import Recipe, private_training
from bench.dp.training_loop import tensorflow
from bench.models import published_encoder
from bench.models.classifier import batch_rate
from bench.models.federated.protocol import Plan, federation
from bench.models.federated.server import Policy

ENCODERS = ("dp", "random")


@defense("federated_dp_augm", publishes={"predict", "join", "updates", "encode"})
def federated_dp_augm(
    private: Examples,
    public: Examples,
    *,
    seed: int,
    encoder_epsilon: float = 8.0,
    encoder: str = "dp",
    code_dim: int = 64,
    encoder_steps: int = 200,
    encoder_batch_size: int = 500,
    encoder_learning_rate: float = 0.01,
    l2_norm_clip: float = 1.0,
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
    """Federated averaging of clients that encode their records first; the encoder alone is differentially private.

    encoder_epsilon: of the published encoder, not of the release, which claims none. encoder: "dp", or "random" for one
    that was never trained.
    """
    if encoder not in ENCODERS:
        raise UserError(f"there is no encoder {encoder!r}: {suggest(encoder, ENCODERS)}")
    plan = Plan(clients, classes_each, hidden, rounds, local_steps, batch_size, learning_rate, upload, download)
    rate = batch_rate(len(private), encoder_batch_size)
    net = Autoencoder(private.shape, (256,), code_dim, "tanh")
    recipe = Recipe(
        net,
        encoder_steps,
        rate,
        max(1.0, rate * len(private)),
        encoder_learning_rate,
        privacy=private_training(encoder_epsilon, len(private), rate, encoder_steps, l2_norm_clip),
    )
    if encoder == "dp":
        encode, _ = published_encoder.trained(recipe, private, seed, "federated_dp_augm: autoencoder")
    else:
        encode = published_encoder.untrained(net, seed)
    centre, spread = published_encoder.spread(encode, public)
    scale = tensorflow().keras.layers.Rescaling(1 / spread, -centre / spread)
    scaled = networks.published(networks.chained(encode.model, scale))
    made = federation(private, plan, seed, policy=Policy(norm_bound), encode=scaled)
    return made.release(accounting.no_privacy())
