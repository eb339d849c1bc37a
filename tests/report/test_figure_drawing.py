"""A figure draws the stored cells: points, lines, heat maps, pictures and the numbers in its CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import components
from figure_cells import NAMES, drawn, keep, made, planned, sheet, whole
from msgspec import structs

from bench.games.intervals import over_seeds
from bench.report.figures import FIGURES, Plan
from bench.report.figures.page import table
from bench.report.figures.plan import points
from bench.runner import cell as cells
from bench.store.freshness import freshness
from bench.store.records import CellResult
from bench.store.store import Store

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("name", NAMES)
def test_the_same_cells_give_the_same_files_and_the_numbers_are_those_of_the_cells(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, some = FIGURES[name], planned(FIGURES[name], seeds="0-1")
    one, two = keep(tmp_path / "1", plan, some), keep(tmp_path / "2", plan, some[::-1])
    assert drawn(one, name, "--seeds", "0-1") == drawn(two, name, "--seeds", "0-1") == 0
    printed = capsys.readouterr().out.splitlines()
    files = [one.root / "figures" / file for file in (f"{name}.png", f"{name}.csv", "README.md")]
    assert printed[:3] == [str(path) for path in files]
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


def test_a_line_goes_through_the_means_in_the_order_of_the_option(tmp_path: Path) -> None:
    plan = FIGURES["augm_epsilon"]
    found = whole(plan, some := planned(plan), keep(tmp_path, plan, some))
    axes = plan.draw(found).axes
    assert [ax.get_title() for ax in axes] == ["mnist", "fashion_mnist", "adult", "location30"]
    for ax in axes:
        expected = {point.defense.label: point.utility.value for point in found if point.data.name == ax.get_title()}  # type: ignore[union-attr]
        lines = {line.get_label(): np.asarray(line.get_ydata(), float) for line in ax.get_lines()}
        labels = [f"dp_augm,epsilon={epsilon}" for epsilon in ("1", "2", "4")]
        means = [expected[label] for label in (*labels, "dp_augm", "dp_augm,epsilon=inf")]
        np.testing.assert_allclose(lines["dp_augm"], means)
        for level in ("public_only", "none"):
            np.testing.assert_allclose(lines[level], expected[level])
        assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "4", "8", "inf"]


def test_a_point_without_utility_is_a_gap(tmp_path: Path) -> None:
    plan = FIGURES["vaegm_epsilon"]
    store = Store(tmp_path)
    for one in planned(plan, seeds="0"):
        store.save(structs.replace(made(one), utility={"not_measurable": "no predictor"}))
    assert drawn(store, plan.name, "--seeds", "0") == 0
    rows = list(csv.DictReader((tmp_path / "figures" / "vaegm_epsilon.csv").read_text().splitlines()))
    assert {row["utility"] for row in rows} == {""}
    assert all(float(row["found"]) > 0.5 for row in rows)


def test_a_line_over_the_public_size_has_a_place_for_each(tmp_path: Path) -> None:
    plan = FIGURES["public_size"]
    found = whole(plan, some := planned(plan), keep(tmp_path, plan, some))
    [ax] = plan.draw(found).axes
    sizes = [100, 300, 1000, 3000, 10000]
    assert [label.get_text() for label in ax.get_xticklabels()] == list(map(str, sizes))
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert set(lines) == {"dp_augm", "random_encoder", "pate", "public_only"}
    for name, line in lines.items():
        expected = {point.data.settings["public"]: point.utility.value for point in found if point.defense.name == name}  # type: ignore[union-attr]
        np.testing.assert_allclose(np.asarray(line.get_ydata(), float), [expected[size] for size in sizes])


def test_a_heat_map_shows_each_attacks_metric_and_where_it_does_not_apply(tmp_path: Path) -> None:
    plan = FIGURES["attacks"]
    some = [
        one for one in planned(plan) if one.attack.component.game and one.attack.component.game.name == "membership"
    ]
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


def test_every_game_of_the_paper_has_a_map(tmp_path: Path) -> None:
    plan = FIGURES["attacks"]
    some = planned(plan)
    titles = [ax.get_title(loc="left") for ax in plan.draw(whole(plan, some, keep(tmp_path, plan, some))).axes]
    for game in ("membership", "inversion", "inversion of unseen records", "gan_leakage", "attribute"):
        assert any(title.startswith(f"{game},") for title in titles), game


def _picture(plan: Plan, store: Store, some: Sequence[cells.Cell]) -> bytes:
    from bench.report.drawing import save

    return save(store.root / "picture.png", plan.draw(whole(plan, some, store))).read_bytes()


def test_private_records_are_never_drawn(tmp_path: Path) -> None:
    plan = FIGURES["reconstructions"]
    some = [one for one in planned(plan) if one.attack.label == "gradient_inversion"]
    store = keep(tmp_path, plan, some)
    before = _picture(plan, store, some)
    for changed, differs in (("true", False), ("reconstructed", True)):
        for one in some:
            store.save_sheet(one.name, {**sheet(one, plan), changed: np.zeros((5, 8, 8, 1), np.uint8)})
        assert (_picture(plan, store, some) != before) is differs, changed


def test_reconstructions_are_of_attacks_that_answer_for_a_class() -> None:
    """An attack that reconstructs single records from their codes or gradients would show private records."""
    for one in planned(FIGURES["reconstructions"]):
        assert one.attack.name not in {"decoder", "gradient_leakage", "code_reconstruction"}
        assert "targets.codes" not in one.attack.component.source.read_text()


def test_samples_are_placed_by_defense_and_epsilon(tmp_path: Path) -> None:
    plan = FIGURES["samples"]
    some = planned(plan)[:-1]  # one is missing: its panel stays empty, the others keep their places
    axes = plan.draw(found := whole(plan, some, keep(tmp_path, plan, some))).axes
    assert len(axes) == len(planned(plan)) == 12
    assert sum(bool(ax.images) for ax in axes) == 11
    epsilons = [1.0, 2.0, 4.0, 8.0]
    for ax, (defense, epsilon) in zip(
        axes, ((d, e) for d in ("dp_vaegm", "dp_cvaegm", "dp_merf") for e in epsilons), strict=True
    ):
        expected = [p for p in found if (p.defense.name, p.defense.settings["epsilon"]) == (defense, epsilon)]
        for point in expected:
            assert point.sheet
            image = np.asarray(ax.images[0].get_array())
            first = next(iter(point.sheet.values()))[0, ..., 0]
            np.testing.assert_array_equal(image[1:9, 1:9], first)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_figure_shows_the_shipped_cells(name: str) -> None:
    """Where all of its cells are stale, those: between two measurements of the large board a figure stays as it is."""
    shipped = Store(Path(__file__).parents[2] / "results")
    written = shipped.root / "figures" / f"{name}.csv"
    if not written.is_file():
        pytest.skip(f"results/figures holds no {name}: it was not measured")
    plan = replace(FIGURES[name], sheet=None)  # pictures exist only in the checkout that measured
    found, _ = points(plan, planned(plan), shipped, freshness(components().find))
    if not found:
        found, _ = points(plan, planned(plan), shipped, lambda result: True)
    again = f"`bench figure {name}` draws it again: run it, commit"
    assert found, again
    assert written.read_bytes() == table(found), again
