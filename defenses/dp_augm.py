"""DP-AuGM: a differentially private autoencoder whose encoder is published (Chen et al. 2018, section 4.1)."""

from __future__ import annotations

from typing import Annotated

from bench.core.component import Option, defense
from bench.core.dataset import Examples
from bench.core.release import Release
from bench.dp import networks
from bench.dp.layers import ACTIVATION, HIDDEN
from bench.dp.recipe import BATCH_SIZE, CLIP_NETWORKS, EPSILON, DPTraining
from bench.models import published_encoder
from bench.models.classifier import CLASSIFIER_STEPS, batch_rate


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
    epsilon: Annotated[float, EPSILON] = 8.0,
    hidden: Annotated[tuple[int, ...], HIDDEN] = (256,),
    code_dim: Annotated[int, Option("numbers of an embedding", at_least=1)] = 64,
    activation: Annotated[str, ACTIVATION] = "tanh",
    batch_size: Annotated[int, BATCH_SIZE] = 500,
    clip_networks: Annotated[bool, CLIP_NETWORKS] = False,
    training: DPTraining = DPTraining(),  # noqa: B008 - a group of options
    classifier_steps: Annotated[int, CLASSIFIER_STEPS] = 600,
) -> Release:
    """An autoencoder trained with DP-SGD on the private records; classifiers see public records that it encoded.

    `predict` and `model` take raw records and encode them first, since the encoder is public. Labels of private records
    are never read. Whatever is trained on embeddings of public records is post-processing and carries the guarantee of
    the encoder (Theorem 1).
    """
    net = networks.Autoencoder(private.shape, hidden, code_dim, activation)
    rate = batch_rate(len(private), batch_size)
    recipe = training.recipe(net, len(private), epsilon, rate=rate, clip_networks=clip_networks)
    encode, dp_event = published_encoder.trained(recipe, private, seed, "dp_augm: autoencoder")
    return published_encoder.downstream(
        encode, dp_event, public, seed, steps=classifier_steps, what="dp_augm: classifier"
    )
