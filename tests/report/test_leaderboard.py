from __future__ import annotations

import io
import math
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cells import cell
from rich.console import Console

from bench.core.text import claimed_epsilon
from bench.report import csv as csv_page
from bench.report import markdown as pages
from bench.report.aggregate import build, mean
from bench.report.terminal import show
from bench.store.records import CellResult
from bench.store.store import Store

GAME = SimpleNamespace(name="membership", requires=frozenset(), reference_attack="")


def known(defenses: dict[str, set[str]], attacks: dict[str, set[str]]) -> Any:
    """A registry, as far as the board looks at one."""
    return SimpleNamespace(
        defenses={name: SimpleNamespace(publishes=frozenset(given)) for name, given in defenses.items()},
        attacks={name: SimpleNamespace(needs=frozenset(needs), game=GAME) for name, needs in attacks.items()},
        data={"digits": SimpleNamespace(has=frozenset({"pictures"}))},
    )


PLAIN = known({"none": {"predict"}}, {"confidence": {"predict"}})


def keep(path: Path, results: Iterable[CellResult]) -> Store:
    store = Store(path)
    for result in results:
        store.save(result)
    return store


def only(board: Any) -> Any:
    """The single cell of a board with one."""
    ((cell,),) = [row.cells for section in board.sections for row in section.rows]
    return cell


def printed(board: Any, width: int) -> str:
    file = io.StringIO()
    show(board, Console(file=file, width=width))
    return file.getvalue()


def write(board: Any, store: Store) -> None:
    pages.write(board, store)
    csv_page.write(board, store)


def markdown(board: Any, store: Store) -> str:
    """The leaderboard and the pages of details."""
    write(board, store)
    return "".join(page.read_text() for page in [store.root / "leaderboard.md", *store.root.glob("*/details.md")])


@pytest.mark.parametrize(
    ("auc", "se", "gain", "bold"),
    [
        (0.60, 0.01, 0.10, True),
        (0.51, 0.01, 0.10, False),  # not told from chance
        (0.60, 0.01, 0.01, False),  # not told from the baseline
        (0.60, 0.01, -0.10, False),
        (0.40, 0.01, 0.10, False),
    ],
)
def test_bold_needs_both_chance_and_the_baseline_beaten(
    tmp_path: Path, auc: float, se: float, gain: float, bold: bool
) -> None:
    store = keep(tmp_path, [cell(auc=auc, se=se, gain=gain, baseline=auc - gain)])
    board = build(store, PLAIN)
    assert only(board).above_baseline is bold
    assert (f"**{only(board).headline}**" in markdown(board, store)) is bold
    assert (f"{only(board).headline} *" in printed(board, 200)) is bold


def test_bold_is_judged_over_all_seeds(tmp_path: Path) -> None:
    # each seed alone is beyond noise, but together they disagree
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


def test_one_seed_keeps_its_own_lopsided_interval() -> None:
    assert mean([{"value": 0.0, "low": 0.0, "high": 0.01}]).high == 0.01


def test_no_rate_is_shown_outside_of_0_to_1() -> None:
    estimate = mean([{"value": 0.0, "low": 0.0, "high": 0.9}, {"value": 1.0, "low": 0.9, "high": 1.0}])
    assert (estimate.low, estimate.high) == (0.0, 1.0)


def test_what_does_not_apply_says_what_is_missing(tmp_path: Path) -> None:
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


def test_what_is_known_and_was_not_run_says_so_once(tmp_path: Path) -> None:
    registry = known({"none": {"predict"}, "dp_sgd": {"predict"}}, {"confidence": {"predict"}})
    (section,) = build(keep(tmp_path, [cell()]), registry).sections
    assert [(row.defense, row.cells[0].state) for row in section.rows] == [("none", "number"), ("dp_sgd", "not run")]
    # a sweep of it is a row of its own; then the bare name is no row
    (section,) = build(keep(tmp_path, [cell("dp_sgd,epsilon=1", epsilon=1.0)]), registry).sections
    assert sorted(row.defense for row in section.rows) == ["dp_sgd,epsilon=1", "none"]


def test_stale_only_when_every_seed_is(tmp_path: Path) -> None:
    store = keep(tmp_path, [cell(seed=0, auc=0.9), cell(seed=1, auc=0.6)])
    assert only(build(store, PLAIN, fresh=lambda _: False)).state == "stale"
    board = build(store, PLAIN, fresh=lambda result: result.seed == 1)
    assert only(board).headline.value == pytest.approx(0.6)
    assert board.sections[0].rows[0].seeds == 1
    assert "1 of 2 seeds stale and left out" in markdown(board, store)
    stale = build(store, PLAIN, fresh=lambda _: False)
    assert stale.sections[0].baseline is None
    assert "0.900" not in markdown(stale, store)


