"""Components are found, checked where they are declared, and named when they cannot be loaded."""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from component_files import ATTACK, DEFENSE, put, small

from bench.core.component import Choice, attack, dataset, defense
from bench.core.errors import UserError
from bench.games import MEMBERSHIP
from bench.runner.registry import discover
from bench.runner.selection import choose


def test_a_component_file_is_discovered(component_folder: Path) -> None:
    registry = small(component_folder)
    assert registry.broken == []
    assert (set(registry.defenses), set(registry.attacks)) == ({"dp", "none"}, {"threshold", "plain"})
    assert "digits" in registry.data
    dp = registry.defenses["dp"]
    assert dp.summary == "One line."
    assert dp.publishes == {"predict"}
    assert dp.public_knowledge == ("n",)
    assert dp.private
    assert dict(dp.options) == {"epsilon": 8.0, "hidden": (64, 32), "steps": 10, "fast": False, "loss": "ce"}
    assert dp.source.parent == component_folder / "d"
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
def test_a_broken_file_is_one_named_line_and_the_rest_goes_on(component_folder: Path, source: str, why: str) -> None:
    path = put(component_folder / "d", source)
    registry = small(component_folder)
    (line,) = registry.broken
    assert line.startswith(f"defenses/{path.name} ")
    assert why in line
    assert "\n" not in line
    assert set(registry.defenses) == {"dp", "none"}


def test_a_broken_file_is_the_reason_why_its_name_is_unknown(component_folder: Path) -> None:
    path = put(component_folder / "d", "import no_such_module")
    with pytest.raises(UserError, match="no_such_module"):
        choose(discover(), "defense", path.stem)


def test_two_components_of_one_name_are_reported_with_both_files(component_folder: Path) -> None:
    first, second = (
        put(component_folder / "d", DEFENSE, file="a_first"),
        put(component_folder / "d", DEFENSE, file="b_second"),
    )
    registry = discover()
    (line,) = registry.broken
    assert str(first) in line
    assert str(second) in line
    assert registry.defenses["made"].source == first


def test_an_attack_cannot_be_named_like_a_game(component_folder: Path) -> None:
    put(component_folder / "a", ATTACK, "membership")
    assert "rename the attack" in discover().broken[0]


def test_an_imported_component_is_not_declared_twice(component_folder: Path) -> None:
    other = put(component_folder / "d", DEFENSE)
    put(
        component_folder / "d",
        f"from defenses.{other.stem} import made\n" + DEFENSE.replace("def made", "def own"),
        "own",
    )
    registry = discover()
    assert registry.broken == []
    assert set(registry.defenses) == {"made", "own"}


def test_entry_points_bring_components_and_break_alone(component_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(component_folder, ATTACK, "foreign", file="foreign_package")
    monkeypatch.syspath_prepend(str(path.parent))
    groups = []

    def points(group: str) -> list[importlib.metadata.EntryPoint]:
        groups.append(group)
        if group == "bench.defenses":
            return [importlib.metadata.EntryPoint("gone", "no_such_package:thing", group)]
        return [
            importlib.metadata.EntryPoint("foreign", value, group)
            for value in ("foreign_package", "foreign_package:made")
        ]

    monkeypatch.setattr(importlib.metadata, "entry_points", points)
    registry = discover()
    assert groups == ["bench.defenses", "bench.attacks"]
    assert list(registry.attacks) == ["foreign"]
    assert len(registry.broken) == 1
    assert "'gone'" in registry.broken[0]
    assert "no_such_package" in registry.broken[0]


def test_a_plugin_replaces_a_component_of_the_same_name_with_a_note(component_folder: Path) -> None:
    small(component_folder)
    plugin = put(component_folder, DEFENSE, "dp")
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
def test_a_plugin_that_cannot_be_used_is_an_error(component_folder: Path, source: str | None, why: str) -> None:
    path = component_folder / "mine.py"
    if source:
        path.write_text(source)
    with pytest.raises(UserError, match=why):
        discover([path])


@pytest.mark.parametrize("where", ["d", "."])
def test_an_interrupt_while_components_load_is_raised(component_folder: Path, where: str) -> None:
    path = put(component_folder / where, "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        discover([] if where == "d" else [path])


def test_declarations_return_the_function_itself() -> None:
    def protect(private: Any, public: Any, *, seed: int) -> Any: ...
    def ask(release: Any, targets: Any, public: Any, *, seed: int) -> Any: ...
    def load(where: Any, rng: Any, *, size: int = 3) -> Any: ...

    assert defense("d", publishes=())(protect) is protect
    assert attack("a", game=MEMBERSHIP, needs=())(ask) is ask
    assert dataset("s")(load) is load
    assert Choice(load.component, {"size": 4}).label == "s,size=4"  # type: ignore[attr-defined]


def test_installed_components_load_quickly_and_without_heavy_libraries() -> None:
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
