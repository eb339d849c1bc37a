"""Fashion-MNIST."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from bench.core.component import dataset
from bench.core.dataset import DataLocation, Split, split
from bench.data.sizes import HOLDOUT, PRIVATE, PUBLIC
from bench.data.tfds_source import grey_images


@dataset("fashion_mnist", has={"pictures"}, records=70_000)
def fashion_mnist(
    where: DataLocation,
    rng: np.random.Generator,
    *,
    private: Annotated[int, PRIVATE] = 50000,
    holdout: Annotated[int, HOLDOUT] = 14000,
    public: Annotated[int, PUBLIC] = 6000,
) -> Split:
    """Fashion-MNIST, clothes, 28x28 grey, 10 classes, 70,000 distinct records, through TFDS.

    Source: https://github.com/zalandoresearch/fashion-mnist, through TensorFlow Datasets.
    Licence: MIT.
    Size: 70,000 records, all distinct, 784 features (28x28), 10 classes.
    Assumed public: that a grey is 0 to 255, and which ten kinds of clothes there are.
    Citation: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, arXiv:1708.07747, 2017.
    """
    return split(
        "fashion_mnist", grey_images("fashion_mnist", where), rng, private=private, holdout=holdout, public=public
    )
