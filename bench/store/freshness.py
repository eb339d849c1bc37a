"""When a stored record is fresh: the one rule, for cells, controls, lint verdicts and audit findings alike.

A record carries a digest of what it depends on: names and options, the seed, the code that its components reach
(`bench.core.source_code`) and the versions of the packages that decide numbers. It is fresh while today's is the same.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from bench.core.component import Choice, Component, Kind
from bench.core.digest import digest
from bench.core.source_code import BENCH, code_digest
from bench.store.records import CellResult

PACKAGES = (
    "tensorflow", "tensorflow-privacy", "tensorflow-datasets", "adversarial-robustness-toolbox", "dp-accounting",
    "numpy", "scipy", "scikit-learn",
)  # fmt: skip
PLAY = BENCH / "runner" / "play.py"  # trains, attacks and judges every cell


class Find(Protocol):
    """Looks a component up, as `bench.runner.registry.Registry.find` does; None where it is gone."""

    def __call__(self, kind: Kind, name: str, /) -> Component | None: ...


def spell(value: Any) -> Any:
    """An option as JSON holds it: infinity as a word, tuples as lists."""
    if isinstance(value, tuple):
        return list(value)
    return "inf" if value == float("inf") else value


@functools.cache
def versions() -> dict[str, str]:
    """Installed versions of the packages that decide numbers."""
    return {package: version(package) for package in PACKAGES}


def sources(components: Iterable[Component]) -> tuple[Path, ...]:
    """The files that components start from: their own, those of attacks' games, and the one that plays every cell."""
    components = list(components)
    games = [Path(inspect.getsourcefile(part.game.judge) or "") for part in components if part.game]
    return (PLAY, *(part.source for part in components), *games)


def cell_digest(components: tuple[Component, ...], options: Mapping[str, Any], seed: int) -> str:
    """Stands for everything that a cell's numbers depend on, but the machine. options: by kind, as JSON holds them."""
    # by way of JSON, which tells 1, 1.0 and true apart as well, and is quick where there are thousands of cells
    named = [part.name for part in components], options, seed, _code_and_versions(components)
    return digest(json.dumps(named, sort_keys=True))


@functools.cache
def _code_and_versions(components: tuple[Component, ...]) -> str:
    """Of which a process sees one state only."""
    return digest((code_digest(sources(components)), versions()))


def control_digest(attack: Choice, defense: Choice, data: Choice, setting: object) -> str:
    """Stands for all that an attack's controls depend on; setting: where it is tried."""
    code = code_digest(sources((attack.component, defense.component, data.component)), ("runner/controls.py",))
    return digest((attack.name, _settings(attack), setting, code, _of(BENCH / "runner" / "controls.py"), versions()))


def verdict_digest(defense: Choice, grounds: Iterable[Component]) -> str:
    """Stands for all that the linter's verdict on a defense depends on; grounds: the data sets that it is probed on."""
    linter = (BENCH / "lint" / "probe_data.py", *sources((defense.component, *grounds)))
    return digest((defense.name, _settings(defense), code_digest(linter, ("lint",)), versions()))


def finding_digest(defense: Choice, data: Choice, kind: str) -> str:
    """Stands for all that an audit's finding depends on but the number of trials."""
    audit = (BENCH / "audit" / "audit.py", *sources((defense.component, data.component)))
    row = (defense.name, dict(defense.settings), data.name, dict(data.settings), kind)
    return digest((row, code_digest(audit, ("audit", "lint")), versions()))


def score_digest() -> str:
    """Stands for the code that judges scores that were handed in."""
    return code_digest((BENCH / "audit" / "score_audit.py",), ("audit",))


def _of(path: Path) -> str:
    return code_digest((path,), ("runner/controls.py",))


def _settings(choice: Choice) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in choice.settings.items()}


def components(find: Find, result: CellResult) -> tuple[Component | None, ...]:
    """Data set, defense and attack of a stored result; None stands for one that is gone."""
    labels: dict[Kind, str] = {"data": result.data, "defense": result.defense, "attack": result.attack}
    return tuple(find(kind, label.partition(",")[0]) for kind, label in labels.items())


def freshness(find: Find) -> Callable[[CellResult], bool]:
    """Whether a stored result is what today's code and packages would measure; a removed component makes it stale."""

    def fresh(result: CellResult) -> bool:
        data, defense, attack = components(find, result)
        if not (data and defense and attack):
            return False
        return result.digest == cell_digest((data, defense, attack), result.options, result.seed)

    return fresh
