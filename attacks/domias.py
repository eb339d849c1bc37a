"""DOMIAS: a generator over-fits where its density exceeds that of the population (van Breugel et al. 2023)."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option, attack
from bench.core.dataset import Examples
from bench.core.randomness import derive
from bench.core.release import Release
from bench.games import MEMBERSHIP, Targets
from bench.models.distances import log_density, principal
from bench.models.vae_generator import check_samples


@attack("domias", game=MEMBERSHIP, needs={"generate"}, required_score=0.8)
def domias(
    release: Release,
    targets: Targets,
    public: Examples,
    *,
    seed: int,
    samples: Annotated[int, Option("synthetic records to generate", at_least=1)] = 10000,
    components: Annotated[int, Option("principal components in which densities are estimated", at_least=1)] = 20,
) -> NDArray[Any]:
    """The logarithm of the density of generated records over that of public records, at each record.

    Both are Gaussian kernel estimates in the first whitened principal components of the public records. A classifier of
    generated against public records would learn what the decoder cannot draw, which members and non-members share.
    """
    check_samples(samples)
    assert release.generate is not None
    project = principal(public.x, components, whiten=True)
    records = project(targets.records.x)
    generated = project(release.generate(samples, derive(seed, "samples")).x)
    return np.asarray(log_density(records, generated) - log_density(records, project(public.x)))
