"""Synthetic cells for tests of code that only reads cells."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bench.store.records import CellResult

NEEDED = 1000


def interval(value: float, se: float) -> dict[str, float]:
    low, high = max(-1.0, value - 1.959964 * se), min(1.0, value + 1.959964 * se)
    return {"value": value, "low": low, "high": high, "se": se}


def cell(
    defense: str = "none",
    attack: str = "confidence",
    seed: int = 0,
    *,
    data: str = "digits",
    auc: float = 0.6,
    se: float = 0.01,
    gain: float | None = None,
    baseline: float = 0.5,
    utility: float = 0.9,
    epsilon: float = math.inf,
    caveats: tuple[str, ...] = (),
    public_knowledge: tuple[str, ...] = ("number of private records",),
    game: str = "membership",
    **changed: Any,
) -> CellResult:
    """A cell with the ROC of two unit Gaussians with this AUC. Long because it lists every key of a measured cell."""
    members, others = 1000, 500
    tpr = {
        "value": 0.02, "low": 0.01, "high": 0.03, "fpr": 0.008, "fpr_low": 0.002, "fpr_high": 0.02,
        "true_positives": 20, "members": members, "false_positives": 4, "non_members": others,
    }  # fmt: skip
    fp = np.unique(np.round(np.geomspace(1, others, 60))).astype(int)
    tp = np.minimum(members, np.round(members * (fp / others) ** ((1 - auc) / auc))).astype(int)
    metrics: dict[str, Any] = {
        "headline": "auc",
        "chance": 0.5,
        "auc": interval(auc, se),
        "balanced_accuracy": interval(0.5 + (auc - 0.5) / 1.5, se),
        "advantage": interval((auc - 0.5) / 0.75, 2 * se),
        "baseline": interval(baseline, se),
        "gain": interval(auc - baseline if gain is None else gain, se),
        "tpr_at_fpr_0.01": tpr,
        "tpr_at_fpr_0.001": {"not_measurable": f"{others} non-members; {NEEDED * 10} are needed"},
        "members": members,
        "non_members": others,
        "roc": {"fp": fp.tolist(), "tp": tp.tolist()},
    }
    budget: float | str = "inf" if math.isinf(epsilon) else epsilon
    values: dict[str, Any] = {
        "data": data,
        "defense": defense,
        "attack": attack,
        "game": game,
        "seed": seed,
        "options": {"data": {}, "defense": {}, "attack": {}},
        "digest": "0" * 32,
        "code": "",
        "versions": {},
        "machine": "1" * 32,
        "device": "CPU",
        "utility": {
            "accuracy": {"value": utility, "low": max(0.0, utility - 0.02), "high": min(1.0, utility + 0.02)},
            "n": 500,
        },
        "privacy": {
            "epsilon": budget,
            "epsilon_rdp": budget,
            "epsilon_selected": budget,
            "delta": 1e-5,
            "relation": "add/remove one record",
            "sampler": "none" if math.isinf(epsilon) else "Poisson, rate 0.1, 300 steps, noise multiplier 1.9",
            "public_knowledge": list(public_knowledge),
        },
        "metrics": metrics,
        "seconds": {"defense": 1.25, "attack": 0.1},
        "peak_memory_mib": 512.5,
        "caveats": list(caveats),
    }
    return CellResult(**{**values, **changed})
