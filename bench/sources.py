"""The data sets: where each comes from, how it becomes features in [0, 1], and its default sizes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bench import census
from bench.data import Attribute, Data, Examples, Where, shared, split
from bench.errors import UserError, nearest
from bench.prepared import columns
from bench.registry import dataset

FACE = (112, 92)


@dataset("digits", has={"pictures"})
def digits(
    where: Where, rng: np.random.Generator, *, private: int = 1000, holdout: int = 500, public: int = 297
) -> Data:
    """Handwritten digits, 8x8 grey, 10 classes, 1,797 distinct records, inside scikit-learn.

    Source: E. Alpaydin, C. Kaynak, UCI ML repository, 1998.
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
    Source: W. Wolberg, O. Mangasarian, N. Street, W. Street, UCI ML repository, 1995.
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

    Source: Y. LeCun, C. Cortes, C. Burges, 1998.
    """
    return split("mnist", _images("mnist", where), rng, private=private, holdout=holdout, public=public)


@dataset("fashion_mnist", has={"pictures"})
def fashion_mnist(
    where: Where, rng: np.random.Generator, *, private: int = 50000, holdout: int = 14000, public: int = 6000
) -> Data:
    """Fashion-MNIST, clothes, 28x28 grey, 10 classes, 70,000 distinct records, through TFDS.

    Source: H. Xiao, K. Rasul, R. Vollgraf, Zalando Research, arXiv:1708.07747.
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
    Source: F. Samaria, A. Harter, 1994; the set of Fredrikson et al. 2015. Credit: AT&T Laboratories Cambridge.
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
    hold, which are public (`bench.census`). attribute: what attribute inference asks about, by
    default a category of which the rest of a record says little.
    Source: B. Becker, R. Kohavi, UCI ML repository, 1996.
    """
    known = census.attributes()
    if attribute not in known:
        raise UserError(f"adult has no attribute {attribute!r}: {nearest(attribute, known)}")
    found = columns("adult", where)
    records = Examples(census.encoded(found), found["label"], classes=2)
    data = split("adult", records, rng, private=private, holdout=holdout, public=public)
    return replace(data, attributes=_first(attribute, known))


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
    Source: Shokri et al. 2017, who train on 1,200 of the records; from check-ins at Foursquare in Bangkok.
    """
    found = columns("location30", where)
    records = Examples(found["visited"], found["label"], classes=30)
    known = {str(i): Attribute(f"place_{i}", i, i + 1) for i in range(records.shape[0])}
    if str(attribute) not in known:
        raise UserError(f"location30 has places 0 to {len(known) - 1}, so attribute={attribute} is none of them.")
    data = split("location30", records, rng, private=private, holdout=holdout, public=public)
    return replace(data, attributes=_first(str(attribute), known))


def _first(name: str, known: dict[str, Attribute]) -> tuple[Attribute, ...]:
    """All attributes, the named one first: that is the one that is asked about."""
    return (known[name], *(one for key, one in known.items() if key != name))


def scaled(data: Data) -> Data:
    """Map each feature to [0, 1] by the range of the public part alone, clipping the other parts.

    The private and holdout records decide nothing, so the guarantee of a defense is untouched. Raises UserError where
    the public part is too small for that: so many values were clipped that different records became the same.
    """
    low = data.public.x.min(0)
    span = data.public.x.max(0) - low
    span = np.where(span > 0, span, 1)  # a feature that is constant in public tells above from below

    def scale(part: Examples) -> Examples:
        return Examples(np.clip((part.x - low) / span, 0, 1), part.y, part.classes)

    result = replace(data, private=scale(data.private), holdout=scale(data.holdout), public=scale(data.public))
    if shared(result):
        raise UserError(f"{data.name}: public={len(data.public)} records are too few to scale by: ask for more.")
    return result


def _images(name: str, where: Where) -> Examples:
    found = columns(name, where)
    return Examples(found["image"] / np.float32(255), found["label"], classes=10)
