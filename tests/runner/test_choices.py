"""Words of the command line select components, typed options, sweeps over epsilon, and seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from component_files import put, small

from bench.core.errors import UserError
from bench.runner.registry import discover
from bench.runner.selection import choose, choose_all, distinct, epsilons, seeds, sweep


def test_options_are_cast_to_the_type_of_their_default(component_folder: Path) -> None:
    (choice,) = choose(small(component_folder), "defense", "dp, epsilon=inf,hidden=8x4x2,steps=1e3,fast=TRUE,loss=a=b")
    assert choice.options == {"epsilon": float("inf"), "hidden": (8, 4, 2), "steps": 1000, "fast": True, "loss": "a=b"}
    assert type(choice.options["steps"]) is int
    (choice,) = choose(small(component_folder), "defense", "dp,epsilon=1")
    assert choice.options == {"epsilon": 1.0}
    assert type(choice.options["epsilon"]) is float
    assert choice.settings["hidden"] == (64, 32)


@pytest.mark.parametrize(
    ("words", "label"),
    [
        ("dp", "dp"),
        ("dp,epsilon=8,steps=10", "dp"),
        ("dp,steps=1e1,epsilon=inf", "dp,epsilon=inf"),
        ("dp,hidden=7,epsilon=0.1", "dp,epsilon=0.1,hidden=7"),
        ("dp,epsilon=1e-30,fast=true", "dp,epsilon=1e-30,fast=true"),
        ("dp,epsilon=1e300", "dp,epsilon=1e+300"),
        ("dp,loss=x=y", "dp,loss=x=y"),
    ],
)
def test_a_label_reads_back_as_the_same_choice(component_folder: Path, words: str, label: str) -> None:
    registry = small(component_folder)
    (choice,) = choose(registry, "defense", words)
    (again,) = choose(registry, "defense", choice.label)
    assert choice.label == again.label == label
    assert again.settings == choice.settings


@pytest.mark.parametrize(
    ("kind", "words", "why"),
    [
        ("defense", "dpp", "did you mean 'dp'"),
        ("defense", "", "no defense ''"),
        ("attack", "membreship", "did you mean 'membership'"),
        ("data", "zzz", "digits"),
        ("defense", "dp,epsilom=1", "did you mean 'epsilon'.*hidden=64x32"),
        ("defense", "dp,epsilon", "option=value"),
        ("defense", "dp,", "option=value"),
        ("defense", "dp,epsilon=1,epsilon=2", "twice"),
        ("defense", "dp,epsilon=big", "a number or inf"),
        ("defense", "dp,epsilon=nan", "a number or inf"),
        ("defense", "dp,epsilon=", "a number or inf"),
        ("defense", "dp,epsilon=0", "epsilon=0 .* above 0"),
        ("defense", "all,epsilon=-2", "epsilon=-2 .* above 0"),
        ("attack", "plain,of=publik", "did you mean 'public'"),
        ("defense", "dp,steps=1.5", "a whole number"),
        ("defense", "dp,steps=inf", "a whole number"),
        ("defense", "dp,fast=1", "true or false"),
        ("defense", "dp,hidden=64x", "64x32"),
        ("defense", "none,epsilon=1", "no option 'epsilon'"),
        ("attack", "plain,learner=gb", "no option 'learner': its options are of=private"),
        ("attack", "membership,depth=2", "no option 'depth'"),
        ("attack", "membership,learner", "option=value"),
    ],
)
def test_a_wrong_argument_is_one_sentence(component_folder: Path, kind: Any, words: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        choose(small(component_folder), kind, words)


def test_a_game_selects_its_attacks_and_an_option_applies_where_it_exists(component_folder: Path) -> None:
    registry = small(component_folder)
    for words in ("membership,learner=gb", "all,learner=gb"):
        assert {c.label for c in choose(registry, "attack", words)} == {"threshold,learner=gb", "plain"}
    assert {c.label for c in choose_all(registry, "attack", [])} == {"threshold", "plain"}
    assert [c.label for c in choose_all(registry, "attack", ["plain", "membership"])] == ["plain", "threshold"]
    assert [c.label for c in choose_all(registry, "data", [])] == ["digits"]


def test_a_selection_from_no_loadable_component_names_the_broken_file(component_folder: Path) -> None:
    put(component_folder / "d", "import no_such_module")
    with pytest.raises(UserError, match="no_such_module"):
        choose_all(discover(), "defense", [])


def test_a_sweep_repeats_only_defenses_without_a_stated_epsilon(component_folder: Path) -> None:
    registry = small(component_folder)
    selected = choose_all(registry, "defense", ["dp", "dp,epsilon=3", "none"])
    labels = [choice.label for choice in sweep(selected, (1.0, 8.0, float("inf")))]
    assert labels == ["dp,epsilon=1", "dp", "dp,epsilon=inf", "dp,epsilon=3", "none"]
    with pytest.raises(UserError, match="nothing to sweep"):
        sweep(selected[1:], (1.0,))
    assert [c.label for c in distinct(sweep(choose_all(registry, "defense", ["dp", "dp,epsilon=8"]), (8.0,)))] == ["dp"]


@pytest.mark.parametrize(
    ("words", "found"), [("0-4", (0, 1, 2, 3, 4)), ("0,3", (0, 3)), ("7", (7,)), ("3, 0-1,3", (3, 0, 1)), ("5-5", (5,))]
)
def test_seeds(words: str, found: tuple[int, ...]) -> None:
    assert seeds(words) == found


@pytest.mark.parametrize("words", ["", "a", "4-0", "-1", "0,", "1.5", "0-99999", "0-", "٣"])
def test_wrong_seeds(words: str) -> None:
    with pytest.raises(UserError, match="seed"):
        seeds(words)


def test_epsilons() -> None:
    assert epsilons("1, 2,8,inf,1") == (1.0, 2.0, 8.0, float("inf"))
    for words in ("", "0", "-1", "nan", "1;2", "1,"):
        with pytest.raises(UserError, match="epsilon"):
            epsilons(words)
