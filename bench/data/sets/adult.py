"""Census income (UCI Adult)."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np

from bench.core.component import Option, dataset
from bench.core.dataset import DataLocation, Examples, Split, first, split
from bench.core.errors import UserError, suggest
from bench.data import adult_schema
from bench.data.sizes import HOLDOUT, PRIVATE, PUBLIC
from bench.data.tfds_source import columns


@dataset("adult", has={"attributes"}, records=41_439)
def adult(
    where: DataLocation,
    rng: np.random.Generator,
    *,
    private: Annotated[int, PRIVATE] = 20000,
    holdout: Annotated[int, HOLDOUT] = 14000,
    public: Annotated[int, PUBLIC] = 7000,
    attribute: Annotated[
        str, Option("what attribute inference asks about", one_of=tuple(adult_schema.attributes()))
    ] = "race",
) -> Split:
    """Census income (UCI Adult), 106 features, 2 classes, 41,439 distinct of 48,842 records, through TFDS.

    Categories are one-hot, with a missing value as one of them; numbers are scaled by the ranges that the survey can
    hold, which are public (`bench.data.adult_schema`). attribute: the target of attribute inference, by
    default a category that the other columns hardly predict.
    Source: Adult, UCI ML repository, from the census of the United States of 1994.
    Licence: CC BY 4.0, as the repository states.
    Size: 48,842 records, of which 41,439 are distinct, 106 features, 2 classes.
    Assumed public: the values and ranges that the survey can hold; nothing is read off the records.
    Citation: B. Becker, R. Kohavi, Adult, UCI ML repository, 1996.
    """
    known = adult_schema.attributes()
    if attribute not in known:
        raise UserError(f"adult has no attribute {attribute!r}: {suggest(attribute, known)}")
    found = columns("adult", where)
    records = Examples(adult_schema.encoded(found), found["label"], classes=2)
    data = split("adult", records, rng, private=private, holdout=holdout, public=public)
    return replace(data, attributes=first(attribute, known))
