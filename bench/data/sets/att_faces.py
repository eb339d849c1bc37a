"""The Database of Faces (AT&T)."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from bench.core.component import Option, dataset
from bench.core.dataset import DataLocation, Examples, Split, split
from bench.core.errors import UserError
from bench.data.sizes import HOLDOUT, PRIVATE, PUBLIC
from bench.data.tfds_source import columns

FACE = (112, 92)


@dataset("att_faces", has={"pictures"}, records=400)
def att_faces(
    where: DataLocation,
    rng: np.random.Generator,
    *,
    private: Annotated[int, PRIVATE] = 200,
    holdout: Annotated[int, HOLDOUT] = 120,
    public: Annotated[int, PUBLIC] = 80,
    size: Annotated[int, Option("height of the pictures in pixels", one_of=(28, 56, 112))] = 56,
) -> Split:
    """The Database of Faces (AT&T, ORL), grey, 40 people as classes, 400 records, through TFDS.

    Every part has its share of each person's ten pictures: 5, 3 and 2 by default. size: height in pixels, 112 as in the
    original, or 56 or 28, where squares of 4 or 16 pixels are averaged.
    Source: The Database of Faces, AT&T Laboratories Cambridge; the set of Fredrikson et al. 2015.
    Licence: none stated; its page asks to give credit to AT&T Laboratories Cambridge.
    Size: 400 records, all distinct, 2,576 features (56x46), 40 classes.
    Assumed public: that a grey is 0 to 255, and how many people there are, with as many pictures of each.
    Citation: F. Samaria, A. Harter, Parameterisation of a stochastic model for human face identification, IEEE Workshop
    on Applications of Computer Vision, 1994.
    """
    height, width = FACE
    side, rest = divmod(height, max(1, size))
    if rest or side not in (1, 2, 4):
        raise UserError(f"att_faces has pictures of size=112, size=56 or size=28, not {size}.")
    found = columns("att_faces", where)
    squares = found["image"].reshape(-1, height // side, side, width // side, side, 1)
    x = squares.mean((2, 4), dtype=np.float32) / np.float32(255)
    records = Examples(x, found["label"], classes=40)
    return split("att_faces", records, rng, private=private, holdout=holdout, public=public, by_class=True)