def test_failed_is_shown_with_its_reason_and_beside_the_seeds_that_did_not(tmp_path: Path) -> None:
    failed = {("digits", "none", "confidence", 1): "out of memory"}
    board = build(keep(tmp_path / "a", []), PLAIN, failed)
    assert only(board).state == "failed"
    assert "(1) seed 1 failed: out of memory" in printed(board, 80)
    board = build(keep(tmp_path / "b", [cell()]), PLAIN, failed)
    assert only(board).state == "number"
    assert "seed 1 failed: out of memory" in printed(board, 80)


def test_not_measurable_is_a_state_and_a_reason(tmp_path: Path) -> None:
    result = cell()
    metrics = {**result.metrics, "auc": {"not_measurable": "2 non-members"}}
    store = keep(tmp_path, [cell(metrics=metrics)])
    board = build(store, PLAIN)
    assert only(board).state == "not measurable"
    assert only(board).headline is None
    assert "2 non-members" in printed(board, 80)
    text = markdown(build(keep(tmp_path / "b", [cell()]), PLAIN), store)
    assert "not measurable: 500 non-members; 10000 are needed" in text


def test_rows_go_by_the_worst_attack_then_by_utility(tmp_path: Path) -> None:
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
    board = build(store, None)
    (section,) = board.sections
    assert section.caveats == ("few records", "stopped early")
    assert [section.marks(row.cells[0]) for row in section.rows] == [" (1)", " (2) (1)", ""]
    text = markdown(board, store)
    assert text.count("few records") == 1
    assert "- (1) few records" in text


def test_the_baseline_is_averaged_over_seeds_and_stands_once(tmp_path: Path) -> None:
    store = keep(tmp_path, [cell(seed=0, baseline=0.48), cell("a", seed=0, baseline=0.48), cell(seed=1, baseline=0.54)])
    board = build(store, PLAIN)
    assert board.sections[0].baseline.value == pytest.approx(0.51)
    assert printed(board, 80).count("Cells: AUC, by chance 0.5. Release-free baseline: 0.510") == 1


def test_each_data_set_and_game_is_a_board_of_its_own(tmp_path: Path) -> None:
    store = keep(tmp_path, [cell(), cell(data="mnist"), cell(attack="inv", game="inversion")])
    found = [(section.data, section.game) for section in build(store, None).sections]
    assert found == [("digits", "inversion"), ("digits", "membership"), ("mnist", "membership")]


def test_notes_say_what_each_defense_takes_for_public(tmp_path: Path) -> None:
    store = keep(tmp_path, [cell("a", public_knowledge=("n",)), cell("b", public_knowledge=("n", "class counts"))])
    text = markdown(build(store, None), store)
    assert "Public knowledge: class counts (b); n (a, b)." in text
    assert "not private to anyone who knows the seed" in text
    assert "largest power of ten" in text
    assert "add/remove one record" in text


@pytest.mark.parametrize(("epsilon", "spelled"), [(7.991, "8.00"), (8.0, "8.00"), (0.0, "0.00"), (math.inf, "inf")])
def test_epsilon_is_never_rounded_in_its_favour(epsilon: float, spelled: str) -> None:
    assert claimed_epsilon(epsilon) == spelled


def test_csv_gives_back_the_numbers_of_the_json(tmp_path: Path) -> None:
    results = [cell("a", auc=1 / 3 + 0.3, epsilon=7.123456789, caveats=("x, y", 'say "z"')), cell("b", seed=4)]
    store = keep(tmp_path, results)
    write(build(store, None, fresh=lambda result: result.seed == 4), store)
    frame = pd.read_csv(tmp_path / "leaderboard.csv", float_precision="round_trip")
    assert list(frame["state"]) == ["stale", "fresh"]
    for (_, row), result in zip(frame.iterrows(), results, strict=True):
        assert row["seed"] == result.seed
        assert row["peak_memory_mib"] == result.peak_memory_mib
        assert row["privacy.epsilon"] == float(result.privacy["epsilon"])
        assert row["utility.accuracy.value"] == result.utility["accuracy"]["value"]
        for metric in ("auc", "gain", "advantage", "balanced_accuracy", "baseline", "tpr_at_fpr_0.01"):
            for part, value in result.metrics[metric].items():
                assert row[f"metrics.{metric}.{part}"] == value
    assert frame["caveats"][0] == 'x, y; say "z"'
    assert not any("machine" in name or "roc" in name for name in frame.columns)


