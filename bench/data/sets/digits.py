"""Handwritten digits of scikit-learn."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from bench.core.component import dataset
from bench.core.dataset import DataLocation, Examples, Split, split
from bench.data.sizes import HOLDOUT, PRIVATE, PUBLIC


@dataset("digits", has={"pictures"}, records=1_797)
def digits(
    where: DataLocation,
    rng: np.random.Generator,
    *,
    private: Annotated[int, PRIVATE] = 1000,
    holdout: Annotated[int, HOLDOUT] = 500,
    public: Annotated[int, PUBLIC] = 297,
) -> Split:
    """Handwritten digits, 8x8 grey, 10 classes, 1,797 distinct records, inside scikit-learn.

    Source: the test part of Optical Recognition of Handwritten Digits, UCI ML repository, as shipped with scikit-learn.
    Licence: CC BY 4.0, as the repository states for its sets.
    Size: 1,797 records, all distinct, 64 features (8x8), 10 classes.
    Assumed public: that a grey is 0 to 16, and that there are ten digits.
    Citation: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI ML repository, 1998.
    """
    from sklearn.datasets import load_digits

    raw = load_digits()
    records = Examples(raw.images[..., None] / 16, raw.target, classes=10)  # 16 is the format's largest grey
    return split("digits", records, rng, private=private, holdout=holdout, public=public)
