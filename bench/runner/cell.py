"""A cell: one defense against one attack on one split of one data set."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bench.core.component import Choice, missing
from bench.runner.request import Grid
from bench.store.freshness import cell_digest, spell
from bench.store.store import Store


@dataclass(frozen=True)
class Cell:
    """One defense against one attack on one split of one data set."""

    data: Choice
    defense: Choice
    attack: Choice
    seed: int

    @property
    def name(self) -> tuple[str, str, str, int]:
        """The labels under which it is stored."""
        return self.data.label, self.defense.label, self.attack.label, self.seed

    @property
    def missing(self) -> tuple[str, ...]:
        """The accesses that are missing for this cell to be played."""
        return missing(self.attack.component, self.defense.component, self.data.component)

    @property
    def lacks_records(self) -> str:
        """Why its challenge cannot be drawn, as far as the sizes that its data set was given say; "" where it can."""
        game = self.attack.component.game
        if game is None:
            return ""
        # 0 of a user's file stands for a share of it: how many that is, is known once it is read.
        sizes = {name: size for name, size in self.data.settings.items() if isinstance(size, int) and size}
        lacking = game.lacks(sizes, str(self.attack.settings.get("of", "private")))
        return lacking and f"{game.name} on {self.data.label} needs at least {lacking}"

    @property
    def options(self) -> dict[str, dict[str, Any]]:
        """All options, defaults too, as values that JSON can hold."""
        parts = {"data": self.data, "defense": self.defense, "attack": self.attack}
        return {kind: {k: spell(v) for k, v in choice.settings.items()} for kind, choice in parts.items()}

    def digest(self) -> str:
        """A digest of everything that the numbers depend on, except the machine."""
        return cell_digest(
            (self.data.component, self.defense.component, self.attack.component), self.options, self.seed
        )

    def training_digest(self) -> str:
        """A digest of everything that the release of this cell depends on: the same for all attacks."""
        options = {kind: settings for kind, settings in self.options.items() if kind != "attack"}
        return cell_digest((self.data.component, self.defense.component), options, self.seed)


def playable(grids: Iterable[Grid]) -> list[Cell]:
    """Every cell of the grids that can be played, each once."""
    cells: dict[tuple[str, str, str, int], Cell] = {}
    for one in grids:
        for data, seed, defense, attack in itertools.product(one.data, one.seeds, one.defenses, one.attacks):
            cell = Cell(data, defense, attack, seed)
            if not cell.missing:
                cells.setdefault(cell.name, cell)
    return list(cells.values())


def is_stored(cell: Cell, store: Store, machine: str | None) -> bool:
    """Whether a cell is stored as measured with today's code, options and versions on this machine (None: on any)."""
    result = store.load(*cell.name)
    # A cell that came with the checkout was measured on another machine: a run measures it again on this one.
    return result is not None and machine in (None, result.machine) and result.digest == cell.digest()
