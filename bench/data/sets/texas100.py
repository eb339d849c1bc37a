"""Hospital stays in Texas, the hospital set of membership inference."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np

from bench.core.component import Option, dataset
from bench.core.dataset import DataLocation, Examples, Split, flags, split
from bench.data.sizes import HOLDOUT, PRIVATE, PUBLIC
from bench.data.tfds_source import columns


@dataset("texas100", has={"attributes"}, records=67_330)
def texas100(
    where: DataLocation,
    rng: np.random.Generator,
    *,
    private: Annotated[int, PRIVATE] = 10000,
    holdout: Annotated[int, HOLDOUT] = 10000,
    public: Annotated[int, PUBLIC] = 20000,
    attribute: Annotated[
        int, Option("number of the feature that attribute inference asks about", at_least=0, at_most=6168)
    ] = 0,
) -> Split:
    """Texas-100, hospital stays, 6,169 binary features, 100 main procedures as classes, 67,330 records, through TFDS.

    attribute: the feature that attribute inference targets. The whole set needs about 5 GB of memory
    (extrapolated from a synthetic set of a tenth of its records).
    Source: https://github.com/privacytrustlab/datasets, made from the Hospital Discharge Data of the Texas Department
    of State Health Services, 2006 to 2009; the default trains on 10,000 records, as its authors do.
    Licence: none stated.
    Size: 67,330 records, 6,169 features, 100 classes. How many are distinct was not measured here: the file was not
    within reach, so its builder checks these three numbers and that all is binary, and no digest.
    Assumed public: which features and procedures there are.
    Citation: R. Shokri, M. Stronati, C. Song, V. Shmatikov, Membership inference attacks against machine learning
    models, IEEE S&P 2017.
    """
    found = columns("texas100", where)
    records = Examples(found["features"], found["label"], classes=100)
    known = flags("texas100", "feature", records.shape[0], attribute)
    data = split("texas100", records, rng, private=private, holdout=holdout, public=public)
    return replace(data, attributes=known)
