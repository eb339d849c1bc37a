"""DP-cVaeGM: one class-conditional VAE on all records in place of one per class, which needs far less noise.

The change to DP-VaeGM (Chen et al. 2018, section 4.2) is to condition on the label (Sohn et al. 2015): the noise of one
model is added to the sum over all records, not over those of a class.
"""

from __future__ import annotations

from typing import Annotated

from bench.core.component import defense
from bench.core.dataset import Examples
from bench.core.randomness import derive
from bench.core.release import Release
from bench.dp import vae as vaes
from bench.dp.layers import ACTIVATION, HIDDEN
from bench.dp.recipe import CLIP_NETWORKS, EPSILON, RATE, DPTraining
from bench.dp.train import train
from bench.models.vae_generator import COSINES, LATENT_DIM, Synthesis, decoder, public_shares, vae


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
    epsilon: Annotated[float, EPSILON] = 8.0,
    hidden: Annotated[tuple[int, ...], HIDDEN] = (128,),
    latent_dim: Annotated[int, LATENT_DIM] = 6,
    activation: Annotated[str, ACTIVATION] = "relu",
    cosines: Annotated[int, COSINES] = 10,
    rate: Annotated[float, RATE] = 0.1,
    clip_networks: Annotated[bool, CLIP_NETWORKS] = False,
    training: DPTraining = DPTraining(steps=400, learning_rate=0.02, schedule="linear"),  # noqa: B008 - options
    synthesis: Synthesis = Synthesis(),  # noqa: B008 - a group of options
) -> Release:
    """One class-conditional VAE trained with DP-SGD on all records; labels of samples are as those of public records.

    Options are those of dp_vaegm.
    """
    net = vae(private.shape, hidden, latent_dim, activation, cosines=cosines, decay=0.0, classes=private.classes)
    recipe = training.recipe(net, len(private), epsilon, rate=rate, clip_networks=clip_networks)
    [fit] = train(recipe, [private], [derive(seed, "vae")], "dp_cvaegm: VAE")
    decode = decoder(vaes.decoder(net, fit.weights), private.shape, private.classes)
    return synthesis.release(fit.dp_event, decode, public_shares(public), public, seed, "dp_cvaegm", len(private))
