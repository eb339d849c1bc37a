"""Digests of values: equal values have equal digests, different values different ones."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from bench.core.digest import digest


@dataclasses.dataclass(frozen=True)
class Recipe:
    units: object = 1
    rate: object = 0.5


@dataclasses.dataclass(frozen=True)
class Other:
    units: object = 1
    rate: object = 0.5


@dataclasses.dataclass(frozen=True)
class Renamed:
    width: object = 1
    rate: object = 0.5


@dataclasses.dataclass
class Loose:
    units: int = 1


def test_different_values_have_different_digests():
    values = [
        ["ab", "c"], ["a", "bc"], ["abc"], "abc", ["a", ["b"]], [["a"], "b"], ["a", "b"], [], [[]], {}, "",
        None, "None", 1, 1.0, True, "1", 0, 0.0, -0.0, False, math.inf, -math.inf, "inf", math.nan, 10**30,
        [1], [1.0], [True],
        {"a": "b"}, {"b": "a"}, {"a": 1, "b": 2}, {"a": 2, "b": 1}, {1: "a"}, {"1": "a"}, ["a", 1, "b", 2],
        {"a": {"b": 1}}, {"a": {}, "b": 1}, Recipe(), Other(), Renamed(), Recipe(2), Recipe(Recipe()),
        Recipe([Recipe()]), Recipe("1"), {"units": 1, "rate": 0.5},
        np.zeros(4), np.zeros(4, np.float32), np.zeros(8, np.float32), np.zeros((2, 2)), np.zeros((4, 1)), np.zeros(0),
        np.zeros((0, 2)), np.zeros(4, np.int64), np.zeros(4, ">f8"), np.zeros(()), np.ones(4), [0.0] * 4,
        bytes(32).decode(), np.zeros(2, [("a", "<f8"), ("b", "<f8")]), np.zeros(2, [("c", "<f8"), ("b", "<f8")]),
        np.array(["a"]), np.array(["b"]),
    ]  # fmt: skip
    found = [digest(value) for value in values]
    assert len(set(found)) == len(values)
    assert all(len(text) == 32 and set(text) <= set("0123456789abcdef") for text in found)


def test_equal_values_have_equal_digests():
    assert digest({"a": 1, "b": 2}) == digest(MappingProxyType({"b": 2, "a": 1}))
    assert digest((1, (2,))) == digest([1, [2]])
    assert digest([np.float64(0.5), np.int64(3), np.True_]) == digest([0.5, 3, True])
    square = np.arange(6.0).reshape(2, 3)
    assert digest(square) == digest(np.asfortranarray(square)) == digest(np.repeat(square, 2, 0)[::2])


def test_digest_is_the_same_in_every_process():
    script = 'from bench.core.digest import digest; print(digest({"b": [1, 2.5, None, float("inf")], "a": "x"}))'
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == digest({"a": "x", "b": [1, 2.5, None, math.inf]})
    assert digest({"a": "x"}) == "8ea790f1a9ecd2f4689536151f1d6a28"  # a changed digest makes every stored result stale


@pytest.mark.parametrize(
    "value", [Path("a"), {1}, object(), Loose(), Recipe, b"", len, np.array([None]), 1j, [Path("a")], Recipe(Path("a"))]
)
def test_a_value_without_stable_content_is_refused(value):
    with pytest.raises(TypeError):
        digest(value)
