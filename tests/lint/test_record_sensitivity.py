"""Record sensitivity, order dependence and the influence of class sizes, on constructed data sets."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench.core.dataset import Examples
from bench.lint.instrumentation import Seen, Summed, Trained
from bench.lint.linter import class_sizes
from bench.lint.neighbouring_datasets import permuted, sparse_classes
from bench.lint.record_sensitivity import (
    is_additive,
    order_dependence,
    record_sensitivity,
    removed_rows,
    sizes_are_random,
    unmatched,
)


def test_rows_are_matched_one_to_one_and_up_to_rounding() -> None:
    rng = np.random.default_rng(0)
    some = Examples(rng.random((20, 5)), np.zeros(20, int), 2)
    close = Examples(some.x[::-1] + np.float32(1e-6), some.y, 2)
    twice = Examples(np.concatenate([some.x, some.x[:1]]), np.zeros(21, int), 2)
    assert unmatched(some, close) == unmatched(close, some) == 0
    assert (unmatched(some, twice), unmatched(twice, some)) == (0, 1)
    assert unmatched(some, Examples(some.x * 1.001, some.y, 2)) == 20
    assert unmatched(some, Examples(some.x, 1 - some.y, 2)) == 20
    assert unmatched(some[:0], some) == 0


def parted(*parts: Examples) -> Seen:
    """The observation of one training on these data sets."""
    return Seen(trained=[Trained([], parts, [], lambda: 0)])


def test_random_assignment_of_records_gives_random_sizes_of_data_sets() -> None:
    some, rng = Examples(np.random.default_rng(0).random((200, 2)), np.zeros(200, int), 2), np.random.default_rng(1)
    assignments = [rng.random(200) < 0.5 for _ in range(2)]
    permutations = [rng.permutation(200)[:100] for _ in range(2)]
    assert sizes_are_random(*(parted(some[heads], some[~heads]) for heads in assignments))
    splits = [(rows, np.setdiff1d(np.arange(200), rows)) for rows in permutations]
    assert not sizes_are_random(*(parted(some[a], some[b]) for a, b in splits))


def test_only_the_replaced_record_may_change() -> None:
    rng = np.random.default_rng(0)
    some, new = Examples(rng.random((20, 2)), np.zeros(20, int), 2), Examples(rng.random((20, 2)), np.zeros(20, int), 2)

    def exchanged(*rows: int) -> Examples:
        x = some.x.copy()
        x[list(rows)] = new.x[list(rows)]
        return Examples(x, some.y, 2)

    halves = np.arange(10), np.arange(10, 20)
    for rows, wrong in ([3], False), ([3, 4], True), ([3, 14], True):
        other = exchanged(*rows)
        found, touched = record_sensitivity(
            parted(*(some[h] for h in halves)), parted(*(other[h] for h in halves)), swapped=True
        )
        assert bool(found) == wrong, "removing a record removes no other"
    found, touched = record_sensitivity(parted(some[:10], some[11:]), parted(some[1:10], some[10:]), swapped=True)
    assert (found, touched.trained) == ([], ((0, 1),)), "one record left a part, and another joined one"


def test_assignment_may_depend_on_records_but_not_on_positions() -> None:
    some = Examples(np.random.default_rng(0).random((20, 2)), np.zeros(20, int), 2)
    other, selected = permuted(some), [one.x[:, 0] < 0.7 for one in (some, permuted(some))]
    assert not order_dependence(parted(some, some[selected[0]]), parted(other, other[selected[1]]))
    assert order_dependence(parted(some[::2], some[1::2]), parted(other[::2], other[1::2]))


def test_removed_rows_are_counted_once_over_all_data_sets() -> None:
    some = Examples(np.random.default_rng(0).random((20, 2)), np.zeros(20, int), 2)
    assert removed_rows(parted(some, some[:10]), parted(some[2:], some[2:10])) == 2
    assert removed_rows(parted(some[:10], some[10:]), parted(some[1:11], some[11:])) == 2
    assert removed_rows(parted(some), parted(some, some)) == math.inf


@pytest.mark.parametrize(
    ("rule", "wrong"),
    [
        (lambda some: some.x, False),
        (lambda some: some.x * (2 if len(some) > 50 else 1), False),  # the number of records is public
        (lambda some: some.x / len(some), False),
        (lambda some: some.x * (2 if np.bincount(some.y).min() > 20 else 1), True),
        (lambda some: some.x - some.x.mean(), True),
        (lambda some: some.x - some.x.mean() if len(some) > 50 else some.x, True),
    ],
)
def test_rows_may_depend_on_the_number_of_records_but_not_of_a_class(rule: Any, wrong: bool) -> None:
    def run(private: Examples, noise_of: object = None) -> SimpleNamespace:
        return SimpleNamespace(private=private, seen=parted(Examples(rule(private), private.y, 2)))

    few: Any = run(sparse_classes(Examples(np.zeros((1, 3)), np.zeros(1, int), 2)))
    assert bool(class_sizes(few, SimpleNamespace(run=run))) == wrong  # type: ignore[arg-type]


def test_contributions_of_two_records_add_up_in_a_sum() -> None:
    def summed(values: Any) -> Seen:
        return Seen(summed=[Summed(np.asarray(values, float), 1.0, 1.0, np.zeros(2))])

    four = [summed(values) for values in ([0, 0], [0.5, 0], [0.1, 1], [0.6, 1])]
    assert is_additive(*four)
    assert not is_additive(*four[:3], summed([0.6, 1.01])), "the contribution of the second depends on the first"
    assert not is_additive(*four[:3], summed([0.6, 1, 0]))


def test_an_effect_of_the_number_of_records_is_not_additive() -> None:
    """Adding a record to 200 changes 100 / n by 0.0025, and the next one by 0.00002 less."""

    def summed(n: int, contribution: float) -> Seen:
        return Seen(summed=[Summed(np.array([100 / n + contribution]), 1.0, 1.0, np.zeros(1))])

    seen = summed(200, 0), summed(201, 0.9), summed(201, 0.8), summed(202, 1.7)
    assert is_additive(*seen), "the mutant: as of one record it seems additive"
    assert not is_additive(*seen, records=200)
    assert is_additive(*(summed(200, total) for total in (0, 0.9, 0.8, 1.7)), records=200)
