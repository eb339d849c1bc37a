"""Scaling uses public records only, and the sets of scikit-learn are in the unit cube."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from conftest import components
from data_fixtures import parts, rng, same

from bench.core.dataset import DataLocation, Examples, Split, scaled, shared, split
from bench.core.errors import UserError

SMALL = {"digits": (1000, 500, 297), "breast_cancer": (250, 200, 119)}


@pytest.mark.parametrize("name", SMALL)
def test_a_set_uses_every_record_by_default_and_is_in_the_unit_cube(name: str) -> None:
    load = components().data[name].function
    data = load(DataLocation(), rng())
    assert data.name == name
    assert tuple(len(part) for part in parts(data)) == SMALL[name]
    assert shared(data) == 0
    for part in parts(data):
        assert part.x.min() >= 0
        assert part.x.max() <= 1
    assert data.public.x.max() == 1
    assert data.private.shape == {"digits": (8, 8, 1), "breast_cancer": (30,)}[name]
    assert all(map(same, parts(data), parts(load(DataLocation(), rng()))))
    assert not same(data.private, load(DataLocation(), rng(1)).private)
    assert [len(part) for part in parts(load(DataLocation(), rng(), private=7, holdout=5, public=50))] == [7, 5, 50]
    with pytest.raises(UserError, match="distinct records"):
        load(DataLocation(), rng(), private=10**5)


def extreme(data: Split, part: str, value: float) -> Split:
    """The same split, with one record of a part at an extreme."""
    records: Examples = getattr(data, part)
    x = records.x.copy()
    x[0] = value
    return Split(**{**vars(data), part: Examples(x, records.y, records.classes)})


def naive_scaling(data: Split) -> Split:
    """The mutant: ranges from all records."""
    everything = np.concatenate([part.x for part in parts(data)])
    low, high = everything.min(0), everything.max(0)
    return Split(data.name, *(Examples((p.x - low) / (high - low), p.y, p.classes) for p in parts(data)))


def changed_by_an_extreme(scale: Callable[[Split], Split], part: str, value: float) -> bool:
    """Whether one extreme record of a part changes any other scaled record."""
    records = Examples(rng(2).normal(5, 3, (90, 4)), np.zeros(90), classes=1)
    raw = split("plain", records, rng(), private=30, holdout=30, public=30)
    before, after = scale(raw), scale(extreme(raw, part, value))
    return not all(
        same(a[1:] if name == part else a, b[1:] if name == part else b)
        for name, a, b in zip(("private", "holdout", "public"), parts(before), parts(after), strict=True)
    )


@pytest.mark.parametrize("value", [-1e6, 1e6])
@pytest.mark.parametrize("part", ["private", "holdout"])
def test_scaling_does_not_depend_on_private_or_holdout_records(part: str, value: float) -> None:
    assert not changed_by_an_extreme(scaled, part, value)
    assert changed_by_an_extreme(naive_scaling, part, value), "the check does not detect a scaling by all records"
    assert changed_by_an_extreme(scaled, "public", value), "the check does not detect the records that scaling uses"


def test_an_extreme_private_record_changes_no_other_record_of_a_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the loaders: with one private record at an extreme, all others are identical."""
    import sklearn.datasets

    for name, field in (("digits", "images"), ("breast_cancer", "data")):
        load, fetch = components().data[name].function, getattr(sklearn.datasets, f"load_{name}")
        raw = fetch()
        before = load(DataLocation(), rng())
        row = rng().permutation(len(raw.target))[0]  # the first record of `private`: these sets have no copies
        raw[field] = raw[field].copy()
        raw[field][row] = 1e5
        monkeypatch.setattr(sklearn.datasets, f"load_{name}", lambda raw=raw: raw)
        after = load(DataLocation(), rng())
        assert not same(before.private[:1], after.private[:1])
        assert same(before.private[1:], after.private[1:])
        assert same(before.holdout, after.holdout)
        assert same(before.public, after.public)


def test_a_public_part_too_small_for_scaling_is_refused() -> None:
    with pytest.raises(UserError, match="public=1 records are too few"):
        components().data["breast_cancer"].function(DataLocation(), rng(), public=1)
