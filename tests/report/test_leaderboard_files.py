"""The files and the terminal table of a leaderboard show the stored numbers, at any width, without heavy imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from cells import cell
from leaderboards import PLAIN, keep, markdown, printed, write

from bench.report.aggregate import build
from bench.store.store import Store


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


def test_counts_stay_integers_beside_a_cell_without_counts(tmp_path: Path) -> None:
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
    leaderboard = build(Store(tmp_path), PLAIN)
    assert "bench run" in printed(leaderboard, 80)
    assert "bench run" in markdown(leaderboard, Store(tmp_path))


def test_showing_a_leaderboard_imports_no_heavy_library(tmp_path: Path) -> None:
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
