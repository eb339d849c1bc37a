"""The figures of the paper: their plans are known, and what is drawn is what the stored cells say."""

from __future__ import annotations

import csv
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from figure_cells import keep, made, sheet
from msgspec import structs

from bench.cli.figure import planned as requested
from bench.cli.main import main
from bench.cli.options import SETTINGS
from bench.core.component import Choice
from bench.core.dataset import Examples
from bench.games.intervals import over_seeds
from bench.report import figures
from bench.report.figures import FIGURES, Plan, Point
from bench.report.figures.page import table
from bench.report.figures.plan import CVAEGM, VAEGM, points
from bench.runner import cell as cells
from bench.runner import play
from bench.runner.registry import Registry, discover
from bench.runner.request import Grid, Request
from bench.store.freshness import freshness
from bench.store.records import CellResult
from bench.store.store import Store, samples_of

NAMES = list(FIGURES)
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover()


@pytest.fixture(scope="module")
def asked(registry: Registry) -> Callable[..., list[cells.Cell]]:
    """The cells of a figure, for some seeds of its own or others."""

    def planned(plan: Plan, **flags: Any) -> list[cells.Cell]:
        return cells.playable(requested(registry, plan, {**dict.fromkeys(SETTINGS), **flags}).grids)

    return planned


def drawn(store: Store, *words: str) -> int:
    return main(["figure", *words, "--draw-only", "--results", str(store.root)])


def whole(plan: Plan, some: Sequence[cells.Cell], store: Store) -> list[Point]:
    found, left = points(plan, some, store, lambda result: True)
    assert not left
    return found


# Plans


@pytest.mark.parametrize("name", NAMES)
def test_every_word_of_a_plan_is_known(name: str, asked: Callable[..., list[cells.Cell]]) -> None:
    plan = FIGURES[name]
    found = asked(plan)
    words = {word for part in plan.parts for kind in ("defense", "data") for word in _list(part[kind])}
    kept = {one.defense.name for one in found} | {one.data.name for one in found}
    assert {word.split(",")[0] for word in words} == kept  # none is asked for in vain
    assert plan.summary.endswith(".")
    assert all(one.name == two.name for one, two in zip(found, asked(plan), strict=True))


