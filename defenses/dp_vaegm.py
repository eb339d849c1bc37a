"""DP-VaeGM: one differentially private variational autoencoder a class (Chen et al. 2018, section 4.2)."""

from __future__ import annotations

import numpy as np

from bench.core.component import defense
from bench.core.dataset import Examples
from bench.core.randomness import derive
from bench.core.release import Release
from bench.dp import accounting, networks
from bench.dp.train import Recipe, private_training, train
from bench.models.vae_generator import check_samples, decoder, downstream, generator, public_shares, vae


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
    epsilon: float = 8.0,
    hidden: tuple[int, ...] = (64,),
    latent_dim: int = 8,
    activation: str = "relu",
    cosines: int = 10,
    steps: int = 150,
    rate: float = 0.2,
    learning_rate: float = 0.02,
    optimizer: str = "adam",
    momentum: float = 0.9,
    schedule: str = "linear",
    ema: float = 0.0,
    l2_norm_clip: float = 1.0,
    clip_networks: bool = False,
    engine: str = "onepass",
    samples: int = 2000,
    classifier_steps: int = 0,
    classifier_samples: int = 120000,
    shift: int = 2,
    pixel_noise: float = 0.4,
) -> Release:
    """One VAE a class, trained with DP-SGD; the classifier sees samples only, with labels as public ones.

    The classes' records are disjoint, so under add/remove adjacency their guarantees compose in parallel. Sampling
    rate, steps and divisor are the same for every class and use no count of a class: such counts would be a query too.
    Pictures are put together from `cosines` by `cosines` smooth ones (0: from pixels), and the classifier's are moved
    by `shift` pixels of 28 and get `pixel_noise`. classifier_steps: 0 for 8,000 of pictures and 300 of other records.
    """
    check_samples(samples)
    classes = private.classes
    parts = [np.flatnonzero(private.y == k) for k in range(classes)]
    net = vae(private.shape, hidden, latent_dim, activation, cosines=cosines, decay=0.5)
    recipe = Recipe(
        net,
        steps,
        rate,
        max(1.0, rate * len(private) / classes),
        learning_rate,
        optimizer=optimizer,
        momentum=momentum,
        schedule=schedule,
        ema=ema,
        privacy=private_training(epsilon, len(private), rate, steps, l2_norm_clip),
        clip_networks=clip_networks,
        engine=engine,
    )
    seeds = [derive(seed, "vae", k) for k in range(classes)]
    fits = train(recipe, [private[part] for part in parts], seeds, f"dp_vaegm: {classes} VAEs")
    decode = decoder(networks.routed(net, [fit.weights for fit in fits]), private.shape, classes)
    generate = generator(decode, public_shares(public))
    trained = downstream(
        generate,
        public,
        seed,
        samples=classifier_samples,
        steps=classifier_steps,
        shift=shift,
        noise=pixel_noise,
        what="dp_vaegm: classifier",
    )
    dp_event = accounting.parallel([fit.dp_event for fit in fits], parts)
    synthetic = generate(samples, derive(seed, "synthetic"))
    return Release(dp_event, predict=trained.predict, decode=decode, generate=generate, synthetic=synthetic)
