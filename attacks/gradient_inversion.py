"""Model inversion by gradients of the published model (Fredrikson et al. 2015, section 5), with today's optimiser."""

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
from bench.models.inversion_search import canvas, doubt_unsure, search, total_variation, wanted_loss


@attack("gradient_inversion", game=INVERSION, needs={"model"}, required_score=0.8)
def gradient_inversion(
    release: Release,
    targets: InversionTargets,
    public: Examples,
    *,
    seed: int,
    starts: Annotated[int, Option("searches per target, of which the best counts", at_least=1)] = 2,
    steps: Annotated[int, Option("steps of each search", at_least=1)] = 300,
    learning_rate: Annotated[float, Option("of the search", above=0, below=math.inf)] = 0.05,
    smoothness: Annotated[float, Option("weight of the total variation")] = 1.0,
    noise: Annotated[
        float, Option("standard deviation of the noise under which the model must recognise the picture")
    ] = 0.15,
    cosines: Annotated[
        int, Option("cosines per side that a picture consists of, 0 for single pixels", at_least=0)
    ] = 14,
) -> NDArray[Any]:
    """Pictures that the model is most confident of, by Adam from several starts, with total variation as prior.

    Where the model starts with a published encoder, the gradient goes through it: this is the adaptive attack on
    `dp_augm`. Of the public records only the mean is used, as the starting point. smoothness: weight of the prior.
    noise: added to the pictures, so that the confidence is robust to it. cosines: per side, of the basis in which a
    picture is searched; 0 for single pixels, which find adversarial pictures.
    """
    model = release.model
    assert model is not None
    size, draw = canvas(public.x, cosines)
    start = 0.1 * stream(seed, "starts").standard_normal((len(targets.labels), starts, size), np.float32)
    noisy = derive(seed, "noise")
    unlike = wanted_loss(model, targets.labels, starts, noise=noise, seed=noisy)

    def loss(pictures: Any, _: Any, step: Any) -> Any:
        return unlike(pictures, step) + smoothness * total_variation(pictures)

    found = search(start, draw, loss, steps=steps, learning_rate=learning_rate)
    doubt_unsure(mapping(model, after="softmax"), found, targets.labels)
    return found
