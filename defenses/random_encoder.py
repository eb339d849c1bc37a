"""An untrained encoder in place of that of DP-AuGM: the effect of perturbation alone, without any record."""

from __future__ import annotations

from typing import Annotated

from bench.core.component import Option, defense
from bench.core.dataset import Examples
from bench.core.release import Release
from bench.dp import accounting, networks
from bench.dp.layers import ACTIVATION, HIDDEN
from bench.models import published_encoder
from bench.models.classifier import CLASSIFIER_STEPS


@defense(
    "random_encoder", publishes={"predict", "model", "encode"}, private=True, public_knowledge=("the set of labels",)
)
def random_encoder(
    private: Examples,
    public: Examples,
    *,
    seed: int,
    hidden: Annotated[tuple[int, ...], HIDDEN] = (256,),
    code_dim: Annotated[int, Option("numbers of an embedding", at_least=1)] = 64,
    activation: Annotated[str, ACTIVATION] = "tanh",
    classifier_steps: Annotated[int, CLASSIFIER_STEPS] = 600,
) -> Release:
    """DP-AuGM's encoder as it starts, no private record read; classifiers see public records that it encoded.

    Options are those of dp_augm.
    """
    encode = published_encoder.untrained(networks.Autoencoder(private.shape, hidden, code_dim, activation), seed)
    what = "random_encoder: classifier"
    return published_encoder.downstream(encode, accounting.no_access(), public, seed, steps=classifier_steps, what=what)
