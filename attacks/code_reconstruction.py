"""Membership in a published encoder: a decoder trained on public records reconstructs members better."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option, attack
from bench.core.dataset import Examples
from bench.core.randomness import derive
from bench.core.release import Map, Release
from bench.games import MEMBERSHIP, Targets
from bench.models.code_decoder import trained_decoder
from bench.models.distances import TINY


@attack("code_reconstruction", game=MEMBERSHIP, needs={"encode", "retrain"}, required_score=0.58)
def code_reconstruction(
    release: Release,
    targets: Targets,
    public: Examples,
    *,
    seed: int,
    steps: Annotated[int, Option("training steps of the decoder", at_least=1)] = 500,
    calibrated: Annotated[
        bool, Option("subtract the error under an encoder that the defense trains on public records")
    ] = True,
) -> NDArray[Any]:
    """How well a decoder that was trained on public records reconstructs a record from its embedding.

    The score is minus the logarithm of the squared error. `calibrated` adds that of a reference: an encoder that the
    same defense trained on the public records, with a decoder of its own (as GAN-Leaks, Chen et al. 2020, calibrates).
    A decoder that is trained longer over-fits the public records and separates members less well.
    """

    def errors(encode: Map | None, word: str) -> NDArray[Any]:
        assert encode is not None
        decode = trained_decoder(encode, public, derive(seed, word), steps=steps)
        difference = np.subtract(decode(encode(targets.records.x)), targets.records.x, dtype=np.float64)
        return np.asarray(np.log(np.square(difference).reshape(len(difference), -1).sum(1) + TINY))

    scores = -errors(release.encode, "release")
    if calibrated:
        assert release.retrain is not None
        scores += errors(release.retrain(public, derive(seed, "retrain"), public).encode, "reference")
    return scores
