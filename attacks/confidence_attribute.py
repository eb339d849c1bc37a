"""The value with which the model is most confident (Fredrikson et al. 2014, 2015; Mehnaz et al. 2022)."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option, attack
from bench.core.dataset import Examples
from bench.core.errors import UserError, suggest
from bench.core.release import Release
from bench.games import ATTRIBUTE, AttributeTargets
from bench.models.attribute_imputer import even, impute

PRIORS = ("imputed", "marginal", "even")


@attack("confidence_attribute", game=ATTRIBUTE, needs={"predict"}, required_score=0.1)
def confidence_attribute(
    release: Release,
    targets: AttributeTargets,
    public: Examples,
    *,
    seed: int,
    prior: Annotated[
        str, Option("what is assumed of the attribute before the model is queried", one_of=PRIORS)
    ] = "imputed",
    weight: Annotated[float, Option("of the log odds beside the log prior")] = 0.3,
) -> NDArray[Any]:
    """Tries every value: the log odds of the true label with it, combined with a prior from public records.

    prior: "imputed" from the rest of the record without its label, "marginal" (Fredrikson et al. 2015), or "even" (the
    model's confidences alone, as in Mehnaz et al. 2022). weight: of the log odds relative to the log prior; below 1
    because models are over-confident.
    """
    assert release.predict is not None
    if prior not in PRIORS:
        raise UserError(f"confidence_attribute has no prior {prior!r}: {suggest(prior, PRIORS)}")
    records, k = targets.records, len(targets.values)
    prior_probabilities = np.full((len(records), k), 1 / k)
    known, value = targets.training_set(public)
    if prior == "imputed":
        prior_probabilities = impute(known, value, records, k, seed, labels=False)
    elif prior == "marginal":
        prior_probabilities = even(prior_probabilities * np.bincount(value, minlength=k))
    odds = weight * targets.log_odds(release.predict)
    return even(prior_probabilities * np.exp(odds - odds.max(1, keepdims=True)))
