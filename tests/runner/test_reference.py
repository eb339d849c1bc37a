"""A run measures what the same attacks reach where nothing defends: the reference of each requested defense."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import components
from quick_components import PLUGIN

from bench.cli.main import main
from bench.core.component import Choice, Component, defense, missing
from bench.core.release import GIVEN
from bench.runner.cell import playable
from bench.runner.reference import reference_of, with_references
from bench.runner.registry import Registry
from bench.runner.request import Grid
from bench.runner.selection import choose_all
from bench.store.store import Store

# A defense, and a reference of it that is declared in the same file: it publishes `generate`, which `none` does not.
GENERATORS = """
from bench import Release, accounting, defense
from bench.core.dataset import Examples


def release(private):
    return Release(accounting.no_privacy(), generate=lambda n, seed: private[:n])


@defense("smoothed", publishes={"generate"})
def smoothed(private, public, *, seed):
    return release(private)


@defense("resampled", publishes={"generate"}, undefended=True)
def resampled(private, public, *, seed):
    return release(private)
"""


UNDEFENDED = ("none", "federated")


def met(one: Component, registry: Registry) -> set[str]:
    """The attacks that can be played against a defense, on some data set."""
    pairs = [(attack, data) for attack in registry.attacks.values() for data in registry.data.values()]
    return {attack.name for attack, data in pairs if not missing(attack, one, data)}


@pytest.mark.parametrize("name", components().defenses)
def test_every_defense_has_the_reference_that_meets_most_of_its_attacks(name: str) -> None:
    registry = components()
    one = registry.defenses[name]
    reference = reference_of(one, registry.defenses.values())
    assert one.undefended == (name in UNDEFENDED)
    assert (reference is None) == one.undefended
    if reference is None:
        return
    undefended = [registry.defenses[other] for other in UNDEFENDED]
    shared = {other.name: met(other, registry) & met(one, registry) for other in undefended}
    assert shared[reference.name]
    assert all(found <= shared[reference.name] for found in shared.values())
    assert reference.name == ("federated" if {"join", "updates"} & one.publishes else "none")


def grid(defenses: list[str], attacks: list[str], data: str = "digits", seeds: tuple[int, ...] = (0, 3)) -> Grid:
    chosen = (choose_all(components(), "defense", defenses), choose_all(components(), "attack", attacks))
    return Grid(*map(tuple, chosen), tuple(choose_all(components(), "data", [data])), seeds)


def test_the_reference_meets_the_same_attacks_on_the_same_splits() -> None:
    requested = grid(["dp_vaegm,epsilon=1", "dp_vaegm", "federated_client_dp"], ["all"], "digits,private=300")
    first, *references = with_references([requested], components())
    assert first == requested
    assert [one.defenses[0].label for one in references] == ["federated", "none"]
    assert {(one.data, one.seeds) for one in references} == {(requested.data, (0, 3))}
    attacks = {one.defenses[0].label: {attack.name for attack in one.attacks} for one in references}
    assert "insider_gan" in attacks["federated"]
    assert "lira" in attacks["none"]
    assert "mi_face" not in attacks["none"], "dp_vaegm publishes no model, so nothing compares"
    cells = playable(references)
    assert {(cell.defense.label, cell.seed) for cell in cells} == {(n, s) for n in UNDEFENDED for s in (0, 3)}


def test_a_grid_that_requests_its_reference_gets_no_other() -> None:
    for own in ("none", "none,steps=200"):
        requested = grid([own, "dp_sgd"], ["membership"])
        assert with_references([requested], components()) == (requested,)
    assert with_references([alone := grid(["none", "federated"], ["all"])], components()) == (alone,)
    every = grid(["all"], ["all"])
    assert with_references([every], components()) == (every,)


def test_references_of_two_grids_are_cells_once() -> None:
    several = [grid(["dp_sgd"], ["confidence"]), grid(["dp_merf"], ["confidence"]), grid(["none"], ["confidence"])]
    cells = [cell.name for cell in playable(with_references(several, components()))]
    assert sorted(name for name in cells if name[1] == "none") == [("digits", "none", "confidence", s) for s in (0, 3)]


def test_a_defense_that_publishes_what_nothing_undefended_does_has_no_reference() -> None:
    registry = components()
    base = registry.defenses["dp_vaegm"]
    for publishes in (set[str](), {"generate"}, {"generate", *GIVEN}):
        assert reference_of(replace(base, publishes=frozenset(publishes)), registry.defenses.values()) is None
    with pytest.raises(TypeError, match="private and undefended"):
        defense("both", publishes={"predict"}, private=True, undefended=True)


def test_a_plugin_can_bring_the_reference_of_its_defense(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "generators.py").write_text(GENERATORS)
    words = ["--plugin", str(tmp_path / "generators.py"), "--defense", "smoothed", "--attack", "nearest_sample"]
    assert main(["plan", *words, "--results", str(results)]) == 0
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines() if line.startswith("digits")]
    assert rows == [["digits", "smoothed"], ["digits", "resampled"]]


def test_a_run_prints_the_reference_beside_a_defense_of_a_plugin(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`says` publishes `predict`, and `none` is trained on the plugin's own data set."""
    (tmp_path / "mine.py").write_text(PLUGIN)
    words = ["--plugin", str(tmp_path / "mine.py"), "--data", "made", "--defense", "says", "--attack", "honest"]
    words += ["--seeds", "0", "--results", str(results)]
    assert main(["run", *words]) == 0
    board = capsys.readouterr().out
    assert {cell.defense for cell in Store(results).results()} == {"says", "none"}
    assert all(any(name in line.split() for line in board.splitlines()) for name in ("says", "none"))


def test_choices_of_references_have_no_options() -> None:
    [_, reference] = with_references([grid(["dp_sgd,steps=7"], ["confidence"])], components())
    assert reference.defenses == (Choice(components().defenses["none"]),)
