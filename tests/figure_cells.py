"""Made-up cells for the figures, stored without waiting for the disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cells import cell

from bench.report.figures import Plan
from bench.runner import cell as cells
from bench.store import read_write
from bench.store.records import CellResult
from bench.store.store import Store


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
        path.write_bytes(read_write.encode(made(one)))  # not `save`, which waits for the disk a thousand times
        if plan.sheet:
            store.save_sheet(plan.sheet(one.name), sheet(one, plan))
    return store
