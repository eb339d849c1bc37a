"""DP-cVaeGM: one class-conditional VAE on all records in place of one a class, which needs far less noise.

The change to DP-VaeGM (Chen et al. 2018, section 4.2) is to condition on the label (Sohn et al. 2015): the noise of one
model meets the sum over all records, not over those of a class.
"""

from __future__ import annotations

from bench.core.component import defense
from bench.core.dataset import Examples
from bench.core.randomness import derive
from bench.core.release import Release
from bench.dp import networks
from bench.dp.train import Recipe, private_training, train
from bench.models.vae_generator import check_samples, decoder, downstream, generator, public_shares, vae


@defense(
    "dp_cvaegm",
    publishes={"predict", "decode", "generate", "synthetic"},
    private=True,
    public_knowledge=(
        "the number of private records",
        "the set of labels",
        "features between 0 and 1",
        "pictures are smooth",
    ),
)
def dp_cvaegm(
    private: Examples,
    public: Examples,
    *,
    seed: int,
    epsilon: float = 8.0,
    hidden: tuple[int, ...] = (128,),
    latent_dim: int = 6,
    activation: str = "relu",
    cosines: int = 10,
    steps: int = 400,
    rate: float = 0.1,
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
    """One class-conditional VAE trained with DP-SGD on all records; labels of samples are as those of public records.

    Options are those of dp_vaegm.
    """
    check_samples(samples)
    net = vae(private.shape, hidden, latent_dim, activation, cosines=cosines, decay=0.0, classes=private.classes)
    recipe = Recipe(
        net,
        steps,
        rate,
        max(1.0, rate * len(private)),
        learning_rate,
        optimizer=optimizer,
        momentum=momentum,
        schedule=schedule,
        ema=ema,
        privacy=private_training(epsilon, len(private), rate, steps, l2_norm_clip),
        clip_networks=clip_networks,
        engine=engine,
    )
    [fit] = train(recipe, [private], [derive(seed, "vae")], "dp_cvaegm: VAE")
    decode = decoder(networks.decoder(net, fit.weights), private.shape, private.classes)
    generate = generator(decode, public_shares(public))
    trained = downstream(
        generate,
        public,
        seed,
        samples=classifier_samples,
        steps=classifier_steps,
        shift=shift,
        noise=pixel_noise,
        what="dp_cvaegm: classifier",
    )
    synthetic = generate(samples, derive(seed, "synthetic"))
    return Release(fit.dp_event, predict=trained.predict, decode=decode, generate=generate, synthetic=synthetic)
