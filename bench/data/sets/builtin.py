"""The data sets: where each comes from, how it becomes features in [0, 1], and its default sizes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bench.core.component import dataset
from bench.core.dataset import Data, Examples, Where, first, flags, shared, split, unit
from bench.core.errors import UserError, nearest
from bench.data import adult_schema
from bench.data.tfds_source import columns

FACE = (112, 92)


@dataset("digits", has={"pictures"})
def digits(
    where: Where, rng: np.random.Generator, *, private: int = 1000, holdout: int = 500, public: int = 297
) -> Data:
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


@dataset("breast_cancer")
def breast_cancer(
    where: Where, rng: np.random.Generator, *, private: int = 250, holdout: int = 200, public: int = 119
) -> Data:
    """Breast cancer Wisconsin (diagnostic), 30 measurements, 2 classes, 569 distinct records, inside scikit-learn.

    Scaled by the ranges of the public part alone; what lies outside of them is clipped to [0, 1].
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


@dataset("mnist", has={"pictures"})
def mnist(
    where: Where, rng: np.random.Generator, *, private: int = 50000, holdout: int = 14000, public: int = 6000
) -> Data:
    """MNIST, handwritten digits, 28x28 grey, 10 classes, 70,000 distinct records, through TFDS.

    Source: http://yann.lecun.com/exdb/mnist/, through TensorFlow Datasets' mirror.
    Licence: CC BY-SA 3.0, as Keras states; the official page states none.
    Size: 70,000 records, all distinct, 784 features (28x28), 10 classes.
    Assumed public: that a grey is 0 to 255, and that there are ten digits.
    Citation: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition,
    Proceedings of the IEEE 86(11), 1998.
    """
    return split("mnist", _images("mnist", where), rng, private=private, holdout=holdout, public=public)


@dataset("fashion_mnist", has={"pictures"})
def fashion_mnist(
    where: Where, rng: np.random.Generator, *, private: int = 50000, holdout: int = 14000, public: int = 6000
) -> Data:
    """Fashion-MNIST, clothes, 28x28 grey, 10 classes, 70,000 distinct records, through TFDS.

    Source: https://github.com/zalandoresearch/fashion-mnist, through TensorFlow Datasets.
    Licence: MIT.
    Size: 70,000 records, all distinct, 784 features (28x28), 10 classes.
    Assumed public: that a grey is 0 to 255, and which ten kinds of clothes there are.
    Citation: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, arXiv:1708.07747, 2017.
    """
    return split("fashion_mnist", _images("fashion_mnist", where), rng, private=private, holdout=holdout, public=public)


@dataset("att_faces", has={"pictures"})
def att_faces(
    where: Where,
    rng: np.random.Generator,
    *,
    private: int = 200,
    holdout: int = 120,
    public: int = 80,
    size: int = 56,
) -> Data:
    """The Database of Faces (AT&T, ORL), grey, 40 people as classes, 400 records, through TFDS.

    Every part has its share of each person's ten pictures: 5, 3 and 2 by default. size: height in pixels, 112 as they
    were taken, or 56 or 28, where squares of 4 or 16 pixels become their mean.
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


@dataset("adult", has={"attributes"})
def adult(
    where: Where,
    rng: np.random.Generator,
    *,
    private: int = 20000,
    holdout: int = 14000,
    public: int = 7000,
    attribute: str = "race",
) -> Data:
    """Census income (UCI Adult), 106 features, 2 classes, 41,439 distinct of 48,842 records, through TFDS.

    Categories are one-hot, with a missing value as one of them; numbers are scaled by the ranges that the survey can
    hold, which are public (`bench.data.adult_schema`). attribute: what attribute inference asks about, by
    default a category of which the rest of a record says little.
    Source: Adult, UCI ML repository, from the census of the United States of 1994.
    Licence: CC BY 4.0, as the repository states.
    Size: 48,842 records, of which 41,439 are distinct, 106 features, 2 classes.
    Assumed public: the values and ranges that the survey can hold; nothing is read off the records.
    Citation: B. Becker, R. Kohavi, Adult, UCI ML repository, 1996.
    """
    known = adult_schema.attributes()
    if attribute not in known:
        raise UserError(f"adult has no attribute {attribute!r}: {nearest(attribute, known)}")
    found = columns("adult", where)
    records = Examples(adult_schema.encoded(found), found["label"], classes=2)
    data = split("adult", records, rng, private=private, holdout=holdout, public=public)
    return replace(data, attributes=first(attribute, known))


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

    attribute: the place that attribute inference asks about; about half of the people visited the 69th.
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


def scaled(data: Data) -> Data:
    """Map each feature to [0, 1] by the range of the public part alone, clipping the other parts.

    The private and holdout records decide nothing, so the guarantee of a defense is untouched. Raises UserError where
    the public part is too small for that: so many values were clipped that different records became the same.
    """
    low, high = data.public.x.min(0), data.public.x.max(0)

    def scale(part: Examples) -> Examples:
        return Examples(unit(part.x, low, high), part.y, part.classes)

    result = replace(data, private=scale(data.private), holdout=scale(data.holdout), public=scale(data.public))
    if shared(result):
        raise UserError(f"{data.name}: public={len(data.public)} records are too few to scale by: ask for more.")
    return result


def _images(name: str, where: Where) -> Examples:
    found = columns(name, where)
    return Examples(found["image"] / np.float32(255), found["label"], classes=10)
