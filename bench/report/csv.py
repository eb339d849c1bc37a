"""The leaderboard as leaderboard.csv: one line per cell and seed, with every number of its JSON file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.core.files import write_if_changed
from bench.report.wording import AUDITED

if TYPE_CHECKING:
    from bench.report.epsilon_column import Claim
    from bench.report.leaderboard import Leaderboard
    from bench.store.records import CellResult
    from bench.store.store import Store


def write(board: Leaderboard, store: Store) -> None:
    """Write leaderboard.csv, where it changed."""
    records = [_record(result, fresh, board.claim(result.data, result.defense)) for result, fresh in board.results]
    write_if_changed(store.root / "leaderboard.csv", _lines(records).encode(errors="backslashreplace"))


def _record(result: CellResult, fresh: bool, claim: Claim) -> dict[str, Any]:
    """One cell and seed, flat: a column is named by its path in the JSON."""
    record: dict[str, Any] = {
        "data": result.data,
        "game": result.game,
        "defense": result.defense,
        "attack": result.attack,
        "seed": result.seed,
        "state": "fresh" if fresh else "stale",
    }
    for key in ("utility", "privacy", "metrics", "seconds"):
        _flatten(key, getattr(result, key), record)
    record[AUDITED] = claim.audited
    record["peak_memory_mib"] = result.peak_memory_mib
    record["device"] = result.device
    record["caveats"] = "; ".join(result.caveats)
    record["digest"] = result.digest
    return record


def _flatten(path: str, values: Mapping[str, Any], record: dict[str, Any]) -> None:
    for key, value in values.items():
        name = f"{path}.{key}"
        if type(value) is dict:  # as JSON has them: this line runs hundreds of thousands of times
            if name != "metrics.roc":  # a curve is no number; the JSON and the plots hold it
                _flatten(name, value, record)
        else:
            record[name] = "; ".join(map(str, value)) if type(value) in (list, tuple) else value


def _lines(records: Sequence[Mapping[str, Any]]) -> str:
    columns: dict[str, None] = {}
    for record in records:
        columns.update(dict.fromkeys(record))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(map(record.get, columns) for record in records)
    return text.getvalue()
