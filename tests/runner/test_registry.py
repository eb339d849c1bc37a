"""Components are found, checked where they are declared, and read from words into typed choices."""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import attacks as attacks_package
import defenses as defenses_package
from bench.core.component import Choice, attack, dataset, defense
from bench.core.errors import UserError
from bench.games import MEMBERSHIP
from bench.runner.registry import Registry, discover
from bench.runner.selection import choose, choose_all, distinct, epsilons, seeds, sweep

FRESH = itertools.count()
DEFENSE = """
from bench.core.component import defense

@defense("NAME", publishes={"predict"}, public_knowledge={"n"}, private=True)
def made(private, public, *, seed, epsilon=8.0, hidden=(64, 32), steps=10, fast=False, loss="ce"):
    '''One line.

    More.'''
"""
ATTACK = """
from bench.games import MEMBERSHIP
from bench.core.component import attack

@attack("NAME", game=MEMBERSHIP, needs={"predict"})
def made(release, targets, public, *, seed, learner="lr"):
    '''Asks.'''
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The only folder of the packages `defenses` and `attacks`: `d` and `a` in it; no entry points."""
    for package, name in ((defenses_package, "d"), (attacks_package, "a")):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(package, "__path__", [str(tmp_path / name)])
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [])
    importlib.invalidate_caches()
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(("defenses.", "attacks.", "bench_plugin_")):
            del sys.modules[name]


def put(folder: Path, source: str, name: str = "made", file: str | None = None) -> Path:
    """A component file, under a module name that no test has used before."""
    path = folder / f"{file or f'file{next(FRESH)}'}.py"
    path.write_text(source.replace("NAME", name))
    importlib.invalidate_caches()
    return path


def small(folder: Path) -> Registry:
    put(folder / "d", DEFENSE, "dp")
    put(folder / "d", DEFENSE.replace("epsilon=8.0, ", ""), "none")
    put(folder / "a", ATTACK, "threshold")
    put(folder / "a", ATTACK.replace(', learner="lr"', ""), "plain")
    return discover()


def test_the_file_is_there_so_it_is_found(folder: Path) -> None:
    registry = small(folder)
    assert registry.broken == []
    assert (set(registry.defenses), set(registry.attacks)) == ({"dp", "none"}, {"threshold", "plain"})
    assert "digits" in registry.data
    dp = registry.defenses["dp"]
    assert dp.summary == "One line."
    assert dp.publishes == {"predict"}
    assert dp.public_knowledge == ("n",)
    assert dp.private
    assert dict(dp.options) == {"epsilon": 8.0, "hidden": (64, 32), "steps": 10, "fast": False, "loss": "ce"}
    assert dp.source.parent == folder / "d"
    assert registry.games["membership"] is MEMBERSHIP
    assert registry.attacks["plain"].needs - dp.publishes == set()


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def (", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("class Odd(BaseException): ...\nraise Odd('out')", "Odd: out"),
        ("class Mute(Exception):\n    def __str__(self): raise self\nraise Mute", "could not be loaded: Mute"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("from bench.registry import defense", "`from bench import defense`"),
        (DEFENSE.replace("predict", "perdict"), "publishes names 'perdict'"),
        (DEFENSE.replace('{"predict"}', '"predict"'), "must be a set of names"),
        (DEFENSE.replace("seed, ", ""), "must take the keyword-only argument seed"),
        (DEFENSE.replace("epsilon=8.0", "epsilon"), "option epsilon must have a default"),
        (DEFENSE.replace("epsilon=8.0", "epsilon=None"), "option epsilon must have a default"),
        (DEFENSE.replace("(64, 32)", "(64, 0.5)"), "option hidden must have a default"),
        (DEFENSE.replace("private, public, *", "private, public, more=1, *"), "2 positional arguments"),
        (DEFENSE.replace('loss="ce"', "**rest"), "2 positional arguments"),
        (DEFENSE.replace("NAME", "a,b"), "cannot name a component"),
        (ATTACK.replace("predict", "perdict"), "needs names 'perdict'"),
        ("x = 1", "declares no component"),
    ],
)
def test_a_broken_file_is_one_named_line_and_the_rest_goes_on(folder: Path, source: str, why: str) -> None:
    path = put(folder / "d", source)
    registry = small(folder)
    (line,) = registry.broken
    assert line.startswith(f"defenses/{path.name} ")
    assert why in line
    assert "\n" not in line
    assert set(registry.defenses) == {"dp", "none"}


def test_a_broken_file_is_the_reason_why_its_name_is_unknown(folder: Path) -> None:
    path = put(folder / "d", "import no_such_module")
    with pytest.raises(UserError, match="no_such_module"):
        choose(discover(), "defense", path.stem)


def test_two_of_one_name_are_named_with_both_files(folder: Path) -> None:
    first, second = put(folder / "d", DEFENSE, file="a_first"), put(folder / "d", DEFENSE, file="b_second")
    registry = discover()
    (line,) = registry.broken
    assert str(first) in line
    assert str(second) in line
    assert registry.defenses["made"].source == first


def test_an_attack_cannot_be_named_like_a_game(folder: Path) -> None:
    put(folder / "a", ATTACK, "membership")
    assert "rename the attack" in discover().broken[0]


def test_an_imported_component_is_not_declared_twice(folder: Path) -> None:
    other = put(folder / "d", DEFENSE)
    put(folder / "d", f"from defenses.{other.stem} import made\n" + DEFENSE.replace("def made", "def own"), "own")
    registry = discover()
    assert registry.broken == []
    assert set(registry.defenses) == {"made", "own"}


