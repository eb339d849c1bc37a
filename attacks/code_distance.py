"""Membership in a published encoder: it embeds its training records further out than others."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option, attack
from bench.core.dataset import Examples
from bench.core.release import Release
from bench.games import MEMBERSHIP, Targets
from bench.models.distances import log_density, log_distance, principal


@attack("code_distance", game=MEMBERSHIP, needs={"encode"}, required_score=0.65)
def code_distance(
    release: Release,
    targets: Targets,
    public: Examples,
    *,
    seed: int,
    components: Annotated[int, Option("principal components in which densities are estimated", at_least=1)] = 20,
) -> NDArray[Any]:
    """Where a record's embedding lies: its norm, and its distance to and density among embeddings of public records.

    How they combine is learned (logistic regression) on the records whose membership the adversary knows.
    After Song and Raghunathan 2020 ("Information Leakage in Embedding Models").
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    assert release.encode is not None
    public_embeddings = release.encode(public.x)
    project = principal(public_embeddings, components, whiten=True)

    def features(records: Examples) -> NDArray[Any]:
        assert release.encode is not None
        embeddings = release.encode(records.x)
        norm = np.linalg.norm(embeddings.astype(np.float64), axis=1)
        density = log_density(project(embeddings), project(public_embeddings))
        # A record far from all public records has an embedding far from theirs, member or not.
        distance = log_distance(records.x, public.x)
        return np.stack([norm, log_distance(embeddings, public_embeddings), density, distance], axis=1)

    learner = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    learner.fit(features(targets.known), targets.known_member)
    return np.asarray(learner.decision_function(features(targets.records)))
