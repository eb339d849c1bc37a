"""Location-30: places that people visited."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bench.core.component import dataset
from bench.core.dataset import Data, Examples, Where, flags, split
from bench.data.tfds_source import columns


@dataset("location30", has={"attributes"})
def location30(
    where: Where,
    rng: np.random.Generator,
    *,
    private: int = 1200,
    holdout: int = 1400,
    public: int = 2410,
    attribute: int = 69,
) -> Data:
    """Location-30, which of 446 places and kinds of places somebody visited, 30 classes, 5,010 records, through TFDS.

    attribute: the place that attribute inference targets; about half of the people visited the 69th.
    Source: https://github.com/privacytrustlab/datasets, from check-ins at Foursquare in Bangkok; the default trains on
    1,200 records, as its authors do.
    Licence: none stated.
    Size: 5,010 records, all distinct, 446 features, 30 classes.
    Assumed public: which places and clusters of people there are.
    Citation: R. Shokri, M. Stronati, C. Song, V. Shmatikov, Membership inference attacks against machine learning
    models, IEEE S&P 2017.
    """
    found = columns("location30", where)
    records = Examples(found["visited"], found["label"], classes=30)
    known = flags("location30", "place", records.shape[0], attribute)
    data = split("location30", records, rng, private=private, holdout=holdout, public=public)
    return replace(data, attributes=known)