def test_entry_points_bring_components_and_break_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(folder, ATTACK, "foreign", file="foreign_package")
    monkeypatch.syspath_prepend(str(path.parent))
    asked = []

    def points(group: str) -> list[importlib.metadata.EntryPoint]:
        asked.append(group)
        if group == "bench.defenses":
            return [importlib.metadata.EntryPoint("gone", "no_such_package:thing", group)]
        return [
            importlib.metadata.EntryPoint("foreign", value, group)
            for value in ("foreign_package", "foreign_package:made")
        ]

    monkeypatch.setattr(importlib.metadata, "entry_points", points)
    registry = discover()
    assert asked == ["bench.defenses", "bench.attacks"]
    assert list(registry.attacks) == ["foreign"]
    assert len(registry.broken) == 1
    assert "'gone'" in registry.broken[0]
    assert "no_such_package" in registry.broken[0]


def test_a_plugin_replaces_its_namesake_and_says_so(folder: Path) -> None:
    small(folder)
    plugin = put(folder, DEFENSE, "dp")
    registry = discover([plugin])
    assert registry.defenses["dp"].source == plugin
    assert len(registry.broken) == 1
    assert str(plugin) in registry.broken[0]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (None, "does not exist"),
        ("1 / 0", "in line 1: ZeroDivisionError"),
        ("def f():\n    return 1 / 0\n\n\nf()", "in line 2: ZeroDivisionError"),
        ("x = 1", "declares no"),
        ("class Odd(BaseException): ...\nraise Odd('out')", "in line 2: Odd: out"),
        ("from bench.data import Examples", "`from bench import Examples`"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_an_error(folder: Path, source: str | None, why: str) -> None:
    path = folder / "mine.py"
    if source:
        path.write_text(source)
    with pytest.raises(UserError, match=why):
        discover([path])


@pytest.mark.parametrize("where", ["d", "."])
def test_a_stop_while_components_load_is_a_stop(folder: Path, where: str) -> None:
    path = put(folder / where, "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        discover([] if where == "d" else [path])


def test_options_are_cast_to_the_type_of_their_default(folder: Path) -> None:
    (choice,) = choose(small(folder), "defense", "dp, epsilon=inf,hidden=8x4x2,steps=1e3,fast=TRUE,loss=a=b")
    assert choice.options == {"epsilon": float("inf"), "hidden": (8, 4, 2), "steps": 1000, "fast": True, "loss": "a=b"}
    assert type(choice.options["steps"]) is int
    (choice,) = choose(small(folder), "defense", "dp,epsilon=1")
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
def test_a_label_reads_back_as_the_same_choice(folder: Path, words: str, label: str) -> None:
    registry = small(folder)
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
def test_a_wrong_word_is_one_sentence(folder: Path, kind: Any, words: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        choose(small(folder), kind, words)


def test_a_game_means_its_attacks_and_an_option_those_that_have_it(folder: Path) -> None:
    registry = small(folder)
    for words in ("membership,learner=gb", "all,learner=gb"):
        assert {c.label for c in choose(registry, "attack", words)} == {"threshold,learner=gb", "plain"}
    assert {c.label for c in choose_all(registry, "attack", [])} == {"threshold", "plain"}
    assert [c.label for c in choose_all(registry, "attack", ["plain", "membership"])] == ["plain", "threshold"]
    assert [c.label for c in choose_all(registry, "data", [])] == ["digits"]


def test_everything_of_nothing_says_what_is_broken(folder: Path) -> None:
    put(folder / "d", "import no_such_module")
    with pytest.raises(UserError, match="no_such_module"):
        choose_all(discover(), "defense", [])


def test_a_sweep_repeats_only_what_leaves_epsilon_open(folder: Path) -> None:
    registry = small(folder)
    chosen = choose_all(registry, "defense", ["dp", "dp,epsilon=3", "none"])
    labels = [choice.label for choice in sweep(chosen, (1.0, 8.0, float("inf")))]
    assert labels == ["dp,epsilon=1", "dp", "dp,epsilon=inf", "dp,epsilon=3", "none"]
    with pytest.raises(UserError, match="nothing to sweep"):
        sweep(chosen[1:], (1.0,))
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


def test_declarations_return_the_function_itself() -> None:
    def protect(private: Any, public: Any, *, seed: int) -> Any: ...
    def ask(release: Any, targets: Any, public: Any, *, seed: int) -> Any: ...
    def load(where: Any, rng: Any, *, size: int = 3) -> Any: ...

    assert defense("d", publishes=())(protect) is protect
    assert attack("a", game=MEMBERSHIP, needs=())(ask) is ask
    assert dataset("s")(load) is load
    assert Choice(load.component, {"size": 4}).label == "s,size=4"  # type: ignore[attr-defined]


def test_what_is_installed_loads_quickly_and_without_the_heavy_libraries() -> None:
    code = """
import time, sys, numpy
before = time.process_time()
from bench.runner.registry import discover
registry = discover()
print(time.process_time() - before, *registry.broken, sep="\\n")
heavy = {"tensorflow", "tensorflow_privacy", "keras", "art", "sklearn", "scipy", "pandas"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    seconds, *broken = done.stdout.splitlines()
    assert broken == []
    assert float(seconds) < 1.0
