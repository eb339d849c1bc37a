"""Paired differences between cells: their error, their pairing across checkouts, matching claims, and ranks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from compared_cells import measured, scores
from leaderboards import PLAIN
from msgspec.structs import replace
from scipy import stats

from bench.core.errors import Caveat
from bench.games import intervals, paired
from bench.games.paired import LEVEL, ranks
from bench.report import ranking
from bench.report.aggregate import build
from bench.report.comparisons import FILE, Comparisons, Side
from bench.store.store import Store
from tests.cells import cell, interval


def test_the_paired_error_of_auc_is_delongs() -> None:
    rng = np.random.default_rng(0)
    member = rng.random(300) < 0.4
    a = scores(rng, member, 0.5)
    b = a + scores(rng, member, 0.2)
    both = paired.auc_units(a, member), paired.auc_units(b, member)
    assert paired.standard_error(*both) == pytest.approx(paired.auc_gain(a, b, member)["se"], rel=1e-5)
    assert paired.standard_error(both[0], both[0]) == 0


def test_the_paired_error_of_recall_is_that_of_the_group_differences() -> None:
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, 400)
    a, b = rng.random(400) < 0.7, rng.random(400) < 0.5
    naive = 0.0
    for g in range(3):
        differences = [(float(x) - float(y)) / 3 for x, y, group_of in zip(a, b, group, strict=True) if group_of == g]
        naive += float(np.var(differences, ddof=1)) / len(differences)
    found = paired.standard_error(paired.recall_units(a, group), paired.recall_units(b, group))
    assert found == pytest.approx(math.sqrt(naive), rel=1e-5)


def test_other_targets_cannot_be_paired() -> None:
    units = {"units": np.ones(4)}
    for other in ({"units": np.ones(5)}, {"units_1": np.ones(4)}, {}):
        with pytest.raises(ValueError, match="same targets"):
            paired.standard_error(units, other)


def test_two_equal_attacks_differ_at_the_nominal_rate(tmp_path: Path) -> None:
    """Two different attacks differ nearly always, and the paired interval is narrower than unpaired ones."""
    store, rng = Store(tmp_path), np.random.default_rng(1)
    member = rng.random(400) < 0.5
    found = {0.0: 0, 0.5: 0}
    trials = 300
    for trial in range(trials):
        common = scores(rng, member, 0.6)
        a = measured(store, "a", trial, common + 0.5 * scores(rng, member, 0.0), member)
        for shift in found:
            b = measured(store, f"b{shift}", trial, common + 0.5 * scores(rng, member, shift), member)
            difference = Comparisons(store).leakage(Side([b]), Side([a]))
            assert difference is not None
            assert difference.paired
            alone = b.metrics["auc"]["high"] - b.metrics["auc"]["low"]
            assert difference.high - difference.low < alone * math.sqrt(2)
            found[shift] += difference.p < 0.05
    assert found[0.0] <= stats.binom.isf(1e-6, trials, 0.05)
    assert found[0.0] >= stats.binom.ppf(1e-6, trials, 0.05)
    assert found[0.5] > stats.binom.isf(1e-6, trials, 0.05)


def test_stored_differences_hold_in_a_checkout_without_the_answers(tmp_path: Path) -> None:
    store, rng = Store(tmp_path / "here"), np.random.default_rng(2)
    member = rng.random(200) < 0.5
    sides = [Side([measured(store, name, seed, scores(rng, member, 0.4), member) for seed in (0, 1)]) for name in "ab"]
    here = Comparisons(store)
    first = here.leakage(*sides)
    assert first is not None
    assert (first.paired, first.seeds, first.first) == (True, 2, "a / confidence")
    here.save()

    clone = Store(tmp_path / "clone")
    clone.root.mkdir()
    (clone.root / FILE).write_bytes((store.root / FILE).read_bytes())
    there = Comparisons(clone)
    assert there.leakage(*sides) == first
    there.save()
    assert (clone.root / FILE).read_bytes() == (store.root / FILE).read_bytes()

    other = replace(sides[1].results[0], metrics={**sides[1].results[0].metrics, "auc": interval(0.9, 0.01)})
    anew = Comparisons(clone).leakage(sides[0], Side([other, sides[1].results[1]]))
    assert anew is not None
    assert not anew.paired
    assert anew.value < first.value
    gone = Comparisons(Store(tmp_path / "nothing")).leakage(*sides)
    assert gone is not None
    assert not gone.paired


def test_answers_of_another_measurement_are_not_taken_for_those_of_a_cell(tmp_path: Path) -> None:
    store, rng = Store(tmp_path), np.random.default_rng(4)
    member = rng.random(200) < 0.5
    a, b = (measured(store, name, 0, scores(rng, member, 0.4), member) for name in "ab")
    elsewhere = replace(a, metrics={**a.metrics, "auc": interval(a.metrics["auc"]["value"] + 1e-3, 0.03)})
    ours, theirs = (Comparisons(store).leakage(Side([one]), Side([b])) for one in (a, elsewhere))
    assert ours is not None
    assert theirs is not None
    assert (ours.paired, theirs.paired) == (True, False)


def test_the_error_covers_the_variance_between_seeds(tmp_path: Path) -> None:
    sides = [
        Side([cell("a", seed=seed, auc=auc, se=0.001, digest=f"{seed}") for seed, auc in enumerate(aucs)])
        for aucs in ((0.6, 0.7, 0.8), (0.5, 0.5, 0.5))
    ]
    found = Comparisons(Store(tmp_path)).leakage(*sides)
    assert found is not None
    assert found.value == pytest.approx(0.2)
    assert (found.high - found.low) / (2 * intervals.Z) == pytest.approx(0.1 / math.sqrt(3))


def test_claims_that_differ_are_named(tmp_path: Path) -> None:
    claims = {"a": 1.0, "b": 1.001, "c": 8.0}
    one, same, other = (Side([cell(name, epsilon=claim, digest=name)]) for name, claim in claims.items())
    compare = Comparisons(Store(tmp_path))
    alike, unlike = compare.accuracy(one, same), compare.accuracy(one, other)
    assert alike is not None
    assert unlike is not None
    assert (alike.unmatched, unlike.unmatched) == ("", "epsilon")
    bare = compare.accuracy(one, Side([cell("d", digest="d")]))
    assert bare is not None
    assert bare.unmatched == "epsilon sampler"


@pytest.mark.parametrize(
    ("claims", "unmatched"), [((1.0, 1.009), ""), ((1.0, 1.02), "epsilon"), ((1.0, 1.3), "epsilon")]
)
def test_claims_match_to_one_percent(tmp_path: Path, claims: tuple[float, float], unmatched: str) -> None:
    one, other = (Side([cell(name, epsilon=claim, digest=name)]) for name, claim in zip("ab", claims, strict=True))
    found = Comparisons(Store(tmp_path)).accuracy(one, other)
    assert found is not None
    assert found.unmatched == unmatched


def test_an_unpaired_difference_is_computed_again_where_its_answers_are(tmp_path: Path) -> None:
    """A clone stores an unpaired difference; the checkout with the answers must recompute it as paired."""
    store, rng = Store(tmp_path / "here"), np.random.default_rng(5)
    member = rng.random(200) < 0.5
    common = scores(rng, member, 0.4)
    sides = [Side([measured(store, name, 0, common + 0.1 * scores(rng, member, 0.0), member)]) for name in "ab"]
    clone = Comparisons(Store(tmp_path / "clone"))
    there = clone.leakage(*sides)
    assert there is not None
    assert not there.paired
    with pytest.warns(Caveat, match="1 of 1 differences rest on separate intervals"):
        clone.save()
    (store.root / FILE).write_bytes((tmp_path / "clone" / FILE).read_bytes())
    here = Comparisons(store).leakage(*sides)
    assert here is not None
    assert here.paired
    assert here.high - here.low < there.high - there.low


def test_no_common_seed_is_no_difference(tmp_path: Path) -> None:
    assert Comparisons(Store(tmp_path)).leakage(Side([cell(seed=0)]), Side([cell(seed=1)])) is None


def test_rows_of_one_rank_are_those_that_do_not_differ_from_its_first() -> None:
    at = [0.0, 1.0, 3.0, 3.5, 9.0]

    def worse(first: int, i: int) -> float:
        return math.exp(-4 * (at[i] - at[first]))

    assert ranks(5, worse) == [1, 1, 3, 3, 5]
    assert ranks(5, lambda first, i: None) == [1] * 5
    assert ranks(0, worse) == []
    just = LEVEL / 4  # of four comparisons
    assert ranks(5, lambda first, i: just * 1.01) == [1] * 5
    assert ranks(5, lambda first, i: just * 0.99) == [1, 2, 3, 4, 5]


def test_the_leaderboard_shows_ranks_and_reductions(tmp_path: Path) -> None:
    store, rng = Store(tmp_path), np.random.default_rng(3)
    member = rng.random(400) < 0.5
    common = scores(rng, member, 0.0)
    for seed in (0, 1, 2):
        for name, shift, epsilon, utility in (
            ("none", 1.5, math.inf, 0.9), ("a", 0.0, 1.0, 0.8), ("b", 0.0, 1.0, 0.7), ("public_only", 0.0, 0.0, 0.5),
        ):  # fmt: skip
            answer = common + shift * member
            measured(store, name, seed, answer, member, epsilon=epsilon, utility=utility)
    leaderboard = ranking.compared(build(store, PLAIN), Comparisons(store))
    [section] = leaderboard.sections
    place = {row.defense: row.rank for row in section.rows}
    assert place["none"] == 4
    assert {place["a"], place["b"], place["public_only"]} == {1}
    by_name = {row.defense: row for row in section.rows}
    assert by_name["none"].cells[0].reduction is None
    reduction = by_name["a"].cells[0].reduction
    assert reduction is not None
    assert reduction.low > 0.2
    [equal] = leaderboard.equal_claims
    assert [row.defense for row in equal.rows] == ["a", "b"]
    assert [row.rank for row in equal.rows] == [1, 2]
    assert equal.gains[0] is not None
    assert equal.gains[0].value == pytest.approx(0.3)
