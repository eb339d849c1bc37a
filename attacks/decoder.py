"""Reconstruction of records from their embeddings (Dosovitskiy and Brox 2016; Yang et al. 2019)."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option, attack
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.randomness import stream
from bench.core.release import Release
from bench.games import INVERSION, InversionTargets
from bench.models.code_decoder import trained_decoder
from bench.models.inversion_search import canvas, search, total_variation

METHODS = ("trained", "searched")


@attack("decoder", game=INVERSION, needs={"encode"}, required_score=0.8)
def decoder(
    release: Release,
    targets: InversionTargets,
    public: Examples,
    *,
    seed: int,
    method: Annotated[str, Option("train a decoder, or search for the record", one_of=METHODS)] = "trained",
    hidden: Annotated[tuple[int, ...], Option("units of each hidden layer of the decoder", at_least=1)] = (256,),
    steps: Annotated[int, Option("training steps of the decoder, or steps of the search", at_least=1)] = 2000,
    learning_rate: Annotated[float, Option("of the search, for method=searched", above=0, below=math.inf)] = 0.05,
    smoothness: Annotated[float, Option("weight of the total variation, for method=searched")] = 0.05,
) -> NDArray[Any]:
    """The records behind the embeddings that clients send: by a decoder trained on public records, or by search.

    method: "trained", or "searched" for the picture that has the target's embedding (Mahendran and Vedaldi 2015), where
    `steps`, `learning_rate` and `smoothness`, the weight of total variation, are those of the search.
    """
    if method not in METHODS:
        raise UserError(f"decoder takes method={'|'.join(METHODS)}, not method={method}.")
    encode, codes = release.encode, targets.codes
    assert encode is not None
    assert codes is not None
    if method == "trained":
        return trained_decoder(encode, public, seed, hidden=hidden, steps=steps)(codes)
    import tensorflow as tf

    encoder = encode.model  # type: ignore[attr-defined]
    size, draw = canvas(public.x)
    scale = encode(public.x).std(0) + np.float32(1e-6)
    start = 0.1 * stream(seed, "starts").standard_normal((len(codes), 1, size), np.float32)

    def loss(pictures: Any, *_: Any) -> Any:
        distance = tf.reduce_mean(tf.square((encoder(pictures) - codes) / scale), 1)
        return distance + smoothness * total_variation(pictures)

    return search(start, draw, loss, steps=steps, learning_rate=learning_rate)
