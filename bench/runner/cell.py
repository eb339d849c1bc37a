"""What a cell's result depends on, and so when a stored result is fresh."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.core.component import Choice, Component, Kind, missing
from bench.runner.registry import Crossing, Registry
from bench.store.store import Result, Store, digest, source_digest

HERE = Path(__file__).parent
# What decides every number. Rooms that only read, draw or parse are left out, so that editing them makes nothing stale.
SCIENCE = (
    "__init__", "accounting", "cells", "classifier", "clipping", "data", "engine", "games/game",
    "layers", "metrics", "nets", "optimizer", "pictures", "randomness", "release", "runner", "sources", "training",
)  # fmt: skip
# Rooms that decide no number; any other room of the bench counts for those components that import it.
PLAIN = (
    "board", "budget", "card", "checkout", "choosing", "cli", "comparing", "component", "config", "drawing", "errors",
    "exposed", "figures/__init__", "figures/attacks", "figures/curves", "figures/page", "figures/pictures",
    "figures/plan", "games/__init__", "listing", "measuring", "plan", "plot", "progress", "reading", "registry",
    "standing", "store", "table", "why",
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
        return {kind: {k: spell(v) for k, v in choice.settings.items()} for kind, choice in parts.items()}

    def digest(self) -> str:
        """Stands for everything that the numbers depend on, but the machine."""
        return _digest((self.data.component, self.defense.component, self.attack.component), self.options, self.seed)

    def training_digest(self) -> str:
        """Stands for what the release of this cell depends on: the same, whatever attacks it."""
        options = {kind: settings for kind, settings in self.options.items() if kind != "attack"}
        return _digest((self.data.component, self.defense.component), options, self.seed)


def asked(crossings: Iterable[Crossing]) -> list[Cell]:
    """Every playable cell of the crossings, each once."""
    found: dict[tuple[str, str, str, int], Cell] = {}
    for one in crossings:
        for data, seed, defense, attack in itertools.product(one.data, one.seeds, one.defenses, one.attacks):
            cell = Cell(data, defense, attack, seed)
            if not cell.missing:
                found.setdefault(cell.name, cell)
    return list(found.values())


def stored(cell: Cell, store: Store, machine: str | None) -> bool:
    """Whether a cell is done: measured with today's code, options and versions on this machine (None: on any)."""
    result = store.load(*cell.name)
    # A cell that came with the checkout was measured elsewhere: whoever runs the bench wants to see it measured here.
    return result is not None and machine in (None, result.machine) and result.digest == cell.digest()


def spell(value: Any) -> Any:
    """An option as JSON holds it: infinity as a word, tuples as lists."""
    if isinstance(value, tuple):
        return list(value)
    return "inf" if value == float("inf") else value


def _digest(components: tuple[Component, ...], options: Mapping[str, Any], seed: int) -> str:
    # by way of JSON, which tells 1, 1.0 and true apart as well, and is quick where there are thousands of cells
    named = [part.name for part in components], options, seed, _stamp(components)
    return digest(json.dumps(named, sort_keys=True))


@functools.cache
def _stamp(components: tuple[Component, ...]) -> str:
    """Code and versions, of which a process sees one state only."""
    return digest((code(*components), versions()))


@functools.cache
def code(*components: Component) -> Mapping[str, str]:
    """Digests of the files that decide a cell, by file name; comments and layout do not count."""
    files = {f"bench/{name}.py": HERE / f"{name}.py" for name in SCIENCE}
    where = {part: "bench" if part.source.parent == HERE else part.kind for part in components}
    files |= {f"{where[part]}/{part.source.name}": part.source for part in components}
    games = [Path(inspect.getsourcefile(part.game.judge) or "") for part in components if part.game]
    files |= {f"game/{path.name}": path for path in games}
    for path in list(files.values()):
        files |= {f"bench/{name}.py": HERE / f"{name}.py" for name in _rooms(path)}
    return MappingProxyType({name: source_digest(path) for name, path in sorted(files.items())})


@functools.cache
def _rooms(path: Path) -> frozenset[str]:
    """Rooms of the bench besides SCIENCE that decide what a file computes: those that it imports, and they in turn."""
    found: set[str] = set()
    ahead = [path]
    while ahead:
        new = _imports(ahead.pop()) - found
        found |= new
        ahead += [HERE / f"{name}.py" for name in new]
    return frozenset(found)


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


def components(registry: Registry, result: Result) -> tuple[Component | None, ...]:
    """Data set, defense and attack of a stored result; None stands for one that is gone."""
    labels: dict[Kind, str] = {"data": result.data, "defense": result.defense, "attack": result.attack}
    return tuple(registry.find(kind, label.partition(",")[0]) for kind, label in labels.items())


def freshness(registry: Registry) -> Callable[[Result], bool]:
    """Whether a stored result is what today's code and packages would be asked for; a gone component makes it stale."""

    def fresh(result: Result) -> bool:
        data, defense, attack = components(registry, result)
        if not (data and defense and attack):
            return False
        return result.digest == _digest((data, defense, attack), result.options, result.seed)

    return fresh