def _list(words: str | list[str]) -> list[str]:
    return [words] if isinstance(words, str) else words


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_is_what_a_configuration_of_the_same_words_requests(
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


# What is drawn


@pytest.mark.parametrize("name", NAMES)
def test_the_same_cells_give_the_same_files_and_the_numbers_are_those_of_the_cells(
    name: str, tmp_path: Path, asked: Callable[..., list[cells.Cell]], capsys: pytest.CaptureFixture[str]
) -> None:
    plan, some = FIGURES[name], asked(FIGURES[name], seeds="0-1")
    one, two = keep(tmp_path / "1", plan, some), keep(tmp_path / "2", plan, some[::-1])
    assert drawn(one, name, "--seeds", "0-1") == drawn(two, name, "--seeds", "0-1") == 0
    said = capsys.readouterr().out.splitlines()
    files = [one.root / "figures" / file for file in (f"{name}.png", f"{name}.csv", "README.md")]
    assert said[:3] == [str(path) for path in files]
    assert files[0].read_bytes().startswith(PNG)
    for path in files:
        assert path.read_bytes() == (two.root / "figures" / path.name).read_bytes()
    rows = list(csv.DictReader(files[1].read_text().splitlines()))
    groups: dict[tuple[str, str, str], list[CellResult]] = {}
    for result in one.results():
        groups.setdefault((result.data, result.defense, result.attack), []).append(result)
    assert {(row["data"], row["defense"], row["attack"]) for row in rows} == set(groups)
    assert len(rows) == len(groups)
    for row in rows:
        of = groups[row["data"], row["defense"], row["attack"]]
        assert row["seeds"] == " ".join(str(result.seed) for result in of)
        assert float(row["epsilon"]) == float(of[0].privacy["epsilon"])
        for column, figures_ in (
            ("utility", [result.utility["accuracy"] for result in of]),
            ("found", [result.metrics["auc"] for result in of]),
            ("baseline", [result.metrics["baseline"] for result in of]),
        ):
            assert float(row[column]) == pytest.approx(sum(figure["value"] for figure in figures_) / len(of))
            naive = figures_[0]
            if len(of) > 1:
                ses = [figure.get("se", (figure["high"] - figure["low"]) / 3.919928) for figure in figures_]
                naive = over_seeds([figure["value"] for figure in figures_], ses)
            assert float(row[f"{column}_low"]) == pytest.approx(max(0.0, naive["low"]))
            assert float(row[f"{column}_high"]) == pytest.approx(min(1.0, naive["high"]))


def test_a_line_goes_through_the_means_in_the_order_of_the_option(
    tmp_path: Path, asked: Callable[..., list[cells.Cell]]
) -> None:
    plan = FIGURES["augm_epsilon"]
    found = whole(plan, some := asked(plan), keep(tmp_path, plan, some))
    axes = plan.draw(found).axes
    assert [ax.get_title() for ax in axes] == ["mnist", "fashion_mnist", "adult", "location30"]
    for ax in axes:
        own = {point.defense.label: point.utility.value for point in found if point.data.name == ax.get_title()}  # type: ignore[union-attr]
        lines = {line.get_label(): np.asarray(line.get_ydata(), float) for line in ax.get_lines()}
        spelled = [f"dp_augm,epsilon={epsilon}" for epsilon in ("1", "2", "4")]
        wanted = [own[label] for label in (*spelled, "dp_augm", "dp_augm,epsilon=inf")]
        np.testing.assert_allclose(lines["dp_augm"], wanted)
        for level in ("public_only", "none"):
            np.testing.assert_allclose(lines[level], own[level])
        assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "4", "8", "inf"]


def test_what_has_no_utility_leaves_a_gap_and_stops_nothing(
    tmp_path: Path, asked: Callable[..., list[cells.Cell]]
) -> None:
    plan = FIGURES["vaegm_epsilon"]
    store = Store(tmp_path)
    for one in asked(plan, seeds="0"):
        store.save(structs.replace(made(one), utility={"not_measurable": "no predictor"}))
    assert drawn(store, plan.name, "--seeds", "0") == 0
    rows = list(csv.DictReader((tmp_path / "figures" / "vaegm_epsilon.csv").read_text().splitlines()))
    assert {row["utility"] for row in rows} == {""}
    assert all(float(row["found"]) > 0.5 for row in rows)


def test_a_line_over_the_public_size_has_a_place_for_each(
    tmp_path: Path, asked: Callable[..., list[cells.Cell]]
) -> None:
    plan = FIGURES["public_size"]
    found = whole(plan, some := asked(plan), keep(tmp_path, plan, some))
    [ax] = plan.draw(found).axes
    sizes = [100, 300, 1000, 3000, 10000]
    assert [label.get_text() for label in ax.get_xticklabels()] == list(map(str, sizes))
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert set(lines) == {"dp_augm", "random_encoder", "pate", "public_only"}
    for name, line in lines.items():
        own = {point.data.settings["public"]: point.utility.value for point in found if point.defense.name == name}  # type: ignore[union-attr]
        np.testing.assert_allclose(np.asarray(line.get_ydata(), float), [own[size] for size in sizes])


