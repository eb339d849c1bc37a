"""Imputes a missing attribute from the rest of the record and from the records of others."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples

EVEN = 1e-6  # of the largest probability: the least that a value keeps


def impute(
    known: Examples, value: NDArray[Any], targets: Examples, values: int, seed: int, *, labels: bool = True
) -> NDArray[Any]:
    """How much likelier each of `values` is for `targets` than for an average record: (n, values), rows that sum to 1.

    known: records without the attribute, value: which one each has (len(known),). labels: whether the class of a
    record is used too. Probabilities are divided by how frequent a value is among the known, so that the largest is
    the guess that is right most often over values, not over records. The mean of a linear and a forest classifier.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, x_targets = _plain(known, labels), _plain(targets, labels)
    found = np.zeros((len(targets), values))
    present, count = np.unique(value, return_counts=True)
    if len(present) < 2:
        return np.full((len(targets), values), 1 / values)
    for model in (
        make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200)),
        RandomForestClassifier(200, min_samples_leaf=5, random_state=seed % 2**32, n_jobs=-1),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # not at its optimum it still knows what it knows
            model.fit(x, value)
        if isinstance(model, RandomForestClassifier):
            model.n_jobs = 1  # trees grow alike on any number of cores, but are added up in the order they come
        found[:, present] += even(model.predict_proba(x_targets) / count)
    return even(found)


def even(scores: NDArray[Any]) -> NDArray[Any]:
    """Positive scores (n, values) as rows that sum to 1, none of them 0."""
    kept = np.maximum(scores, EVEN * scores.max(1, keepdims=True))
    return np.asarray(kept / kept.sum(1, keepdims=True), np.float64)


def _plain(examples: Examples, labels: bool) -> NDArray[Any]:
    flat = examples.x.reshape(len(examples), -1)
    if not labels:
        return flat
    return np.concatenate([flat, np.eye(examples.classes, dtype=np.float32)[examples.y]], axis=1)
