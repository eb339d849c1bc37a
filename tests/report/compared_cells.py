"""Cells with scores, stored with the answers that pair them."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec.structs import replace

from bench.games import metrics, paired
from bench.store.records import CellResult
from bench.store.store import Store
from tests.cells import cell


def scores(rng: np.random.Generator, member: Any, shift: float) -> Any:
    return rng.normal(size=len(member)) + shift * member


def measured(store: Store, defense: str, seed: int, answer: Any, member: Any, **changed: Any) -> CellResult:
    """Store a cell with the AUC of these scores, and the answers from which it is computed."""
    made = cell(defense, seed=seed, **changed)
    result = replace(made, metrics={**made.metrics, "auc": metrics.auc(answer, member)}, digest=f"{defense}{seed}")
    store.save(result)
    correct = np.arange(500) < round(500 * made.utility["accuracy"]["value"])
    answers = paired.auc_units(answer, member) | {"correct": correct}
    store.save_answers((result.data, defense, result.attack, seed), answers)
    return result
