"""What a leaderboard shows of its cells: bold, means over seeds, states, order of rows, caveats and baselines."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from cells import cell
from leaderboards import PLAIN, keep, known, markdown, only, printed

from bench.core.text import claimed_epsilon
from bench.report.aggregate import build, mean
from bench.store.store import Store


@pytest.mark.parametrize(
    ("auc", "se", "gain", "bold"),
    [
        (0.60, 0.01, 0.10, True),
        (0.51, 0.01, 0.10, False),  # not distinguished from chance
        (0.60, 0.01, 0.01, False),  # not distinguished from the baseline
        (0.60, 0.01, -0.10, False),
        (0.40, 0.01, 0.10, False),
    ],
)
def test_bold_needs_both_chance_and_the_baseline_beaten(
    tmp_path: Path, auc: float, se: float, gain: float, bold: bool
) -> None:
    store = keep(tmp_path, [cell(auc=auc, se=se, gain=gain, baseline=auc - gain)])
    leaderboard = build(store, PLAIN)
    assert only(leaderboard).above_baseline is bold
    assert (f"**{only(leaderboard).headline}**" in markdown(leaderboard, store)) is bold
    assert (f"{only(leaderboard).headline} *" in printed(leaderboard, 200)) is bold


def test_bold_is_decided_over_all_seeds(tmp_path: Path) -> None:
    # each seed alone is significant, but the seeds disagree
    store = keep(tmp_path, [cell(seed=0, auc=0.55), cell(seed=1, auc=0.95)])
    assert not only(build(store, PLAIN)).above_baseline


def test_mean_over_seeds_is_the_naive_one(tmp_path: Path) -> None:
    values, ses = [0.60, 0.62], [0.03, 0.01]
    store = keep(tmp_path, [cell(seed=i, auc=v, se=s) for i, (v, s) in enumerate(zip(values, ses, strict=True))])
    estimate = only(build(store, PLAIN)).headline
    within = 1.959964 * math.sqrt(ses[0] ** 2 + ses[1] ** 2) / 2
    between = 12.7062 * float(np.std(values, ddof=1)) / math.sqrt(2)  # Student's t with one degree of freedom
    assert estimate.value == pytest.approx(0.61)
    assert estimate.high - estimate.value == pytest.approx(max(within, between), rel=1e-5)
    assert estimate.value - estimate.low == pytest.approx(max(within, between), rel=1e-5)


def test_a_single_seed_keeps_its_asymmetric_interval() -> None:
    assert mean([{"value": 0.0, "low": 0.0, "high": 0.01}]).high == 0.01


def test_no_rate_is_shown_outside_of_0_to_1() -> None:
    estimate = mean([{"value": 0.0, "low": 0.0, "high": 0.9}, {"value": 1.0, "low": 0.9, "high": 1.0}])
    assert (estimate.low, estimate.high) == (0.0, 1.0)


def test_a_cell_that_does_not_apply_names_the_missing_access(tmp_path: Path) -> None:
    registry = known({"none": {"predict"}, "mute": set()}, {"confidence": {"predict"}, "peek": {"predict", "model"}})
    (section,) = build(keep(tmp_path, [cell()]), registry).sections
    states = {(row.defense, one.attack): one.state for row in section.rows for one in row.cells}
    assert states == {
        ("none", "confidence"): "number",
        ("none", "peek"): "n/a: model",
        ("mute", "confidence"): "n/a: predict",
        ("mute", "peek"): "n/a: model, predict",
    }
    assert section.rows[-1].defense == "mute"


def test_a_component_that_was_not_run_is_marked_once(tmp_path: Path) -> None:
    registry = known({"none": {"predict"}, "dp_sgd": {"predict"}}, {"confidence": {"predict"}})
    (section,) = build(keep(tmp_path, [cell()]), registry).sections
    assert [(row.defense, row.cells[0].state) for row in section.rows] == [("none", "number"), ("dp_sgd", "not run")]
    # a row of a sweep replaces the row of the name alone
    (section,) = build(keep(tmp_path, [cell("dp_sgd,epsilon=1", epsilon=1.0)]), registry).sections
    assert sorted(row.defense for row in section.rows) == ["dp_sgd,epsilon=1", "none"]


def test_stale_only_when_every_seed_is(tmp_path: Path) -> None:
    store = keep(tmp_path, [cell(seed=0, auc=0.9), cell(seed=1, auc=0.6)])
    assert only(build(store, PLAIN, fresh=lambda _: False)).state == "stale"
    leaderboard = build(store, PLAIN, fresh=lambda result: result.seed == 1)
    assert only(leaderboard).headline.value == pytest.approx(0.6)
    assert leaderboard.sections[0].rows[0].seeds == 1
    assert "1 of 2 seeds stale and left out" in markdown(leaderboard, store)
    stale = build(store, PLAIN, fresh=lambda _: False)
    assert stale.sections[0].baseline is None
    assert "0.900" not in markdown(stale, store)


def test_failed_is_shown_with_its_reason_and_beside_the_seeds_that_did_not(tmp_path: Path) -> None:
    failed = {("digits", "none", "confidence", 1): "out of memory"}
    leaderboard = build(keep(tmp_path / "a", []), PLAIN, failed)
    assert only(leaderboard).state == "failed"
    assert "(1) seed 1 failed: out of memory" in printed(leaderboard, 80)
    leaderboard = build(keep(tmp_path / "b", [cell()]), PLAIN, failed)
    assert only(leaderboard).state == "number"
    assert "seed 1 failed: out of memory" in printed(leaderboard, 80)


def test_not_measurable_is_a_state_and_a_reason(tmp_path: Path) -> None:
    result = cell()
    metrics = {**result.metrics, "auc": {"not_measurable": "2 non-members"}}
    store = keep(tmp_path, [cell(metrics=metrics)])
    leaderboard = build(store, PLAIN)
    assert only(leaderboard).state == "not measurable"
    assert only(leaderboard).headline is None
    assert "2 non-members" in printed(leaderboard, 80)
    text = markdown(build(keep(tmp_path / "b", [cell()]), PLAIN), store)
    assert "not measurable: 500 non-members; 10000 are needed" in text


def test_rows_are_ordered_by_the_worst_attack_then_by_utility(tmp_path: Path) -> None:
    results = [
        cell("a", "confidence", auc=0.51), cell("a", "other", auc=0.80),
        cell("b", "confidence", auc=0.60), cell("b", "other", auc=0.55),
        cell("c", "confidence", auc=0.80, utility=0.95),
    ]  # fmt: skip
    (section,) = build(keep(tmp_path, results), known({"z": {"predict"}}, {})).sections
    assert [row.defense for row in section.rows] == ["b", "c", "a", "z"]
    assert [row.worst.attack if row.worst else None for row in section.rows] == [
        "confidence", "confidence", "other", None,
    ]  # fmt: skip
    assert section.rows[-1].cells[0].state == "not run"


def test_a_removed_component_keeps_its_row(tmp_path: Path) -> None:
    store = keep(tmp_path, [cell("forgotten,depth=3", "gone")])
    assert "forgotten,depth=3" in markdown(build(store, known({}, {})), store)


def test_caveats_are_footnotes_shared_by_the_cells_that_have_them(tmp_path: Path) -> None:
    results = [
        cell("a", auc=0.51, caveats=("few records",)),
        cell("b", auc=0.60, caveats=("stopped early", "few records")),
        cell("c", auc=0.70),
    ]
    store = keep(tmp_path, results)
    leaderboard = build(store, None)
    (section,) = leaderboard.sections
    assert section.caveats == ("few records", "stopped early")
    assert [section.marks(row.cells[0]) for row in section.rows] == [" (1)", " (2) (1)", ""]
    text = markdown(leaderboard, store)
    assert text.count("few records") == 1
    assert "- (1) few records" in text


def test_the_baseline_is_averaged_over_seeds_and_shown_once(tmp_path: Path) -> None:
    store = keep(tmp_path, [cell(seed=0, baseline=0.48), cell("a", seed=0, baseline=0.48), cell(seed=1, baseline=0.54)])
    leaderboard = build(store, PLAIN)
    assert leaderboard.sections[0].baseline.value == pytest.approx(0.51)
    assert printed(leaderboard, 80).count("Cells: AUC, by chance 0.5. Release-free baseline: 0.510") == 1


def test_each_data_set_and_game_has_its_own_section(tmp_path: Path) -> None:
    store = keep(tmp_path, [cell(), cell(data="mnist"), cell(attack="inv", game="inversion")])
    found = [(section.data, section.game) for section in build(store, None).sections]
    assert found == [("digits", "inversion"), ("digits", "membership"), ("mnist", "membership")]


def test_notes_list_the_public_knowledge_of_each_defense(tmp_path: Path) -> None:
    store = keep(tmp_path, [cell("a", public_knowledge=("n",)), cell("b", public_knowledge=("n", "class counts"))])
    text = markdown(build(store, None), store)
    assert "Public knowledge: class counts (b); n (a, b)." in text
    assert "not private to anyone who knows the seed" in text
    assert "largest power of ten" in text
    assert "add/remove one record" in text


@pytest.mark.parametrize(("epsilon", "spelled"), [(7.991, "8.00"), (8.0, "8.00"), (0.0, "0.00"), (math.inf, "inf")])
def test_epsilon_is_never_rounded_in_its_favour(epsilon: float, spelled: str) -> None:
    assert claimed_epsilon(epsilon) == spelled


def test_an_attack_that_does_not_show_undefended_is_called_out(tmp_path: Path) -> None:
    """An attack is evidence for a defense only if it succeeds on `none`; otherwise a caveat is required."""
    store = Store(tmp_path)
    store.save(cell(defense="dp_sgd", auc=0.5))
    assert "no undefended row was measured" in " ".join(build(store, PLAIN).sections[0].column_caveats)
    store.save(cell(defense="none", auc=0.51))
    assert "confidence does not succeed" in " ".join(build(store, PLAIN).sections[0].column_caveats)
    store.save(cell(defense="none", auc=0.6))
    assert build(store, PLAIN).sections[0].column_caveats == ()


def test_a_plugin_may_bring_an_undefended_defense(tmp_path: Path) -> None:
    registry = known({"dp_sgd": {"predict"}, "raw": {"predict"}}, {"confidence": {"predict"}})
    store = keep(tmp_path, [cell(defense="dp_sgd", auc=0.5), cell(defense="raw", auc=0.51)])
    assert "no undefended row was measured" in " ".join(build(store, registry).sections[0].column_caveats)
    registry.defenses["raw"].undefended = True
    assert "does not succeed on `raw`" in " ".join(build(store, registry).sections[0].column_caveats)
