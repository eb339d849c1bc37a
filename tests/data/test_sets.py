"""The records of randhie, and the card of every set."""

from __future__ import annotations

import re

import numpy as np
import pytest
from conftest import components
from data_fixtures import UNVERIFIED, files_of, parts, rng

from bench.core.dataset import DataLocation, shared
from bench.core.errors import UserError
from bench.data import official_files
from bench.data.card import FIELDS, card
from bench.data.sets import randhie


def test_health_records_equal_those_of_the_survey() -> None:
    """Compares with the table of statsmodels: every distinct record once, with the label of its first line."""
    from statsmodels.datasets import randhie as shipped

    raw = shipped.load_pandas().data
    data = randhie.randhie(DataLocation(), rng())
    assert shared(data) == 0
    assert sum(map(len, parts(data))) == 2760 == len(raw.drop(columns="mdvis").drop_duplicates())
    assert [one.name for one in data.attributes] == ["health", "individual_plan"]
    highest = {"lncoins": np.log(101), "lpi": np.log(10_000), "fmde": np.log(4000), "physlm": 1, "disea": 100}
    naive = {}
    for row in raw.to_dict("records"):
        health = 0 if not (row["hlthg"] or row["hlthf"] or row["hlthp"]) else int(row["hlthf"] + 2 * row["hlthp"]) + 1
        key = [np.float32(min(1, row[name] / high)) for name, high in highest.items()]
        naive.setdefault((*key, health, row["idp"]), 0 if row["mdvis"] == 0 else 1 if row["mdvis"] < 3 else 2)
    for part in parts(data):
        assert (part.x.min() >= 0) & (part.x.max() <= 1)
        assert (part.x[:, 5:9].sum(1) == 1).all()
        assert [naive[*x[:5], x[5:9].argmax(), x[9]] for x in part.x] == part.y.tolist()
    assert randhie.randhie(DataLocation(), rng(), attribute="individual_plan").attributes[0].name == "individual_plan"
    with pytest.raises(UserError, match="no attribute 'helth': did you mean 'health'"):
        randhie.randhie(DataLocation(), rng(), attribute="helth")


def test_health_records_of_another_version_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(randhie, "CONTENT", "of another version")
    with pytest.raises(UserError, match="statsmodels ships another randhie"):
        randhie.randhie(DataLocation(), rng())


SLOW = {"mnist": pytest.mark.slow, "fashion_mnist": pytest.mark.slow}


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in components().data])
def test_the_card_of_every_set_states_the_size_of_its_records(name: str, data_location: DataLocation) -> None:
    component = components().data[name]
    fields = card(component)
    assert all(fields.values()), "a card is five lines of the docstring: " + ", ".join(FIELDS)
    size = fields["Size"].replace(",", "")
    n, features, classes = (int(re.findall(rf"(\d+) {what}", size)[0]) for what in ("records", "features", "classes"))
    if name in UNVERIFIED:
        assert n == official_files.SETS[name].records
        return
    if name in official_files.SETS:
        files_of(name)
    data = component.function(data_location, rng(), **component.options)
    distinct = int((re.findall(r"which (\d+) are distinct", size) or [n])[0])
    assert (np.prod(data.private.shape), data.private.classes) == (features, classes)
    with pytest.raises(UserError, match=f"has {distinct} distinct records"):
        component.function(data_location, rng(), **{**component.options, "private": 10**6})
