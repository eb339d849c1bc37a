"""GAN-Leaks: a generator that over-fits generates records near its training records (Chen et al. 2020)."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option, attack
from bench.core.dataset import Examples
from bench.core.randomness import derive
from bench.core.release import Release
from bench.games import MEMBERSHIP, Targets
from bench.models.distances import log_distance
from bench.models.reference_generator import reference_decoder
from bench.models.vae_generator import check_samples, generator, public_shares


@attack("nearest_sample", game=MEMBERSHIP, needs={"generate"}, required_score=0.9)
def nearest_sample(
    release: Release,
    targets: Targets,
    public: Examples,
    *,
    seed: int,
    samples: Annotated[int, Option("synthetic records to generate", at_least=1)] = 10000,
    calibrated: Annotated[
        bool, Option("subtract the distance to records of a generator trained on public records")
    ] = True,
) -> NDArray[Any]:
    """How near the nearest of many generated records is, relative to that of a reference generator.

    The full black-box attack: minus the logarithm of the distance. `calibrated` (the paper's attack calibration) adds
    that of the distance to the nearest record of a generator trained on the public records, because some records are
    easy for any generator. The ratio of the two distances found more than their difference, which the paper takes, and
    samples of the record's label found no more than all samples.
    """
    check_samples(samples)
    assert release.generate is not None
    scores = -log_distance(targets.records.x, release.generate(samples, derive(seed, "samples")).x)
    if calibrated:
        generate = generator(reference_decoder(public, derive(seed, "reference")), public_shares(public))
        scores += log_distance(targets.records.x, generate(samples, derive(seed, "reference samples")).x)
    return np.asarray(scores)
