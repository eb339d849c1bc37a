"""MNIST."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from bench.core.component import dataset
from bench.core.dataset import DataLocation, Split, split
from bench.data.sizes import HOLDOUT, PRIVATE, PUBLIC
from bench.data.tfds_source import grey_images


@dataset("mnist", has={"pictures"}, records=70_000)
def mnist(
    where: DataLocation,
    rng: np.random.Generator,
    *,
    private: Annotated[int, PRIVATE] = 50000,
    holdout: Annotated[int, HOLDOUT] = 14000,
    public: Annotated[int, PUBLIC] = 6000,
) -> Split:
    """MNIST, handwritten digits, 28x28 grey, 10 classes, 70,000 distinct records, through TFDS.

    Source: http://yann.lecun.com/exdb/mnist/, through TensorFlow Datasets' mirror.
    Licence: CC BY-SA 3.0, as Keras states; the official page states none.
    Size: 70,000 records, all distinct, 784 features (28x28), 10 classes.
    Assumed public: that a grey is 0 to 255, and that there are ten digits.
    Citation: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition,
    Proceedings of the IEEE 86(11), 1998.
    """
    return split("mnist", grey_images("mnist", where), rng, private=private, holdout=holdout, public=public)
