"""Freshness follows imports: an edit makes exactly those cells stale whose numbers it can change."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.core.source_code import BENCH, digest_of_source, imports, reached

ROOT = BENCH.parent
SCRIPT = """
import itertools, json
from bench.core.component import missing
from bench.runner.registry import discover
from bench.store.freshness import cell_digest
found = discover()
assert not found.broken, found.broken
of = itertools.product(found.data.values(), found.defenses.values(), found.attacks.values())
print(json.dumps({
    "/".join(part.name for part in parts): cell_digest(parts, {}, 0)
    for parts in of if not missing(parts[2], parts[1], parts[0])
}))
"""
Edit = Callable[[Path], None]


def digests(root: Path) -> dict[str, str]:
    """The digest of every playable cell of the components in a checkout."""
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=root, env={"PYTHONPATH": str(root)}, capture_output=True, check=True
    )
    found: dict[str, str] = json.loads(run.stdout)
    return found


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    return digests(ROOT)


@pytest.fixture
def stale(tmp_path: Path, before: dict[str, str]) -> Callable[[Edit], set[str]]:
    """Which cells an edit of a copy of the project makes stale."""

    def of(edit: Edit) -> set[str]:
        for package in ("bench", "defenses", "attacks"):
            shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
        edit(tmp_path)
        now = digests(tmp_path)
        assert now.keys() == before.keys()
        return {cell for cell in now if now[cell] != before[cell]}

    return of


def replaced(file: str, old: str, new: str) -> Edit:
    def edit(root: Path) -> None:
        text = (root / file).read_text()
        assert old in text, f"{old!r} is not in {file}"
        (root / file).write_text(text.replace(old, new))

    return edit


def moved(root: Path) -> None:
    """`bench.dp.clipping` gets another name and another package."""
    shutil.move(root / "bench/dp/clipping.py", root / "bench/models/clipped_sums.py")
    for file in root.rglob("*.py"):
        text = file.read_text().replace("from bench.dp.clipping import", "from bench.models.clipped_sums import")
        file.write_text(
            text.replace("from bench.dp import clipping", "from bench.models import clipped_sums as clipping")
        )


def reworded(root: Path) -> None:
    """Another docstring, another comment, another sentence of an error."""
    for file in ("bench/core/dataset.py", "bench/dp/clipping.py", "bench/runner/play.py", "attacks/lira.py"):
        text = (root / file).read_text()
        first = text.index('"""')
        text = text[:first] + '"""Reworded. ' + text[first + 3 :] + "\n# another comment\n"
        (root / file).write_text(text)
    replaced("bench/core/dataset.py", "repair or remove it", "mend it, or drop it")(root)


@pytest.mark.parametrize("edit", [moved, reworded])
def test_code_that_cannot_change_a_number_makes_no_cell_stale(stale: Callable[[Edit], set[str]], edit: Edit) -> None:
    assert stale(edit) == set()


def test_a_changed_constant_of_clipping_makes_everything_stale_that_trains(
    stale: Callable[[Edit], set[str]], before: dict[str, str]
) -> None:
    assert stale(replaced("bench/dp/clipping.py", "ROUNDING = ", "ROUNDING = 2 * ")) == set(before)


def test_a_changed_component_makes_only_its_cells_stale(
    stale: Callable[[Edit], set[str]], before: dict[str, str]
) -> None:
    def edit(root: Path) -> None:
        replaced("attacks/lira.py", "MANY = 64", "MANY = 65")(root)
        data = root / "bench/data/sets/randhie.py"
        data.write_text(data.read_text() + "\n\nCHANGED = 1\n")

    found = stale(edit)
    assert found == {cell for cell in before if cell.endswith("/lira") or cell.startswith("randhie/")}
    assert 0 < len(found) < len(before) / 2


def test_store_and_report_code_counts_for_no_cell() -> None:
    for package in ("store", "report", "cli", "lint", "audit", "conformance"):
        assert not any(path.is_relative_to(BENCH / package) for path in reached([BENCH / "runner/play.py"]))


def test_a_name_is_followed_through_the_package_that_exports_it_to_where_it_is_made() -> None:
    found = imports(ROOT / "attacks/confidence.py")
    assert BENCH / "games/membership.py" in found
    assert not {BENCH / "games/inversion.py", BENCH / "games/__init__.py"} & found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("import a\nx = 1", "from b import a\nx = 1"),
        ("x = 1  # one", "x = 1  # two"),
        ('def f():\n    """One."""\n    return 1', 'def f():\n    """Two."""\n    return 1'),
        ("def f(x: int) -> int:\n    return x", "def f(x: float) -> float:\n    return x"),
        ('def f(x):\n    raise ValueError(f"{x} is wrong")', 'def f(x):\n    raise ValueError("wrong")'),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a\nx = 1", "x = 1"),
    ],
)
def test_sources_that_do_the_same_have_one_digest(one: str, other: str) -> None:
    assert digest_of_source(one.encode()) == digest_of_source(other.encode())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 2"),
        ('x = "one"', 'x = "two"'),
        ("def f(x=1):\n    return x", "def f(x=2):\n    return x"),
        ("class A:\n    x: int", "class A:\n    pass"),
        ("def f(x):\n    raise ValueError(x + 1)", "def f(x):\n    raise ValueError(x + 2)"),
        ("def f(x):\n    raise ValueError(x)", "def f(x):\n    raise TypeError(x)"),
        ("if x:\n    import a\n    y = 1", "if x:\n    import a\n    y = 2"),
    ],
)
def test_sources_that_do_another_thing_have_another(one: str, other: str) -> None:
    assert digest_of_source(one.encode()) != digest_of_source(other.encode())
