"""Synthetic cells of the figures, stored without fsync."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cells import cell
from conftest import components

from bench.cli.figure import planned as requested
from bench.cli.main import main
from bench.cli.options import SETTINGS
from bench.report.figures import FIGURES, Plan, Point
from bench.report.figures.plan import points
from bench.runner import cell as cells
from bench.store import read_write
from bench.store.records import CellResult
from bench.store.store import Store

NAMES = list(FIGURES)
DRAWS = '''
import numpy as np
from dp_accounting import NonPrivateDpEvent
from bench.core.dataset import Examples
from bench.games import MEMBERSHIP
from bench.core.component import attack, defense
from bench.core.release import Release

@defense("draws", publishes={"predict", "generate"})
def draws(private, public, *, seed, epsilon=8.0):
    """Generates uniform pictures, one grey per class."""
    def generate(n, seed):
        y = np.arange(n) % 10
        return Examples(np.ones((n, *private.shape), np.float32) * (y / 10)[:, None, None, None], y, 10)
    return Release(NonPrivateDpEvent(), predict=lambda x: np.full((len(x), 10), 0.1), generate=generate)
'''


def made(one: cells.Cell, **changed: Any) -> CellResult:
    """A cell as the runner would store it, with numbers that depend on its labels and seed."""
    number = sum(map(ord, "".join(one.name[:3]))) % 97 / 400
    game = one.attack.component.game
    assert game is not None
    given: dict[str, Any] = {
        "data": one.data.label, "game": game.name, "utility": 0.5 + number + one.seed / 50, "auc": 0.55 + number,
        "epsilon": float(one.defense.settings.get("epsilon", "inf")),  # type: ignore[arg-type]
        "digest": one.digest(), "options": one.options,
    }  # fmt: skip
    return cell(one.defense.label, one.attack.label, one.seed, **{**given, **changed})


def sheet(one: cells.Cell, plan: Plan) -> dict[str, Any]:
    rng = np.random.default_rng(sum(map(ord, one.defense.label)))
    rows = [f"class {i}" for i in range(3)] if plan.name == "samples" else ["true", "reconstructed", "baseline"]
    return {row: rng.integers(0, 256, (5, 8, 8, 1)).astype(np.uint8) for row in rows}


def keep(root: Path, plan: Plan, some: Sequence[cells.Cell]) -> Store:
    store = Store(root)
    for one in some:
        path = store.path(*one.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(read_write.encode(made(one)))  # not `save`, which calls fsync for each cell
        if plan.sheet:
            store.save_sheet(plan.sheet(one.name), sheet(one, plan))
    return store


def planned(plan: Plan, **flags: Any) -> list[cells.Cell]:
    """The cells of a figure for its default seeds, or for those of the flags."""
    return cells.playable(requested(components(), plan, {**dict.fromkeys(SETTINGS), **flags}).grids)


def drawn(store: Store, *words: str) -> int:
    return main(["figure", *words, "--draw-only", "--results", str(store.root)])


def whole(plan: Plan, some: Sequence[cells.Cell], store: Store) -> list[Point]:
    found, left = points(plan, some, store, lambda result: True)
    assert not left
    return found
