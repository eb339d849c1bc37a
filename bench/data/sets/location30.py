"""Location-30: places that people visited."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np

from bench.core.component import Option, dataset
from bench.core.dataset import DataLocation, Examples, Split, flags, split
from bench.data.sizes import HOLDOUT, PRIVATE, PUBLIC
from bench.data.tfds_source import columns


@dataset("location30", has={"attributes"}, records=5_010)
def location30(
    where: DataLocation,
    rng: np.random.Generator,
    *,
    private: Annotated[int, PRIVATE] = 1200,
    holdout: Annotated[int, HOLDOUT] = 1400,
    public: Annotated[int, PUBLIC] = 2410,
    attribute: Annotated[
        int, Option("number of the place that attribute inference asks about", at_least=0, at_most=445)
    ] = 69,
) -> Split:
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
