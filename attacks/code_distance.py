"""What a published encoder lets out of who trained it: it puts those records further out than others."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option, attack
from bench.core.dataset import Examples
from bench.core.release import Release
from bench.games import MEMBERSHIP, Targets
from bench.models.distances import log_density, log_distance, principal


@attack("code_distance", game=MEMBERSHIP, needs={"encode"}, floor=0.65)
def code_distance(
    release: Release,
    targets: Targets,
    public: Examples,
    *,
    seed: int,
    components: Annotated[int, Option("principal components in which densities are estimated", at_least=1)] = 20,
) -> NDArray[Any]:
    """Where a record's code lies: its norm, and its distance to and density among the codes of public records.

    Which way each of them points is learnt (logistic regression) on the records whose membership the adversary knows.
    After Song and Raghunathan 2020 ("Information Leakage in Embedding Models").
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    assert release.encode is not None
    others = release.encode(public.x)
    project = principal(others, components, whiten=True)

    def seen(records: Examples) -> NDArray[Any]:
        assert release.encode is not None
        codes = release.encode(records.x)
        norm = np.linalg.norm(codes.astype(np.float64), axis=1)
        density = log_density(project(codes), project(others))
        beside = log_distance(records.x, public.x)  # a record far from all public ones has a code far from theirs
        return np.stack([norm, log_distance(codes, others), density, beside], axis=1)

    learner = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    learner.fit(seen(targets.known), targets.known_member)
    return np.asarray(learner.decision_function(seen(targets.records)))
