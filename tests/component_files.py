"""Component files written into empty packages `defenses` and `attacks`, for tests of the registry."""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import attacks as attacks_package
import defenses as defenses_package
from bench.runner.registry import Registry, discover

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
    '''Scores nothing.'''
"""


@pytest.fixture
def component_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose `d` and `a` replace the packages `defenses` and `attacks`; no entry points."""
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
    """Write a component file under an unused module name."""
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
