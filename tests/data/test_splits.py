"""Examples and splits: values and labels in range, parts that are disjoint, and sizes that fit."""

from __future__ import annotations

import numpy as np
import pytest
from data_fixtures import parts, rng, same

from bench.core.dataset import Examples, Split, record_keys, shared, split
from bench.core.errors import UserError


def with_copies(n: int = 60, copies: int = 40) -> Examples:
    """`n` distinct records, and copies of some of them with another label at the end."""
    x = rng(1).random((n, 3), np.float32)
    y = np.arange(n) % 4
    return Examples(np.concatenate([x, x[:copies]]), np.concatenate([y, (y[:copies] + 1) % 4]), classes=4)


def naive_split(records: Examples, generator: np.random.Generator) -> Split:
    """The mutant: a split that treats copies as different records."""
    a, b, c = np.split(generator.permutation(len(records))[:60], [20, 40])
    return Split("naive", records[a], records[b], records[c])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_a_value_that_is_not_finite_is_refused_with_the_number_of_its_record(bad: float) -> None:
    x = np.zeros((5, 2))
    x[3, 1] = bad
    with pytest.raises(UserError, match="record 3 "), np.errstate(over="ignore"):
        Examples(x, np.zeros(5), classes=2)


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_out_of_range_is_refused_with_the_number_of_its_record(label: int) -> None:
    with pytest.raises(UserError, match=f"record 1 has label {label}"):
        Examples(np.zeros((2, 2)), np.array([0, label]), classes=2)


def test_labels_must_match_records() -> None:
    with pytest.raises(UserError, match="3 records came with 2 labels"):
        Examples(np.zeros((3, 2)), np.zeros(2), classes=1)


def test_records_are_read_only_and_an_empty_part_has_a_schema() -> None:
    records = with_copies()
    with pytest.raises(ValueError, match="read-only"):
        records.x[0, 0] = 1
    empty = records[:0]
    assert (len(empty), empty.shape, empty.classes) == (0, (3,), 4)


def test_parts_are_disjoint_if_the_records_contain_copies() -> None:
    for seed in range(20):
        data = split("copies", with_copies(), rng(seed), private=20, holdout=20, public=20)
        assert [len(part) for part in parts(data)] == [20, 20, 20]
        assert shared(data) == 0
        assert all(len(set(record_keys(part))) == 20 for part in parts(data))


def test_the_check_detects_a_split_that_does_not_drop_copies() -> None:
    assert all(shared(naive_split(with_copies(), rng(seed))) > 0 for seed in range(20))


def test_of_copies_with_different_labels_the_first_is_kept() -> None:
    data = split("copies", with_copies(), rng(), private=20, holdout=20, public=20)
    original = dict(zip(record_keys(with_copies()[:60]), with_copies().y[:60], strict=True))
    assert all(original[key] == y for part in parts(data) for key, y in zip(record_keys(part), part.y, strict=True))


def test_a_split_is_determined_by_its_seed() -> None:
    def draw(seed: int) -> Split:
        return split("copies", with_copies(), rng(seed), private=10, holdout=20, public=25)

    assert all(map(same, parts(draw(3)), parts(draw(3))))
    assert not same(draw(3).private, draw(4).private)


@pytest.mark.parametrize("sizes", [(21, 20, 20), (0, 20, 20), (20, -1, 20), (20, 20, 0), (10**9, 1, 1)])
def test_sizes_that_do_not_fit_are_refused_with_the_number_of_distinct_records(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(UserError, match="copies has 60 distinct records"):
        split("copies", with_copies(), rng(), private=sizes[0], holdout=sizes[1], public=sizes[2])


def test_a_split_by_class_is_stratified() -> None:
    y = np.repeat(np.arange(5), 12)
    records = Examples(rng(4).random((60, 3)), y, classes=5)
    for sizes in ((20, 20, 20), (25, 15, 10), (7, 9, 11)):
        sized = dict(zip(("private", "holdout", "public"), sizes, strict=True))
        data = split("shares", records, rng(), **sized, by_class=True)
        assert shared(data) == 0
        for part, size in zip(parts(data), sizes, strict=True):
            assert len(part) == size
            assert np.ptp(np.bincount(part.y, minlength=5)) <= (0 if size % 5 == 0 and sizes[0] % 5 == 0 else 2)
        plain = [split("shares", records, rng(seed), **sized).private.y for seed in range(9)]
        assert any(np.ptp(np.bincount(y, minlength=5)) > 2 for y in plain), "the check does not detect a random split"
    assert not same(data.private, split("shares", records, rng(1), **sized, by_class=True).private)
