"""Breast cancer Wisconsin, of scikit-learn."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from bench.core.component import dataset
from bench.core.dataset import DataLocation, Examples, Split, scaled, split
from bench.data.sizes import HOLDOUT, PRIVATE, PUBLIC


@dataset("breast_cancer", records=569)
def breast_cancer(
    where: DataLocation,
    rng: np.random.Generator,
    *,
    private: Annotated[int, PRIVATE] = 250,
    holdout: Annotated[int, HOLDOUT] = 200,
    public: Annotated[int, PUBLIC] = 119,
) -> Split:
    """Breast cancer Wisconsin (diagnostic), 30 measurements, 2 classes, 569 distinct records, inside scikit-learn.

    Scaled by the ranges of the public part alone; values outside of them are clipped to [0, 1].
    Source: Breast Cancer Wisconsin (Diagnostic), UCI ML repository, as shipped with scikit-learn.
    Licence: CC BY 4.0, as the repository states for its sets.
    Size: 569 records, all distinct, 30 features, 2 classes.
    Assumed public: the records of the public part, and so the ranges that they span.
    Citation: W. Wolberg, O. Mangasarian, N. Street, W. Street, Breast Cancer Wisconsin (Diagnostic), UCI ML repository,
    1995.
    """
    from sklearn.datasets import load_breast_cancer

    raw = load_breast_cancer()
    records = Examples(raw.data, raw.target, classes=2)
    return scaled(split("breast_cancer", records, rng, private=private, holdout=holdout, public=public))
