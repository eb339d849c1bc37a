"""DP-VaeGM: one differentially private variational autoencoder per class (Chen et al. 2018, section 4.2)."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from bench.core.component import defense
from bench.core.dataset import Examples
from bench.core.randomness import derive
from bench.core.release import Release
from bench.dp import accounting
from bench.dp import vae as vaes
from bench.dp.layers import ACTIVATION, HIDDEN
from bench.dp.recipe import CLIP_NETWORKS, EPSILON, RATE, DPTraining
from bench.dp.train import train
from bench.models.vae_generator import COSINES, LATENT_DIM, Synthesis, decoder, public_shares, vae


@defense(
    "dp_vaegm",
    publishes={"predict", "decode", "generate", "synthetic"},
    private=True,
    public_knowledge=(
        "the number of private records",
        "the set of labels",
        "features between 0 and 1",
        "pictures are smooth",
    ),
)
def dp_vaegm(
    private: Examples,
    public: Examples,
    *,
    seed: int,
    epsilon: Annotated[float, EPSILON] = 8.0,
    hidden: Annotated[tuple[int, ...], HIDDEN] = (64,),
    latent_dim: Annotated[int, LATENT_DIM] = 8,
    activation: Annotated[str, ACTIVATION] = "relu",
    cosines: Annotated[int, COSINES] = 10,
    rate: Annotated[float, RATE] = 0.2,
    clip_networks: Annotated[bool, CLIP_NETWORKS] = False,
    training: DPTraining = DPTraining(steps=150, learning_rate=0.02, schedule="linear"),  # noqa: B008 - options
    synthesis: Synthesis = Synthesis(),  # noqa: B008 - a group of options
) -> Release:
    """One VAE per class, trained with DP-SGD; the classifier sees samples only, with labels as public ones.

    The records of the classes are disjoint, so under add/remove adjacency their guarantees compose in parallel.
    Sampling rate, steps and divisor are the same for every class and use no count of a class: such counts would be a
    query too.
    """
    classes = private.classes
    parts = [np.flatnonzero(private.y == k) for k in range(classes)]
    net = vae(private.shape, hidden, latent_dim, activation, cosines=cosines, decay=0.5)
    recipe = training.recipe(net, len(private), epsilon, rate=rate, models=classes, clip_networks=clip_networks)
    seeds = [derive(seed, "vae", k) for k in range(classes)]
    fits = train(recipe, [private[part] for part in parts], seeds, f"dp_vaegm: {classes} VAEs")
    decode = decoder(vaes.routed(net, [fit.weights for fit in fits]), private.shape, classes)
    dp_event = accounting.parallel([fit.dp_event for fit in fits], parts)
    return synthesis.release(dp_event, decode, public_shares(public), public, seed, "dp_vaegm", len(private))
