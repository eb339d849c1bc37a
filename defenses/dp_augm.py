"""DP-AuGM: a differentially private autoencoder whose encoder is published (Chen et al. 2018, section 4.1)."""

from __future__ import annotations

from bench.core.component import defense
from bench.core.dataset import Examples
from bench.core.release import Release
from bench.dp import networks
from bench.dp.train import Recipe, private_training
from bench.models import published_encoder
from bench.models.classifier import batch_rate


@defense(
    "dp_augm",
    publishes={"predict", "model", "encode"},
    private=True,
    public_knowledge=("the number of private records", "the set of labels", "features between 0 and 1"),
)
def dp_augm(
    private: Examples,
    public: Examples,
    *,
    seed: int,
    epsilon: float = 8.0,
    hidden: tuple[int, ...] = (256,),
    code_dim: int = 64,
    activation: str = "tanh",
    steps: int = 200,
    batch_size: int = 500,
    learning_rate: float = 0.01,
    optimizer: str = "adam",
    momentum: float = 0.9,
    schedule: str = "constant",
    ema: float = 0.0,
    l2_norm_clip: float = 1.0,
    clip_networks: bool = False,
    engine: str = "onepass",
    classifier_steps: int = 600,
) -> Release:
    """An autoencoder trained with DP-SGD on the private records; classifiers see public records that it encoded.

    `predict` and `model` take raw records and encode them first, since the encoder is public. Labels of private records
    are never read. Whatever is trained on codes of public records is post-processing and carries the encoder's
    guarantee (Theorem 1).
    """
    rate = batch_rate(len(private), batch_size)
    net = networks.Autoencoder(private.shape, hidden, code_dim, activation)
    privacy = private_training(epsilon, len(private), rate, steps, l2_norm_clip)
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
        privacy=privacy,
        clip_networks=clip_networks,
        engine=engine,
    )
    encode, dp_event = published_encoder.trained(recipe, private, seed, "dp_augm: autoencoder")
    return published_encoder.downstream(
        encode, dp_event, public, seed, steps=classifier_steps, what="dp_augm: classifier"
    )
