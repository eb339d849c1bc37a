"""Monte Carlo membership inference: how many generated records fall near a record (Hilprecht et al. 2019)."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option, attack
from bench.core.dataset import Examples
from bench.core.randomness import derive
from bench.core.release import Release
from bench.games import MEMBERSHIP, Targets
from bench.models.distances import TINY, nearest, principal, reduced
from bench.models.vae_generator import check_samples


@attack("monte_carlo", game=MEMBERSHIP, needs={"generate"}, required_score=0.8)
def monte_carlo(
    release: Release,
    targets: Targets,
    public: Examples,
    *,
    seed: int,
    samples: Annotated[int, Option("synthetic records to generate", at_least=1)] = 10000,
    components: Annotated[int, Option("principal components in which distances are measured", at_least=1)] = 20,
    log: Annotated[bool, Option("weight a generated record by the log of its distance, in place of 1")] = True,
) -> NDArray[Any]:
    """The share of generated records within epsilon of a record, in principal components.

    epsilon is the median of known records' distances to the nearest generated record (median heuristic). With `log`
    each generated record within epsilon counts -log(distance / epsilon) in place of 1; the paper takes -log(distance),
    whose value depends on the unit of distance and is negative beyond 1.
    """
    check_samples(samples)
    assert release.generate is not None
    project = principal(public.x, components)
    generated = project(release.generate(samples, derive(seed, "samples")).x)
    epsilon = float(np.median(nearest(project(targets.known.x), generated)[1]))

    def within(squared: NDArray[Any]) -> NDArray[Any]:
        if not log:
            return np.asarray((squared <= epsilon**2).mean(1))
        near = np.log(np.maximum(squared, TINY), out=squared)
        near *= -0.5
        near += np.log(max(epsilon, TINY))
        return np.asarray(np.maximum(near, 0, out=near).mean(1))

    return reduced(project(targets.records.x), generated, within)
