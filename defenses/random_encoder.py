"""An encoder that was never trained, in DP-AuGM's place: what perturbation alone is worth, without any record."""

from __future__ import annotations

from bench import accounting, encoding, nets
from bench.data import Examples
from bench.registry import defense
from bench.release import Release


@defense("random_encoder", publishes={"predict", "model", "encode"}, private=True, assumes=("the set of labels",))
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
    encode = encoding.untrained(nets.Autoencoder(private.shape, hidden, code_dim, activation), seed)
    what = "random_encoder: classifier"
    return encoding.downstream(encode, accounting.no_access(), public, seed, steps=classifier_steps, what=what)
