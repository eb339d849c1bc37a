"""The membership game: what the adversary knows, a baseline that is independent of the truth, and caveats."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bench.core.dataset import Examples, Split, record_keys
from bench.core.errors import Caveat, UserError
from bench.core.game import Challenge
from bench.games import GAMES, MEMBERSHIP, Targets, metrics
from bench.games import membership as games

ERROR_RATE = 1e-6


def drawn(seed: int, private: int, holdout: int, shift: float = 0.0, public: int = 4) -> Split:
    rng = np.random.default_rng(seed)

    def part(size: int, shift: float) -> Examples:
        x = np.clip(0.3 + shift + 0.2 * rng.normal(size=(size, 2, 3)), 0, 1)
        return Examples(x, rng.integers(0, 3, size), 3)

    return Split("drawn", part(private, 0.0), part(holdout, shift), part(public, 0.0))


def challenged(data: Split, rng: np.random.Generator, of: str = "private") -> tuple[Targets, np.ndarray]:
    drawn = MEMBERSHIP.challenge(data, rng, of)
    return drawn.targets, drawn.ground_truth


def baseline_of(targets: Targets, ground_truth: np.ndarray, seed: int) -> np.ndarray:
    return MEMBERSHIP.baseline(Challenge(targets, ground_truth, targets.known), seed)


def judged(answer: Any, baseline: Any, ground_truth: Any) -> tuple[dict[str, Any], list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        records = Examples(
            np.arange(len(ground_truth)).reshape(-1, 1) / len(ground_truth), np.zeros(len(ground_truth), int), 2
        )
        challenge = Challenge(Targets(records, records[:0], ground_truth[:0]), ground_truth, records)
        found = MEMBERSHIP.judge(answer, baseline, challenge, np.random.default_rng(0))
    assert all(issubclass(caveat.category, Caveat) for caveat in caught)
    return dict(found), [str(caveat.message) for caveat in caught]


@pytest.mark.parametrize("sizes", [(40, 23), (4, 4), (4, 101)])
def test_known_records_and_targets_partition_all_records(sizes: tuple[int, int]) -> None:
    data = drawn(0, *sizes)
    targets, ground_truth = challenged(data, np.random.default_rng(1))
    members = set(record_keys(data.private))
    unknown, known = record_keys(targets.records), record_keys(targets.known)
    assert sorted(unknown + known) == sorted(record_keys(data.private) + record_keys(data.holdout))
    assert [key in members for key in unknown] == ground_truth.tolist()
    assert [key in members for key in known] == targets.known_member.tolist()
    assert ground_truth.dtype == targets.known_member.dtype == bool
    assert (targets.known_member.sum(), (~targets.known_member).sum()) == tuple(round(n / 4) for n in sizes)


def test_targets_have_their_labels_and_a_random_order() -> None:
    data = drawn(0, 400, 300)
    targets, ground_truth = challenged(data, np.random.default_rng(1))
    label = dict(zip(record_keys(data.private), data.private.y, strict=True))
    assert all(
        label[key] == y for key, y in zip(record_keys(targets.records), targets.records.y, strict=True) if key in label
    )
    for truth in (ground_truth, targets.known_member):
        order = np.arange(len(truth))
        assert stats.mannwhitneyu(order[truth], order[~truth]).pvalue > ERROR_RATE
        mutant = np.sort(truth)
        assert stats.mannwhitneyu(order[mutant], order[~mutant]).pvalue < ERROR_RATE  # members after the others


def test_the_challenge_is_determined_by_its_seed() -> None:
    data = drawn(0, 40, 30)
    (a, first), (b, second), (c, _) = (challenged(data, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(a.records.x, b.records.x)
    assert np.array_equal(first, second)
    assert not np.array_equal(a.records.x, c.records.x)


def test_too_few_records_are_refused() -> None:
    with pytest.raises(UserError, match="at least 4"):
        challenged(drawn(0, 40, 3), np.random.default_rng(0))


def test_public_targets_are_not_in_the_public_part_of_the_adversary() -> None:
    data = drawn(0, 40, 60, public=50)
    found = MEMBERSHIP.challenge(data, np.random.default_rng(1), "public")
    targets, remaining = found.targets, record_keys(found.public)
    in_game = record_keys(targets.records) + record_keys(targets.known)
    assert targets.of == "public"
    public, holdout = record_keys(data.public), record_keys(data.holdout)
    assert set(public) <= set(in_game)
    assert sorted(in_game + remaining) == sorted(public + holdout)  # no private record, and none twice
    assert not set(remaining) & set(in_game)
    inside = set(public)
    assert [key in inside for key in record_keys(targets.records)] == found.ground_truth.tolist()
    assert [key in inside for key in record_keys(targets.known)] == targets.known_member.tolist()


def test_a_shifted_split_has_a_caveat() -> None:
    targets, ground_truth = challenged(drawn(2, 400, 400, shift=0.15), np.random.default_rng(0))
    baseline = baseline_of(targets, ground_truth, 0)
    found, caveats = judged(np.zeros(len(ground_truth)), baseline, ground_truth)
    assert found["baseline"]["value"] > 0.6
    assert any("the split itself can be told apart" in caveat for caveat in caveats)
    assert found["gain"]["high"] < 0


def fitted_on_targets(targets: Targets, ground_truth: np.ndarray) -> np.ndarray:
    x = games.raw_features(targets.records)
    return games.classifier_scores(x, ground_truth, x, 0)


def null_p(scores: np.ndarray, ground_truth: np.ndarray) -> float:
    found = metrics.auc(scores, ground_truth, spread=games.CROSS_FITTED)
    return float(2 * stats.norm.sf(abs(found["value"] - 0.5) / found["se"]))


def test_the_baseline_is_cross_fitted() -> None:
    targets, ground_truth = challenged(drawn(3, 400, 400), np.random.default_rng(0))
    baseline = baseline_of(targets, ground_truth, 0)
    assert null_p(baseline, ground_truth) > ERROR_RATE
    assert judged(baseline, baseline, ground_truth)[1] == []
    mutant = fitted_on_targets(targets, ground_truth)
    assert metrics.auc(mutant, ground_truth)["value"] > 0.8
    assert null_p(mutant, ground_truth) < ERROR_RATE


def test_the_baseline_is_fitted_on_known_records_too() -> None:
    data = drawn(6, 300, 300, shift=0.3)
    targets, truth = challenged(data, np.random.default_rng(0))
    few = np.r_[np.flatnonzero(truth)[:20], np.flatnonzero(~truth)[:20]]
    records, sampled = targets.records[few], truth[few]
    right, wrong = (
        metrics.auc(baseline_of(Targets(records, targets.known, known), sampled, 0), sampled)["value"]
        for known in (targets.known_member, ~targets.known_member)
    )
    assert right > 0.9
    assert wrong < 0.1  # the 32 targets it is fitted on do not outweigh 150 known records with the wrong truth


def test_the_baseline_is_determined_by_its_seed() -> None:
    targets, ground_truth = challenged(drawn(4, 60, 40), np.random.default_rng(0))
    baseline = baseline_of(targets, ground_truth, 0)
    assert baseline.shape == ground_truth.shape
    assert np.array_equal(baseline, baseline_of(targets, ground_truth, 0))
    assert not np.array_equal(baseline, baseline_of(targets, ground_truth, 1))


@pytest.mark.parametrize("sizes", [(4, 4), (4, 200)])
def test_few_records_have_a_caveat(sizes: tuple[int, int]) -> None:
    targets, ground_truth = challenged(drawn(5, *sizes), np.random.default_rng(0))
    baseline = baseline_of(targets, ground_truth, 0)
    _, caveats = judged(baseline, baseline, ground_truth)
    assert any("fewer than 100" in caveat for caveat in caveats)


@pytest.mark.parametrize(
    ("members", "others", "taken"), [(9000, 9000, (2000, 2000)), (9000, 300, (3700, 300)), (50, 20, (50, 20))]
)
def test_fit_rows_are_bounded_and_balanced(members: int, others: int, taken: tuple[int, int]) -> None:
    truth = np.random.default_rng(0).permutation(np.arange(members + others) < members)
    rows = games.fit_rows(np.arange(len(truth)), truth, np.random.default_rng(0))
    assert len(np.unique(rows)) == len(rows) <= games.FIT_ROWS
    assert (truth[rows].sum(), (~truth[rows]).sum()) == taken


def test_linear_cross_fitting_on_noise_exceeds_delongs_variance() -> None:
    """The reason for `CROSS_FITTED`: with a linear score, the variance of the deviations is nearly doubled."""
    deviations, runs, n, folds = [], 300, 100, 5
    rng = np.random.default_rng(0)
    for _ in range(runs):
        x, ground_truth = rng.normal(size=(2 * n, 20)), np.arange(2 * n) < n
        scores = np.empty(2 * n)
        for k in range(folds):
            fold = np.arange(2 * n) % folds == k
            scores[fold] = x[fold] @ (x[~fold & ground_truth].mean(0) - x[~fold & ~ground_truth].mean(0))
        found = metrics.auc(scores, ground_truth)
        deviations.append((found["value"] - 0.5) / found["se"])
    spread = float(np.sum(np.square(deviations)))
    assert stats.chi2.sf(spread, runs) < ERROR_RATE  # mutant: no allowance for shared fitting records
    assert stats.chi2.sf(spread / games.CROSS_FITTED**2, runs) > ERROR_RATE


def test_the_judgement_of_a_leak() -> None:
    rng = np.random.default_rng(0)
    ground_truth = rng.permutation(np.arange(2500) < 1200)
    found, caveats = judged(rng.normal(size=2500) + ground_truth, rng.normal(size=2500), ground_truth)
    assert caveats == []
    assert set(found) == {
        "headline", "chance", "auc", "balanced_accuracy", "advantage", "baseline", "gain", "tpr_at_fpr_0.01",
        "tpr_at_fpr_0.001", "members", "non_members", "roc", "answers",
    }  # fmt: skip
    answers = found.pop("answers")
    assert {name: len(values) for name, values in answers.items()} == {
        "units_members": 1200, "units_others": 1300, "records": 1200,
    }  # fmt: skip
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for estimate in ("auc", "balanced_accuracy", "advantage", "baseline", "gain"):
        assert set(found[estimate]) == {"value", "low", "high", "se"}
        assert found[estimate]["low"] <= found[estimate]["value"] <= found[estimate]["high"]
    assert found["gain"]["value"] == pytest.approx(found["auc"]["value"] - found["baseline"]["value"])
    assert found["gain"]["low"] > 0
    assert found["tpr_at_fpr_0.001"] == {"not_measurable": "1300 non-members; 10000 are needed"}
    assert (found["members"], found["non_members"]) == (1200, 1300)


def test_an_inverted_sign_has_a_caveat() -> None:
    rng = np.random.default_rng(0)
    ground_truth = np.arange(400) < 200
    caveats = judged(rng.normal(size=400) - ground_truth, rng.normal(size=400), ground_truth)[1]
    assert len(caveats) == 1
    assert "below chance" in caveats[0]


@pytest.mark.parametrize(("members", "others", "expected"), [(100, 100, False), (99, 100, True), (100, 99, True)])
def test_fewer_than_100_records_have_a_caveat(members: int, others: int, expected: bool) -> None:
    ground_truth = np.arange(members + others) < members
    caveats = judged(np.zeros(len(ground_truth)), np.zeros(len(ground_truth)), ground_truth)[1]
    assert bool(caveats) == expected
    assert not expected or f"{members} members and {others} non-members" in caveats[0]


@pytest.mark.parametrize("answer", [np.zeros((200, 1)), np.zeros(199), np.full(200, np.nan)])
def test_a_malformed_answer_is_refused(answer: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"shape|not finite"):
        judged(answer, np.zeros(200), np.arange(200) < 100)


def test_games_are_registered_by_name() -> None:
    assert all(name == game.name for name, game in GAMES.items())
    assert GAMES["membership"] is MEMBERSHIP