def test_a_heat_map_says_what_each_attack_reached_and_where_it_cannot_play(
    tmp_path: Path, asked: Callable[..., list[cells.Cell]]
) -> None:
    plan = FIGURES["attacks"]
    some = [one for one in asked(plan) if one.attack.component.game and one.attack.component.game.name == "membership"]
    some = [one for one in some if one.data.name == "digits"]
    some = [one for one in some if (one.defense.name, one.attack.name) != ("dp_sgd", "confidence")]
    found = whole(plan, some, keep(tmp_path, plan, some))
    [ax] = plan.draw(found).axes
    rows, columns = ([label.get_text() for label in axis] for axis in (ax.get_yticklabels(), ax.get_xticklabels()))
    assert rows[0] == "release-free baseline"
    shown = {}
    for text in ax.texts:
        j, i = (int(place) for place in text.get_position())
        if j < len(columns):
            shown[rows[i], columns[j]] = text.get_text()
    assert len(shown) == len(rows) * len(columns)
    for point in found:
        assert point.cell.headline
        star = "*" if point.cell.above_baseline else ""
        assert shown[point.defense.label, point.attack.label] == f"{point.cell.headline.value:.2f}{star}"
    assert any(word.endswith("*") for word in shown.values())
    assert {shown["release-free baseline", column] for column in columns} == {"0.50"}
    assert shown["none", "nearest_sample"] == "n/a"
    assert shown["dp_sgd", "confidence"] == "-"


def test_every_game_of_the_paper_has_a_map(tmp_path: Path, asked: Callable[..., list[cells.Cell]]) -> None:
    plan = FIGURES["attacks"]
    some = asked(plan)
    titles = [ax.get_title(loc="left") for ax in plan.draw(whole(plan, some, keep(tmp_path, plan, some))).axes]
    for game in ("membership", "inversion", "inversion of unseen records", "gan_leakage", "attribute"):
        assert any(title.startswith(f"{game},") for title in titles), game


def _picture(plan: Plan, store: Store, some: Sequence[cells.Cell]) -> bytes:
    from bench.report.drawing import save

    return save(store.root / "picture.png", plan.draw(whole(plan, some, store))).read_bytes()


def test_private_records_are_never_drawn(tmp_path: Path, asked: Callable[..., list[cells.Cell]]) -> None:
    plan = FIGURES["reconstructions"]
    some = [one for one in asked(plan) if one.attack.label == "gradient_inversion"]
    store = keep(tmp_path, plan, some)
    before = _picture(plan, store, some)
    for changed, differs in (("true", False), ("reconstructed", True)):
        for one in some:
            store.save_sheet(one.name, {**sheet(one, plan), changed: np.zeros((5, 8, 8, 1), np.uint8)})
        assert (_picture(plan, store, some) != before) is differs, changed


def test_reconstructions_are_of_attacks_that_answer_for_a_class(asked: Callable[..., list[cells.Cell]]) -> None:
    """What gives back single records, from their codes or gradients, shows private ones."""
    for one in asked(FIGURES["reconstructions"]):
        assert one.attack.name not in {"decoder", "gradient_leakage", "code_reconstruction"}
        assert "targets.codes" not in one.attack.component.source.read_text()


def test_samples_stand_where_their_defense_and_epsilon_do(
    tmp_path: Path, asked: Callable[..., list[cells.Cell]]
) -> None:
    plan = FIGURES["samples"]
    some = asked(plan)[:-1]  # one is missing: its place stays empty, the others keep theirs
    axes = plan.draw(found := whole(plan, some, keep(tmp_path, plan, some))).axes
    assert len(axes) == len(asked(plan)) == 12
    assert sum(bool(ax.images) for ax in axes) == 11
    epsilons = [1.0, 2.0, 4.0, 8.0]
    for ax, (defense, epsilon) in zip(
        axes, ((d, e) for d in ("dp_vaegm", "dp_cvaegm", "dp_merf") for e in epsilons), strict=True
    ):
        own = [p for p in found if (p.defense.name, p.defense.settings["epsilon"]) == (defense, epsilon)]
        for point in own:
            assert point.sheet
            image = np.asarray(ax.images[0].get_array())
            first = next(iter(point.sheet.values()))[0, ..., 0]
            np.testing.assert_array_equal(image[1:9, 1:9], first)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_figure_says_what_the_shipped_cells_say(
    name: str, registry: Registry, asked: Callable[..., list[cells.Cell]]
) -> None:
    shipped = Store(Path(__file__).parents[2] / "results")
    written = shipped.root / "figures" / f"{name}.csv"
    if not written.is_file():
        pytest.skip(f"results/figures holds no {name}: it was not measured")
    plan = replace(FIGURES[name], sheet=None)  # the pictures themselves are in no checkout but the one that measured
    found, _ = points(plan, asked(plan), shipped, freshness(registry.find))
    again = f"`bench figure {name}` draws it again: run it, commit"
    assert found, again
    assert written.read_bytes() == table(found), again


