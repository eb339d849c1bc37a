"""What scores that were handed in prove of models trained elsewhere: rows of the leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.store.records import FPRS, SCORES, ScoreRow
from bench.store.records import SCORE_BOUNDS as RESTS_ON
from bench.store.store import Store

__all__ = ["FPRS", "RESTS_ON", "ScoreRow", "Words", "every", "save"]

Words = dict[str, Any]


def save(found: ScoreRow, store: Store) -> Path:
    """Keep it as a row of the board, over an older one of the same defense, data and attack."""
    return store.save(found)


def every(store: Store) -> tuple[ScoreRow, ...]:
    """Every row that was kept, by data set and audited epsilon; a damaged file is named in a Caveat."""
    found = store.every(ScoreRow, SCORES, 3)
    return tuple(sorted(found, key=lambda row: (row.data, row.lower, row.defense, row.attack)))
