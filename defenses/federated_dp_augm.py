"""Collaborative learning on embeddings: the encoder of DP-AuGM in front of every client (Chen et al. 2018, sec. 4.1).

The encoder is differentially private; what the clients then do is not. They train on embeddings of their *private*
records and add no noise, so their updates depend on those records beyond what the epsilon of the encoder covers, and
the defense claims no epsilon at all. In `dp_augm` classifiers see embeddings of public records only, which is why its
claim holds. This one may still protect by perturbation: `encoder=random` and `encoder_epsilon=inf` show how much of its
effect is due to differential privacy.
"""

from __future__ import annotations

import math
from typing import Annotated

from bench.core.component import Option, defense
from bench.core.dataset import Examples
from bench.core.errors import UserError, suggest
from bench.core.release import Release
from bench.dp import accounting, networks
from bench.dp.networks import Autoencoder
from bench.dp.recipe import CLIP, DPTraining
from bench.dp.tensorflow_setup import tensorflow
from bench.models import published_encoder
from bench.models.classifier import batch_rate
from bench.models.federated.plan import Plan
from bench.models.federated.protocol import federation
from bench.models.federated.server import NORM_BOUND, Policy

ENCODERS = ("dp", "random")


@defense("federated_dp_augm", publishes={"predict", "join", "updates", "encode"})
def federated_dp_augm(
    private: Examples,
    public: Examples,
    *,
    seed: int,
    encoder_epsilon: Annotated[float, Option("privacy budget of the encoder, not of the release", above=0)] = 8.0,
    encoder: Annotated[str, Option("trained with DP-SGD, or never trained", one_of=ENCODERS)] = "dp",
    code_dim: Annotated[int, Option("numbers of an embedding", at_least=1)] = 64,
    encoder_steps: Annotated[int, Option("DP-SGD steps of the encoder", at_least=1)] = 200,
    encoder_batch_size: Annotated[int, Option("expected Poisson batch of the encoder", at_least=1)] = 500,
    encoder_learning_rate: Annotated[float, Option("learning rate of the encoder", above=0)] = 0.01,
    l2_norm_clip: Annotated[float, CLIP] = 1.0,
    plan: Plan = Plan(),  # noqa: B008 - a group of options
    norm_bound: Annotated[float, NORM_BOUND] = math.inf,
) -> Release:
    """Federated averaging of clients that encode their records first; the encoder alone is differentially private.

    The release claims no epsilon.
    """
    if encoder not in ENCODERS:
        raise UserError(f"there is no encoder {encoder!r}: {suggest(encoder, ENCODERS)}")
    rate = batch_rate(len(private), encoder_batch_size)
    net = Autoencoder(private.shape, (256,), code_dim, "tanh")
    training = DPTraining(steps=encoder_steps, learning_rate=encoder_learning_rate, l2_norm_clip=l2_norm_clip)
    recipe = training.recipe(net, len(private), encoder_epsilon, rate=rate)
    if encoder == "dp":
        encode, _ = published_encoder.trained(recipe, private, seed, "federated_dp_augm: autoencoder")
    else:
        encode = published_encoder.untrained(net, seed)
    centre, spread = published_encoder.spread(encode, public)
    scale = tensorflow().keras.layers.Rescaling(1 / spread, -centre / spread)
    scaled = networks.published(networks.chained(encode.model, scale))
    made = federation(private, plan, seed, policy=Policy(norm_bound), encode=scaled)
    return made.release(accounting.no_privacy())
