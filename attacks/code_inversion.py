"""Model inversion in the space of embeddings, the naive attack on DP-AuGM (Chen et al. 2018, section 5.2)."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option, attack
from bench.core.dataset import Examples
from bench.core.randomness import stream
from bench.core.release import Release
from bench.dp.networks import mapping
from bench.games import INVERSION, InversionTargets
from bench.models.code_decoder import trained_decoder
from bench.models.inversion_search import doubt_unsure, search, wanted_loss


@attack("code_inversion", game=INVERSION, needs={"model", "encode"}, required_score=0.8)
def code_inversion(
    release: Release,
    targets: InversionTargets,
    public: Examples,
    *,
    seed: int,
    starts: Annotated[int, Option("searches per target, of which the best counts", at_least=1)] = 4,
    steps: Annotated[int, Option("steps of each search", at_least=1)] = 300,
    learning_rate: Annotated[float, Option("of the search", above=0, below=math.inf)] = 0.05,
    spread: Annotated[
        float, Option("weight of the prior that keeps latent codes where those of public records lie")
    ] = 0.05,
    hidden: Annotated[tuple[int, ...], Option("units of each hidden layer of the decoder", at_least=1)] = (256,),
    decoder_steps: Annotated[int, Option("training steps of the decoder", at_least=1)] = 2000,
) -> NDArray[Any]:
    """Embeddings that their classifier is most confident of, decoded by a decoder trained on public records.

    Such an embedding need not be that of any record; that of `gradient_inversion`, which searches through the encoder,
    is. spread: weight of a prior that keeps embeddings near those of public records.
    """
    import tensorflow as tf

    model, encode = release.model, release.encode
    assert model is not None
    assert encode is not None
    head = model.layers[-1]
    codes = encode(public.x)
    centre, scale = codes.mean(0), codes.std(0) + np.float32(1e-6)
    start = 0.1 * stream(seed, "starts").standard_normal((len(targets.labels), starts, codes.shape[1]), np.float32)
    unlike = wanted_loss(head, targets.labels, starts)

    def place(numbers: Any) -> Any:
        return centre + scale * numbers

    def loss(points: Any, numbers: Any, step: Any) -> Any:
        return unlike(points, step) + spread * tf.reduce_mean(tf.square(numbers), 1)

    found = search(start, place, loss, steps=steps, learning_rate=learning_rate)
    doubt_unsure(mapping(head, after="softmax"), found, targets.labels)
    return trained_decoder(encode, public, seed, hidden=hidden, steps=decoder_steps)(found)
