"""The page of the figures names what a figure leaves out: stale and missing cells, caveats, missing pictures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from figure_cells import DRAWS, NAMES, drawn, keep, made, planned

from bench.report.figures import FIGURES
from bench.report.figures.plan import CVAEGM, VAEGM
from bench.store.store import Store, samples_of


def test_incomplete_points_are_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = FIGURES["vaegm_epsilon"]
    some = planned(plan)
    store = keep(tmp_path, plan, some)
    by = {one.name: one for one in some}
    data = some[0].data.label
    store.save(made(by[data, f"{VAEGM},epsilon=1", "confidence", 1], digest="0" * 32))  # stale
    store.path(data, f"{VAEGM},epsilon=2", "confidence", 0).unlink()
    for seed in range(3):
        store.path(data, f"{VAEGM},epsilon=4", "confidence", seed).unlink()
    store.save(made(by[data, CVAEGM, "confidence", 0], caveats=("something is odd",)))
    assert drawn(store, plan.name) == 0
    page = (store.root / "figures" / "README.md").read_text()
    assert f"- Left out on `{data}` (of 3 seeds 1 stale): `{VAEGM},epsilon=1` against `confidence`." in page
    assert f"- Left out on `{data}` (of 3 seeds 1 not measured): `{VAEGM},epsilon=2` against `confidence`." in page
    assert f"- Left out on `{data}` (not measured): `{VAEGM},epsilon=4` against `confidence`." in page
    assert "- Caveat (1 of 7 points): something is odd" in page
    rows = (store.root / "figures" / "vaegm_epsilon.csv").read_text()
    for epsilon in (1, 2, 4):
        assert f'"{VAEGM},epsilon={epsilon}"' not in rows
    assert rows.count("\n") == 1 + 7
    assert capsys.readouterr().err == ""


def test_pictures_that_this_checkout_does_not_have_are_named(tmp_path: Path) -> None:
    plan = FIGURES["samples"]
    store = keep(tmp_path, plan, some := planned(plan))
    store._beside("sheets", samples_of(some[0].name)).unlink()
    assert drawn(store, plan.name) == 0
    page = (store.root / "figures" / "README.md").read_text()
    assert f"which has no pictures of it): `{some[0].defense.label}` against `confidence`." in page


def test_the_page_keeps_the_other_figures_and_lists_those_not_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = FIGURES["samples"]
    store = keep(tmp_path, plan, planned(plan))
    plugin = tmp_path / "mine.py"
    plugin.write_text(DRAWS)
    assert drawn(store, "samples", "--plugin", str(plugin)) == 0
    page = store.root / "figures" / "README.md"
    section = page.read_text().partition("## samples")[2].partition("\n## ")[0]
    assert f"    bench figure samples --plugin {plugin}\n" in section
    assert "(samples.png)" in section
    keep(store.root, FIGURES["vaegm_epsilon"], planned(FIGURES["vaegm_epsilon"], seeds="5"))
    assert drawn(store, "vaegm_epsilon", "--seeds", "5") == 0
    text = page.read_text()
    assert text.partition("## samples")[2].partition("\n## ")[0].strip() == section.strip()
    assert "    bench figure vaegm_epsilon --seeds 5\n" in text
    absent = text.partition("## Not measured yet")[2]
    for name in NAMES:
        assert (f"`bench figure {name}`" in absent) is (name not in ("samples", "vaegm_epsilon"))
    capsys.readouterr()
    assert drawn(store, "all") == 0
    assert "note: not drawn" in capsys.readouterr().err
    assert page.read_text().count("\n## ") == 3


def test_a_figure_without_cells_is_one_sentence_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert drawn(Store(tmp_path), "all") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "without --draw-only" in err
    assert not (tmp_path / "figures").exists()


def test_drawing_imports_nothing_that_trains(tmp_path: Path) -> None:
    store = keep(tmp_path, FIGURES["samples"], planned(FIGURES["samples"]))
    argv = ["figure", "samples", "--draw-only", "--results", str(store.root)]
    code = f"""
import sys
from bench.cli.main import main
assert main({argv!r}) == 0
heavy = {{"tensorflow", "keras", "tensorflow_privacy", "tensorflow_datasets", "art", "sklearn", "dp_accounting"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