# What is left out


def test_points_that_are_not_whole_are_left_out_and_named(
    tmp_path: Path, asked: Callable[..., list[cells.Cell]], capsys: pytest.CaptureFixture[str]
) -> None:
    plan = FIGURES["vaegm_epsilon"]
    some = asked(plan)
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


def test_pictures_that_this_checkout_does_not_have_are_named(
    tmp_path: Path, asked: Callable[..., list[cells.Cell]]
) -> None:
    plan = FIGURES["samples"]
    store = keep(tmp_path, plan, some := asked(plan))
    store._beside("sheets", samples_of(some[0].name)).unlink()
    assert drawn(store, plan.name) == 0
    page = (store.root / "figures" / "README.md").read_text()
    assert f"which has no pictures of it): `{some[0].defense.label}` against `confidence`." in page


def test_the_page_keeps_the_other_figures_and_says_what_is_not_measured(
    tmp_path: Path, asked: Callable[..., list[cells.Cell]], capsys: pytest.CaptureFixture[str]
) -> None:
    plan = FIGURES["samples"]
    store = keep(tmp_path, plan, asked(plan))
    plugin = tmp_path / "mine.py"
    plugin.write_text(DRAWS)
    assert drawn(store, "samples", "--plugin", str(plugin)) == 0
    page = store.root / "figures" / "README.md"
    section = page.read_text().partition("## samples")[2].partition("\n## ")[0]
    assert f"    bench figure samples --plugin {plugin}\n" in section
    assert "(samples.png)" in section
    keep(store.root, FIGURES["vaegm_epsilon"], asked(FIGURES["vaegm_epsilon"], seeds="5"))
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


def test_nothing_to_draw_is_one_sentence_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert drawn(Store(tmp_path), "all") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "without --draw-only" in err
    assert not (tmp_path / "figures").exists()


def test_drawing_imports_nothing_that_trains(tmp_path: Path, asked: Callable[..., list[cells.Cell]]) -> None:
    store = keep(tmp_path, FIGURES["samples"], asked(FIGURES["samples"]))
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


# Measuring


DRAWS = '''
import numpy as np
from dp_accounting import NonPrivateDpEvent
from bench.core.dataset import Examples
from bench.games import MEMBERSHIP
from bench.core.component import attack, defense
from bench.core.release import Release

@defense("draws", publishes={"predict", "generate"})
def draws(private, public, *, seed, epsilon=8.0):
    """Draws a picture of one grey a class."""
    def generate(n, seed):
        y = np.arange(n) % 10
        return Examples(np.ones((n, *private.shape), np.float32) * (y / 10)[:, None, None, None], y, 10)
    return Release(NonPrivateDpEvent(), predict=lambda x: np.full((len(x), 10), 0.1), generate=generate)
'''


def test_a_figure_measures_what_is_missing_and_keeps_samples(
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


def test_only_images_are_kept_as_samples(registry: Registry) -> None:
    made = Examples(np.ones((4, 8, 8, 1)), np.array([0, 0, 1, 1]), 2)
    release = SimpleNamespace(generate=lambda n, seed: made)
    for name, kept in (("digits", True), ("breast_cancer", False)):
        others = registry.defenses["none"], registry.attacks["confidence"]
        one = cells.Cell(Choice(registry.data[name]), *map(Choice, others), 0)
        assert bool(play.samples(one, release)) is kept  # type: ignore[arg-type]
        assert play.samples(one, SimpleNamespace(generate=None)) == {}  # type: ignore[arg-type]
