"""`bench figure` plans known cells, refuses wrong arguments in one sentence, and measures missing cells."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import components
from figure_cells import DRAWS, NAMES, planned

from bench.cli.main import main
from bench.core.component import Choice
from bench.core.dataset import Examples
from bench.report import figures
from bench.report.figures import FIGURES, Plan
from bench.runner import cell as cells
from bench.runner import play
from bench.runner.request import Grid, Request
from bench.store.store import Store, samples_of


@pytest.mark.parametrize("name", NAMES)
def test_every_name_in_a_plan_is_known(name: str) -> None:
    plan = FIGURES[name]
    found = planned(plan)
    words = {word for part in plan.parts for kind in ("defense", "data") for word in _list(part[kind])}
    kept = {one.defense.name for one in found} | {one.data.name for one in found}
    assert {word.split(",")[0] for word in words} == kept  # each requested name selects a cell
    assert plan.summary.endswith(".")
    assert all(one.name == two.name for one, two in zip(found, planned(plan), strict=True))


def _list(words: str | list[str]) -> list[str]:
    return [words] if isinstance(words, str) else words


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_requests_the_same_cells_as_an_equal_configuration(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Request] = []

    def run(request: Request, *_: Any) -> Any:
        seen.append(request)
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.runner.run.run", run)
    monkeypatch.setattr("bench.cli.run.lint_claims", lambda request, registry: False)
    monkeypatch.chdir(tmp_path)
    Path("plan.yaml").write_text(yaml.safe_dump({"parts": [dict(part) for part in FIGURES[name].parts]}))
    flags = ["--seeds", "4", "--reuse-committed"]
    assert main(["run", "--no-reference", "--config", "plan.yaml", *flags]) == main(["figure", name, *flags]) == 130
    ours, theirs = seen
    assert [_spelled(one) for one in ours.grids] == [_spelled(one) for one in theirs.grids]
    assert ours.reuse_committed
    assert theirs.reuse_committed
    assert {seed for one in theirs.grids for seed in one.seeds} == {4}


def _spelled(grid: Grid) -> Any:
    kinds = (grid.data, grid.defenses, grid.attacks)
    return [[choice.label for choice in kind] for kind in kinds], grid.seeds


def test_every_figure_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "figures"]) == 0
    out = capsys.readouterr().out
    assert all(f"{name}: {plan.summary}" in out for name, plan in FIGURES.items())


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["generator"], "did you mean 'generators'"),
        (["augm_epsilon", "x"], "there is no figure 'x': known: all, attacks"),
        (["samples", "--defense", "none"], "--defense"),
        (["samples", "--draw-only", "--results", "missing"], "missing"),
        (["samples", "--seeds", "x"], "no seed"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_2(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figure", *words]) == 2
    out, err = capsys.readouterr()
    assert why in err
    assert err.startswith("bench: ")
    assert err.count("\n") == 1
    assert out == ""


def test_a_component_that_is_missing_is_named_with_its_figure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = Plan("one", "One", "One.", ({"defense": ["none", "nobody"], "attack": "confidence"},), lambda points: None)  # type: ignore[arg-type,return-value]
    monkeypatch.setattr(figures, "FIGURES", {"one": plan})
    assert main(["figure", "one"]) == 2
    assert "the figure one cannot be planned: there is no defense 'nobody'" in capsys.readouterr().err


def test_a_figure_measures_missing_cells_and_stores_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("draws.py").write_text(DRAWS)
    words = {"data": "digits,holdout=60,private=60,public=20", "attack": "confidence", "defense": "draws"}
    few = Plan("few", "A few", "Few.", (words,), FIGURES["samples"].draw, sheet=samples_of)
    monkeypatch.setattr(figures, "FIGURES", {"few": few})
    flags = ["--plugin", "draws.py", "--seeds", "0", "--offline"]
    assert main(["figure", "few", *flags]) == 0
    assert "few.png" in capsys.readouterr().out
    store = Store(Path("results"))
    [result] = store.results()
    assert (result.defense, result.seed) == ("draws", 0)
    assert (store.root / "leaderboard.md").read_text().count("draws")
    kept = store.load_sheet(samples_of((result.data, "draws", "confidence", 0)))
    assert kept is not None
    assert list(kept) == [f"class {label}" for label in range(10)]
    for label, pictures in enumerate(kept.values()):
        assert pictures.shape == (play.SHOWN, 8, 8, 1)
        assert (pictures == round(label / 10 * 255)).all()
    monkeypatch.setattr(play, "train", lambda *_: pytest.fail("measured again"))
    before = {path: path.read_bytes() for path in Path("results/figures").iterdir()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(["figure", "few", *flags]) == 0
    assert {path: path.read_bytes() for path in Path("results/figures").iterdir()} == before


def test_only_images_are_stored_as_samples() -> None:
    made = Examples(np.ones((4, 8, 8, 1)), np.array([0, 0, 1, 1]), 2)
    release = SimpleNamespace(generate=lambda n, seed: made)
    for name, kept in (("digits", True), ("breast_cancer", False)):
        others = components().defenses["none"], components().attacks["confidence"]
        one = cells.Cell(Choice(components().data[name]), *map(Choice, others), 0)
        assert bool(play.samples(one, release)) is kept  # type: ignore[arg-type]
        assert play.samples(one, SimpleNamespace(generate=None)) == {}  # type: ignore[arg-type]
