from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells import cell
from msgspec import structs

from bench.core.errors import UserError
from bench.report.plots import draw, mean_roc
from bench.store.records import CellResult
from bench.store.store import Store

PNG = b"\x89PNG\r\n\x1a\n"


def keep(path: Path, results: list[CellResult]) -> Store:
    store = Store(path)
    for result in results:
        store.save(result)
    return store


def some() -> list[CellResult]:
    return [
        cell(name, attack, seed, auc=auc, utility=utility, epsilon=epsilon)
        for name, auc, utility, epsilon in (
            ("none", 0.70, 0.95, math.inf),
            ("constant", 0.50, 0.10, 0.0),
            ("dp_vaegm", 0.52, 0.85, 8.0),
            ("dp_vaegm,epsilon=1", 0.51, 0.30, 1.0),
        )
        for attack in ("art_membership", "confidence")
        for seed in range(2)
    ]


def test_pictures_are_made_and_are_the_same_twice(tmp_path: Path) -> None:
    one, two = keep(tmp_path / "1", some()), keep(tmp_path / "2", some()[::-1])
    paths = draw(one)
    assert [path.relative_to(one.root).as_posix() for path in paths] == [
        "plots/privacy_utility.png", "plots/roc_digits.png",
    ]  # fmt: skip
    for path, again in zip(paths, draw(two), strict=True):
        data = path.read_bytes()
        assert data.startswith(PNG)
        assert len(data) > 10_000
        assert data == again.read_bytes()


def test_without_results_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run `bench run` first"):
        draw(Store(tmp_path))
    with pytest.raises(UserError, match="run `bench run` first"):
        draw(keep(tmp_path, [cell()]), fresh=lambda _: False)


def test_gaps_do_not_stop_a_picture(tmp_path: Path) -> None:
    results = [
        cell("a", metrics={key: value for key, value in cell("a").metrics.items() if key != "roc"}),
        cell("b", data="odd/name, here=1", utility=0.2),
        cell("c", data="mnist"),
        structs.replace(cell("d", data="wine"), utility={"not_measurable": "no predictions"}),
    ]
    paths = draw(keep(tmp_path, results))
    assert len(paths) == 4  # "a" has no curve
    assert all(path.read_bytes().startswith(PNG) for path in paths)
    assert all(path.parent == tmp_path / "plots" for path in paths)


def test_mean_roc_is_the_naive_one() -> None:
    curves = [
        {"roc": {"fp": [0, 1, 4, 10], "tp": [2, 3, 5, 20]}, "members": 20, "non_members": 10},
        {"roc": {"fp": [0, 5, 20], "tp": [0, 10, 10]}, "members": 10, "non_members": 20},
    ]
    grid = np.array([0.05, 0.1, 0.25, 0.4, 0.9, 1.0])

    def best(curve: dict[str, Any], rate: float) -> float:
        corners = zip(curve["roc"]["fp"], curve["roc"]["tp"], strict=True)
        found = [hits for alarms, hits in corners if alarms / curve["non_members"] <= rate]
        return max(found) / curve["members"]

    naive = [(best(curves[0], rate) + best(curves[1], rate)) / 2 for rate in grid]
    np.testing.assert_allclose(mean_roc(curves, grid), naive)
