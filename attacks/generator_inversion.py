"""Model inversion with a generator trained on public records as prior (Zhang et al. 2020, "The Secret Revealer")."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option, attack
from bench.core.dataset import Examples
from bench.core.randomness import derive, stream
from bench.core.release import Release
from bench.dp.networks import mapping
from bench.games import INVERSION, InversionTargets
from bench.models.image_prior import prior
from bench.models.inversion_search import doubt_unsure, search, wanted_loss


@attack("generator_inversion", game=INVERSION, needs={"model"}, required_score=0.8)
def generator_inversion(
    release: Release,
    targets: InversionTargets,
    public: Examples,
    *,
    seed: int,
    starts: Annotated[int, Option("searches per target, of which the best counts", at_least=1)] = 2,
    steps: Annotated[int, Option("steps of each search", at_least=1)] = 300,
    learning_rate: Annotated[float, Option("of the search", above=0, below=math.inf)] = 0.05,
    likelihood: Annotated[float, Option("weight of the latent prior")] = 0.05,
    generator_steps: Annotated[int, Option("training steps of the generator", at_least=1)] = 2000,
) -> NDArray[Any]:
    """Pictures that the model is most confident of, among those that a VAE of the public records can generate.

    The generator is a VAE, where Zhang et al. used a GAN, which collapses on a few hundred records. It is trained
    without labels, so what the pictures show of a class comes from the model. likelihood: weight of the latent prior.
    """
    import tensorflow as tf

    model = release.model
    assert model is not None
    generator = prior(public, derive(seed, "generator"), steps=generator_steps)
    start = stream(seed, "starts").standard_normal((len(targets.labels), starts, generator.latent), np.float32)
    unlike = wanted_loss(model, targets.labels, starts)

    def picture(z: Any) -> Any:
        return tf.reshape(tf.sigmoid(generator.model(z)), (-1, *public.shape))

    def loss(pictures: Any, z: Any, step: Any) -> Any:
        return unlike(pictures, step) + likelihood * tf.reduce_sum(tf.square(z), 1) / 2

    found = search(start, picture, loss, steps=steps, learning_rate=learning_rate)
    doubt_unsure(mapping(model, after="softmax"), found, targets.labels)
    return found
