"""Claims are compared as numbers, and rounded only when written."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from cells import cell

from bench.report import markdown, ranking
from bench.report.aggregate import build
from bench.report.comparisons import Comparisons
from bench.report.leaderboard import Leaderboard
from bench.store.store import Store


def leaderboard(store: Store, claims: dict[str, tuple[float, float]]) -> Leaderboard:
    for name, (epsilon, utility) in claims.items():
        made = cell(name, epsilon=epsilon, utility=utility, digest=f"{len(store.results()):032x}")
        store.save(made)
    return ranking.compared(build(store, None), Comparisons(store))


def test_claims_within_one_per_cent_are_equal_and_the_largest_names_them(tmp_path: Path) -> None:
    """Calibrated claims below a target of 8 differ slightly; even at two digits, 7.9885 and 7.9912 differ."""
    claims = {"a": 7.9885, "b": 7.9912, "c": 7.99998, "d": 8.2, "e": 8.1999, "f": 1.0, "g": math.inf, "h": math.inf}
    store = Store(tmp_path)
    found = leaderboard(store, {name: (epsilon, 0.9 - i / 20) for i, (name, epsilon) in enumerate(claims.items())})
    groups = {one.epsilon: [row.defense for row in one.rows] for one in found.equal_claims}
    assert groups == {7.99998: ["a", "b", "c"], 8.2: ["d", "e"], math.inf: ["g", "h"]}
    markdown.write(found, store)
    page = (tmp_path / "leaderboard.md").read_text()
    for epsilon in ("8.00", "8.20", "inf"):
        assert page.count(f"## digits: utility at epsilon {epsilon}, delta 1e-05") == 1


def test_no_claim_is_as_far_as_one_per_cent_from_the_largest_of_its_group(tmp_path: Path) -> None:
    """Neighbours are close but the first and last are not: a chain is no group."""
    claims = {name: 8 * 0.992**i for i, name in enumerate("abcde")}
    found = leaderboard(Store(tmp_path), {name: (epsilon, 0.9) for name, epsilon in claims.items()})
    for one in found.equal_claims:
        smallest = min(row.epsilon for row in one.rows if row.epsilon is not None)
        assert math.isclose(smallest, one.epsilon, rel_tol=ranking.SAME_CLAIM)
    assert [len(one.rows) for one in found.equal_claims] == [2, 2]


def test_a_row_keeps_its_claim_as_a_number_until_it_is_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    found = leaderboard(store, {"a": (1 / 3, 0.9)})
    [row] = found.sections[0].rows
    assert (row.epsilon, row.delta, row.epsilon_selected) == (1 / 3, 1e-5, 1 / 3)
    markdown.write(found, store)
    assert "| 0.34 |" in (tmp_path / "leaderboard.md").read_text()


@pytest.mark.parametrize("delta", [1e-6, 1e-5 * (1 - 1e-9)])
def test_claims_at_another_delta_are_not_equal(tmp_path: Path, delta: float) -> None:
    store = Store(tmp_path)
    for name in "ab":
        made = cell(name, epsilon=1.0)
        made.privacy["delta"] = 1e-5 if name == "a" else delta
        store.save(made)
    found = ranking.compared(build(store, None), Comparisons(store))
    assert bool(found.equal_claims) is math.isclose(delta, 1e-5, rel_tol=1e-6)
