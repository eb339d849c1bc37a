"""An encoder that was never trained, in DP-AuGM's place: what perturbation alone is worth, without any record."""

from __future__ import annotations

from bench.core.component import defense
from bench.core.dataset import Examples
from bench.core.release import Release
from bench.dp import accounting, networks
from bench.models import published_encoder


@defense(
    "random_encoder", publishes={"predict", "model", "encode"}, private=True, public_knowledge=("the set of labels",)
)
def random_encoder(
    private: Examples,
    public: Examples,
    *,
    seed: int,
    hidden: tuple[int, ...] = (256,),
    code_dim: int = 64,
    activation: str = "tanh",
    classifier_steps: int = 600,
) -> Release:
    """DP-AuGM's encoder as it starts, no private record read; classifiers see public records that it encoded.

    Options are those of dp_augm.
    """
    encode = published_encoder.untrained(networks.Autoencoder(private.shape, hidden, code_dim, activation), seed)
    what = "random_encoder: classifier"
    return published_encoder.downstream(encode, accounting.no_access(), public, seed, steps=classifier_steps, what=what)
