"""What scores that were handed in prove of models trained elsewhere: rows of the leaderboard."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from bench.core.errors import Caveat
from bench.core.files import write
from bench.store.store import SCORES, Store

RESTS_ON = {
    "beta_binomial": "every score is an independent trial",
    "clopper_pearson": "the same, with two tails in place of one",
    "gaussian_dp": "the same, and a Gaussian trade-off curve (mechanism='gaussian')",
    "one_run": "every record was included by a fair coin of its own",
}
FPRS = (0.01, 0.001)
Words = dict[str, Any]


@dataclass(frozen=True)
class ScoreRow:
    """The figures of one file. bounds: by name, {"value", "most"} or {"not_measurable": why}; headline: one of them.

    An infinite epsilon is "inf"; tpr: by false positive rate; code: digest of what computed it.
    """

    defense: str
    data: str
    attack: str
    utility: float | None
    epsilon: float | str
    delta: float
    confidence: float
    held_in: int
    held_out: int
    headline: str
    bounds: Mapping[str, Words]
    auc: Words
    tpr: Mapping[str, Words]
    code: str

    @property
    def lower(self) -> float:
        """The bound that counts."""
        return float(self.bounds[self.headline].get("value", 0.0))

    @property
    def violated(self) -> bool:
        """Whether the scores prove more than is claimed."""
        return self.lower > float(self.epsilon)


def save(found: ScoreRow, store: Store) -> Path:
    """Keep it as a row of the board, over an older one of the same defense, data and attack."""
    path = _folder(store).path(found.data, found.defense, found.attack, 0)
    write(path, json.dumps(asdict(found), sort_keys=True, indent=1, allow_nan=False).encode() + b"\n")
    return path


def every(store: Store) -> tuple[ScoreRow, ...]:
    """Every row that was kept, by data set and audited epsilon; a file that is no row is named in a Caveat."""
    found = []
    for path in sorted(_folder(store).root.rglob("*.json")):
        try:
            row = _row(json.loads(path.read_bytes()))
            if path != _folder(store).path(row.data, row.defense, row.attack, 0):
                raise ValueError("it holds the row of another file")
        except (OSError, ValueError) as error:
            warnings.warn(f"{path} is left out ({error}): delete it or run `bench score` again.", Caveat, stacklevel=2)
        else:
            found.append(row)
    return tuple(sorted(found, key=lambda row: (row.data, row.lower, row.defense, row.attack)))


def _folder(store: Store) -> Store:
    return Store(store.root / SCORES)


def _row(values: Any) -> ScoreRow:
    """Raises ValueError where the words of a file are not those of an ScoreRow."""
    if not isinstance(values, dict) or values.keys() != {field.name for field in fields(ScoreRow)}:
        raise ValueError("it does not hold the keys of a row")
    row = ScoreRow(**values)
    try:
        json.dumps(values, allow_nan=False)  # json.loads takes NaN, and 1e400 for infinity
        shown = [
            row.data,
            row.defense,
            row.attack,
            *row.bounds[row.headline],
            *(row.bounds[name] and name for name in RESTS_ON),
        ]
    except (TypeError, ValueError, KeyError, AttributeError):
        raise ValueError("a figure in it is not of its kind") from None
    if not all(isinstance(word, str) and word for word in shown):
        raise ValueError("a name in it is no word")
    return row
