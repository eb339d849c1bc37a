"""DP-MERF: a generator matched to one noisy mean embedding of each class (Harder, Adamczewski and Park 2021)."""

from __future__ import annotations

import math
from typing import Annotated

from bench.core.component import Option, defense
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.images import is_picture
from bench.core.randomness import derive
from bench.core.release import Release
from bench.dp.layers import ACTIVATION, HIDDEN
from bench.dp.recipe import EPSILON, LEARNING_RATE, Recipe
from bench.dp.train import train
from bench.models.mean_embedding import BANDWIDTH, Kernel, Matched, embedding_recipe, median_distance, rows
from bench.models.vae_generator import COSINES, LATENT_DIM, Synthesis, binary_features, decoder, vae


@defense(
    "dp_merf",
    publishes={"predict", "decode", "generate", "synthetic"},
    private=True,
    public_knowledge=(
        "the number of private records",
        "the set of labels",
        "features between 0 and 1",
        "pictures are smooth",
    ),
)
def dp_merf(
    private: Examples,
    public: Examples,
    *,
    seed: int,
    epsilon: Annotated[float, EPSILON] = 8.0,
    frequencies: Annotated[int, Option("random Fourier features of the kernel", at_least=1)] = 1000,
    bandwidth: Annotated[
        float,
        Option(
            "bandwidth of the kernel in median distances of public records; 0: a half of pictures, one of others",
            at_least=0,
            below=math.inf,
        ),
    ] = 0.0,
    hidden: Annotated[tuple[int, ...], HIDDEN] = (128,),
    latent_dim: Annotated[int, LATENT_DIM] = 6,
    activation: Annotated[str, ACTIVATION] = "relu",
    cosines: Annotated[int, COSINES] = 10,
    steps: Annotated[int, Option("training steps of the generator", at_least=1)] = 500,
    drawn: Annotated[int, Option("records that a step generates, at least 2 of each class", at_least=2)] = 300,
    learning_rate: Annotated[float, LEARNING_RATE] = 0.01,
    synthesis: Synthesis = Synthesis(),  # noqa: B008 - a group of options
) -> Release:
    """Noisy sums of random features by class, released once, and a generator whose records have the same ones.

    A step of training generates `drawn` records, as many of each class. How many private records a class has is
    released with the sums, under the same noise, and synthetic labels keep to that. Other options are those of
    dp_vaegm.
    """
    classes = private.classes
    if drawn < 2 * classes:
        raise UserError(f"drawn must be at least 2 for each of {classes} classes, not {drawn}.")
    net = vae(private.shape, hidden, latent_dim, activation, cosines=cosines, decay=0.0, classes=classes)
    scale = (bandwidth or BANDWIDTH[is_picture(private.shape)]) * median_distance(public.x, private.shape, net.cosines)
    kernel = Kernel(private.shape, frequencies, scale, net.cosines)
    adding = embedding_recipe(kernel, classes, len(private), epsilon)
    [fit] = train(adding, [private], [derive(seed, "embedding")], "dp_merf: embedding")
    wanted, shares = rows(fit.weights)
    matched = Matched(wanted.shape, kernel, net, drawn // classes, binary_features(public))
    matching = Recipe(matched, steps, 1.0, 1.0, learning_rate, schedule="linear")
    [made] = train(matching, [wanted], [derive(seed, "generator")], "dp_merf: generator")
    decode = decoder(matched.generator(made.weights), private.shape, classes)
    return synthesis.release(fit.dp_event, decode, shares, public, seed, "dp_merf", len(private))
