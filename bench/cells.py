"""What a cell's result depends on, and so when a stored result is fresh."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.registry import Choice, Component, Crossing, Registry, missing
from bench.store import Result, digest, source_digest

HERE = Path(__file__).parent
# What decides every number. Rooms that only read, draw or parse are left out, so that editing them makes nothing stale.
SCIENCE = (
    "__init__", "accounting", "cells", "classifier", "clipping", "data", "engine", "games/game",
    "layers", "metrics", "nets", "optimizer", "pictures", "randomness", "release", "runner", "sources", "training",
)  # fmt: skip
# Rooms that decide no number; any other room of the bench counts for those components that import it.
PLAIN = (
    "board", "card", "checkout", "choosing", "cli", "comparing", "component", "config", "drawing", "errors",
    "exposed", "figures/__init__", "figures/attacks", "figures/curves", "figures/page", "figures/pictures",
    "figures/plan", "games/__init__", "listing", "measuring", "plot", "progress", "reading", "registry", "standing",
    "store", "table",
)  # fmt: skip
PACKAGES = (
    "tensorflow", "tensorflow-privacy", "tensorflow-datasets", "adversarial-robustness-toolbox", "dp-accounting",
    "numpy", "scipy", "scikit-learn",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One defense against one attack on one split of one data set."""

    data: Choice
    defense: Choice
    attack: Choice
    seed: int

    @property
    def name(self) -> tuple[str, str, str, int]:
        """The labels that the store files it under."""
        return self.data.label, self.defense.label, self.attack.label, self.seed

    @property
    def missing(self) -> tuple[str, ...]:
        """The accesses for want of which this cell cannot be played."""
        return missing(self.attack.component, self.defense.component, self.data.component)

    @property
    def options(self) -> dict[str, dict[str, Any]]:
        """All options, defaults too, in words that survive JSON."""
        parts = {"data": self.data, "defense": self.defense, "attack": self.attack}
        return {kind: {k: _spell(v) for k, v in choice.settings.items()} for kind, choice in parts.items()}

    def digest(self) -> str:
        """Stands for everything that the numbers depend on, but the machine."""
        components = (self.data.component, self.defense.component, self.attack.component)
        return _digest([part.name for part in components], self.options, self.seed, code(*components))


def asked(crossings: Iterable[Crossing]) -> list[Cell]:
    """Every playable cell of the crossings, each once."""
    found: dict[tuple[str, str, str, int], Cell] = {}
    for one in crossings:
        for data, seed, defense, attack in itertools.product(one.data, one.seeds, one.defenses, one.attacks):
            cell = Cell(data, defense, attack, seed)
            if not cell.missing:
                found.setdefault(cell.name, cell)
    return list(found.values())


def _spell(value: Any) -> Any:
    """Options as JSON holds them: infinity as a word, tuples as lists."""
    if isinstance(value, tuple):
        return list(value)
    return "inf" if value == float("inf") else value


def _digest(names: list[str], options: Mapping[str, Any], seed: int, files: Mapping[str, str]) -> str:
    return digest((names, options, seed, dict(files), versions()))


def code(*components: Component) -> dict[str, str]:
    """Digests of the files that decide a cell, by file name; comments and layout do not count."""
    files = {f"bench/{name}.py": HERE / f"{name}.py" for name in SCIENCE}
    where = {part: "bench" if part.source.parent == HERE else part.kind for part in components}
    files |= {f"{where[part]}/{part.source.name}": part.source for part in components}
    games = [Path(inspect.getsourcefile(part.game.judge) or "") for part in components if part.game]
    files |= {f"game/{path.name}": path for path in games}
    for path in list(files.values()):
        files |= {f"bench/{name}.py": HERE / f"{name}.py" for name in _rooms(path)}
    return {name: source_digest(path) for name, path in sorted(files.items())}


def _rooms(path: Path) -> set[str]:
    """Rooms of the bench besides SCIENCE that decide what a file computes: those that it imports, and they in turn."""
    found: set[str] = set()
    ahead = [path]
    while ahead:
        new = _imports(ahead.pop()) - found
        found |= new
        ahead += [HERE / f"{name}.py" for name in new]
    return found


@functools.cache
def _imports(path: Path) -> frozenset[str]:
    named: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "bench":
            named |= {f"{node.module}.{name.name}" for name in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            named |= {name.name for name in node.names if name.name.startswith("bench.")}
    rooms = {name.removeprefix("bench.").replace(".", "/") for name in named} - {*SCIENCE, *PLAIN}
    return frozenset(name for name in rooms if (HERE / f"{name}.py").is_file())


@functools.cache
def versions() -> dict[str, str]:
    """Installed versions of the packages that decide numbers."""
    return {package: version(package) for package in PACKAGES}


def freshness(registry: Registry) -> Callable[[Result], bool]:
    """Whether a stored result is what today's code and packages would be asked for; a gone component makes it stale."""

    def fresh(result: Result) -> bool:
        kinds = {"data": result.data, "defense": result.defense, "attack": result.attack}
        components = [registry.find(kind, label.partition(",")[0]) for kind, label in kinds.items()]  # type: ignore[arg-type]
        if None in components:
            return False
        found = [component for component in components if component]
        return result.digest == _digest([c.name for c in found], result.options, result.seed, code(*found))

    return fresh