def test_markdown_shows_the_numbers_of_the_json(tmp_path: Path) -> None:
    store = keep(tmp_path, [cell("a", auc=0.614, se=0.01, epsilon=2.0, utility=0.812)])
    lines = markdown(build(store, None), store).splitlines()
    row = next(line for line in lines if line.startswith("| - | a | 0.8"))
    assert [word.strip() for word in row.strip("|").split("|")] == [
        "-", "a", "0.812 [0.792, 0.832]", "2.00", "-", "1e-05", "Poisson, rate 0.1, 300 steps, noise multiplier 1.9",
        "**0.614 [0.594, 0.634]**", "0.614 confidence", "1",
    ]  # fmt: skip
    assert any("0.020 [0.010, 0.030] at FPR 0.0080 (20/1000 members, 4/500 non-members)" in line for line in lines)


def test_same_cells_same_bytes_and_no_needless_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = [cell(name, seed=seed, epsilon=seed + 1) for name in "ab" for seed in range(2)]
    one, two = keep(tmp_path / "1", results), keep(tmp_path / "2", reversed(results))
    for store in (one, two):
        write(build(store, PLAIN), store)
    for name in ("leaderboard.md", "leaderboard.csv"):
        assert (one.root / name).read_bytes() == (two.root / name).read_bytes()
    monkeypatch.setattr("bench.core.files.write", lambda *_: pytest.fail("an unchanged file was written"))
    monkeypatch.setitem(sys.modules, "pandas", None)  # nor is pandas imported for it
    write(build(one, PLAIN), one)


def test_a_changed_csv_is_mended(tmp_path: Path) -> None:
    store = keep(tmp_path, [cell()])
    write(build(store, PLAIN), store)
    path = tmp_path / "leaderboard.csv"
    right = path.read_bytes()
    path.write_bytes(right.replace(b"0.6,", b"0.5,", 1))
    write(build(store, PLAIN), store)
    assert path.read_bytes() == right


def test_counts_stay_whole_beside_a_cell_that_has_none(tmp_path: Path) -> None:
    gap = {**cell("b").metrics, "tpr_at_fpr_0.01": {"not_measurable": "500 non-members; 1000 are needed"}}
    store = keep(tmp_path, [cell("a"), cell("b", metrics=gap)])
    write(build(store, None), store)
    frame = pd.read_csv(tmp_path / "leaderboard.csv", dtype=str)
    assert frame["metrics.tpr_at_fpr_0.01.true_positives"][0] == "20"
    assert frame["metrics.tpr_at_fpr_0.01.not_measurable"][1] == "500 non-members; 1000 are needed"


@pytest.mark.parametrize("width", [*range(80, 200, 6), 220])
def test_no_number_is_cut_at_any_width(tmp_path: Path, width: int) -> None:
    results = [cell(f"dp_vaegm,epsilon={e}", a, epsilon=e) for e in (1, 8) for a in ("art_membership", "confidence")]
    text = printed(build(keep(tmp_path, results), PLAIN), width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert text.count("0.600 [0.580, 0.620]") == 4
    assert "0.900 [0.880, 0.920]" in text
    assert "Poisson, rate 0.1, 300 steps" in " ".join(text.split()) or "┃" in text


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    board = build(Store(tmp_path), PLAIN)
    assert "bench run" in printed(board, 80)
    assert "bench run" in markdown(board, Store(tmp_path))


def test_nothing_heavy_is_imported_to_show_a_board(tmp_path: Path) -> None:
    keep(tmp_path, [cell(), cell(seed=1)])
    code = (
        "import sys, pathlib; from bench.store.store import Store;"
        "from bench.report.aggregate import build; from bench.report.terminal import show;"
        f"show(build(Store(pathlib.Path({str(tmp_path)!r})), None));"
        "heavy = {'tensorflow', 'keras', 'art', 'sklearn', 'pandas', 'seaborn', 'matplotlib', 'scipy.stats'};"
        "print(heavy & set(sys.modules) or 'light')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "light"


def test_an_attack_that_does_not_show_undefended_is_called_out(tmp_path: Path) -> None:
    """An attack is evidence for a defense only where it works on `none`; the mutant without the caveat says nothing."""
    store = Store(tmp_path)
    store.save(cell(defense="dp_sgd", auc=0.5))
    assert "no undefended row was measured" in " ".join(build(store, None).sections[0].column_caveats)
    store.save(cell(defense="none", auc=0.51))
    assert "confidence does not succeed" in " ".join(build(store, None).sections[0].column_caveats)
    store.save(cell(defense="none", auc=0.6))
    assert build(store, None).sections[0].column_caveats == ()
