"""Components that are never run, and stored cells with known costs, for tests of cost estimates and budgets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cells import cell as made

from bench.core.component import Choice, Kind
from bench.core.dataset import DataLocation
from bench.report import cost_estimate
from bench.runner.cell import Cell
from bench.runner.registry import Registry
from bench.runner.request import Grid, Request
from bench.runner.selection import choose
from bench.store import code_release
from bench.store.freshness import versions
from bench.store.records import CellResult
from bench.store.store import Store

PLUGIN = '''
from bench.games import MEMBERSHIP
from bench.core.component import attack, defense

@defense("shield", publishes={"predict"})
def shield(private, public, *, seed, strength=1.0):
    """A shield."""

@defense("wall", publishes={"predict"})
def wall(private, public, *, seed):
    """A wall."""

@defense("mute", publishes={"encode"})
def mute(private, public, *, seed):
    """Publishes an access that neither attack needs."""

@attack("spear", game=MEMBERSHIP, needs={"predict"})
def spear(release, targets, public, *, seed):
    """A spear."""

@attack("sling", game=MEMBERSHIP, needs={"predict"})
def sling(release, targets, public, *, seed):
    """A sling."""
'''


def grid(registry: Registry, defenses: str, attacks: str, data: str = "digits", seeds: Iterable[int] = (0,)) -> Grid:
    def selected(kind: Kind, words: str) -> tuple[Choice, ...]:
        return tuple(choice for word in words.split() for choice in choose(registry, kind, word))

    return Grid(selected("defense", defenses), selected("attack", attacks), selected("data", data), tuple(seeds))


def past(store: Store, cell: Cell, defense: float, attack: float, *, fresh: bool = False, **changed: Any) -> CellResult:
    """Store a cell with these seconds of defense and attack; with `fresh` it counts as up to date."""
    values: dict[str, Any] = {"options": cell.options, "seconds": {"defense": defense, "attack": attack}}
    if fresh:
        components = cell.data.component, cell.defense.component, cell.attack.component
        values |= {
            "digest": cell.digest(),
            "code": code_release.keep(store, components),
            "versions": versions(),
            "machine": store.machine,
        }
    data, defended, attacked, seed = cell.name
    result = made(defended, attacked, seed, data=data, **{**values, **changed})
    store.save(result)
    return result


def planned(store: Store, *grids: Grid) -> list[cost_estimate.Row]:
    return cost_estimate.make(Request(grids, store.root, DataLocation()), store)
