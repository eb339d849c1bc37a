"""Stored differences that were edited, are damaged or contradict their cells are left out and computed again."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from compared_cells import measured, scores
from msgspec.structs import replace

from bench.core.errors import Caveat
from bench.games import metrics
from bench.report.comparisons import FILE, Comparisons, Side
from bench.store.differences import PairedDifference, two_sided
from bench.store.read_write import SEAL, difference, seal_of
from bench.store.store import Store

EDITS: dict[str, Callable[[PairedDifference], PairedDifference]] = {
    "value": lambda one: around(one, one.value + 0.05, one.se),
    "sign": lambda one: around(one, -one.value, one.se),
    "a large error": lambda one: around(one, one.value, 20 * one.se),
    "no error between seeds": lambda one: around(one, one.value, 1e-4),
    "p": lambda one: replace(one, p=1.0),
    "seeds": lambda one: replace(one, seeds=3),
    "names": lambda one: replace(one, first=one.second, second=one.first),
    "claims": lambda one: replace(one, unmatched="epsilon"),
    "data": lambda one: replace(one, data="mnist"),
}


def around(one: PairedDifference, value: float, se: float) -> PairedDifference:
    half = metrics.Z * se
    return replace(one, value=value, low=value - half, high=value + half, p=two_sided(value, se))


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("resealed", [True, False])
def test_a_difference_that_is_not_that_of_its_cells_is_left_out(tmp_path: Path, edit: str, resealed: bool) -> None:
    """The seal reveals an edit; under a valid seal the cells contradict it."""
    store, rng = Store(tmp_path / "here"), np.random.default_rng(2)
    member = rng.random(200) < 0.5
    sides = [
        Side([measured(store, name, seed, scores(rng, member, shift + seed / 10), member) for seed in (0, 1)])
        for name, shift in (("a", 0.9), ("b", 0.3))
    ]
    compare = Comparisons(store)
    first = compare.leakage(*sides)
    assert first is not None
    compare.save()
    path = store.root / FILE
    [row] = csv.DictReader(path.open())
    seal = row.pop(SEAL)
    edited = EDITS[edit](difference(row))
    words = [*(getattr(edited, name) for name in edited.__struct_fields__), seal_of(edited) if resealed else seal]
    with path.open("w") as file:
        csv.writer(file).writerows([[*row, SEAL], words])
    with pytest.warns(Caveat, match="left out, and computed again"):
        assert Comparisons(store).leakage(*sides) == first


def test_an_edit_that_its_cells_allow_is_shown_by_the_seal(tmp_path: Path) -> None:
    """A standard error larger by a fifth is consistent with the cells, and still changes a rank."""
    store, rng = Store(tmp_path), np.random.default_rng(2)
    member = rng.random(200) < 0.5
    sides = [Side([measured(store, name, 0, scores(rng, member, 0.4), member)]) for name in "ab"]
    compare = Comparisons(store)
    first = compare.leakage(*sides)
    assert first is not None
    compare.save()
    path = store.root / FILE
    [row] = csv.DictReader(path.open())
    for resealed in (True, False):
        edited = around(first, first.value, 1.2 * first.se)
        words = [getattr(edited, name) for name in edited.__struct_fields__]
        with path.open("w") as file:
            csv.writer(file).writerows([row, [*words, seal_of(edited) if resealed else row[SEAL]]])
        if resealed:
            assert Comparisons(store).leakage(*sides) == edited  # a seal is no signature
        else:
            with pytest.warns(Caveat, match="its seal is not that of its figures"):
                assert Comparisons(store).leakage(*sides) == first


HEAD = ",".join([*PairedDifference.__struct_fields__, SEAL]).encode()


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe", b"", b"what,data\n1,2\n", b'"' * 200_000, b"a" * 200_000, b"\0\n\0", HEAD + b"\n1,2\n",
     HEAD + b"\n" + b"a," * 400_000, HEAD + b'\n"', HEAD + b"\n" + b"1," * 12 + b"1\n"],
    ids=range(10),
)  # fmt: skip
def test_a_file_of_differences_that_is_none_is_computed_again(tmp_path: Path, content: bytes) -> None:
    store, rng = Store(tmp_path), np.random.default_rng(2)
    member = rng.random(200) < 0.5
    sides = [Side([measured(store, name, 0, scores(rng, member, 0.4), member)]) for name in "ab"]
    first = Comparisons(store).leakage(*sides)
    (tmp_path / FILE).write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert Comparisons(store).leakage(*sides) == first
    assert [one.category for one in caught] == [Caveat]
