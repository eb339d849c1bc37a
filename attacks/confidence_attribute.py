"""The value with which the model is surest of the truth (Fredrikson et al. 2014, 2015; Mehnaz et al. 2022)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data import Examples
from bench.errors import UserError, nearest
from bench.games import ATTRIBUTE, Missing
from bench.imputing import even, impute
from bench.registry import attack
from bench.release import Release

PRIORS = ("imputed", "marginal", "even")


@attack("confidence_attribute", game=ATTRIBUTE, needs={"predict"})
def confidence_attribute(
    release: Release, targets: Missing, public: Examples, *, seed: int, prior: str = "imputed"
) -> NDArray[Any]:
    """Tries every value: how probable the true label is to the model with it, times a prior from public records.

    By Bayes' rule the probability of a value is that of the label given it, which the model tells, times that of the
    value before. prior: "imputed" from the rest of the record without its label, "marginal" (Fredrikson et al. 2015),
    or "even" (the confidences alone, as in Mehnaz et al. 2022).
    """
    assert release.predict is not None
    if prior not in PRIORS:
        raise UserError(f"confidence_attribute has no prior {prior!r}: {nearest(prior, PRIORS)}")
    records, k = targets.records, len(targets.values)
    own = np.arange(len(records)), records.y
    likelihood = np.stack([release.predict(targets.filled(value))[own] for value in range(k)], 1).astype(np.float64)
    before = np.full((len(records), k), 1 / k)
    known, value = targets.known(public)
    if prior == "imputed":
        before = impute(known, value, records, k, seed, labels=False)
    elif prior == "marginal":
        before = before * np.bincount(value, minlength=k)
    return even(np.maximum(likelihood, 1e-30) * before)
