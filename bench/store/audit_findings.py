"""What audits of our own defenses found, one file a row: results/audits/<data>/<defense>.json. No TensorFlow here."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.errors import Caveat
from bench.core.files import write
from bench.store.store import AUDITS, Store

if TYPE_CHECKING:
    pass

ERROR = 0.05  # of all audits of a row together
KINDS = {"one_step": "one step", "whole": "whole training", "black_box": "black box"}
RESTS_ON = {
    "one_step": "independent Gaussian noise of one size in every step, and sampling as it is accounted",
    "whole": "nothing but that trainings are independent",
    "black_box": "nothing but that releases are independent",
}
SHARED = tuple(range(1, len(KINDS) + 1))  # so many audits of a row may share its 5 %


@dataclass(frozen=True)
class Finding:
    """What one kind of audit found of a row, claimed `epsilon` ("inf" for infinity) and `delta`.

    lower: bounds on epsilon by how many audits of the row share 5 % of error, 1, 2, ...; most: the same of a perfect
    attack on as many trials. parts: what was tried; of one step also the account and the least `mu`, as `lower` is.
    """

    kind: str
    epsilon: float | str
    delta: float
    lower: Sequence[float]
    most: Sequence[float]
    trials: int
    parts: Sequence[Mapping[str, Any]]
    seconds: float
    digest: str

    def violated(self, shared: int) -> bool:
        """Whether more is proved than is claimed, of the whole or of one step."""
        steps = (part["mu"][shared - 1] * part["noise_multiplier"] for part in self.parts if "mu" in part)
        return self.lower[shared - 1] > float(self.epsilon) or any(step > 1 + 1e-9 for step in steps)


@dataclass(frozen=True)
class Audited:
    """All findings of a row, by kind."""

    defense: str
    data: str
    findings: Mapping[str, Finding]


def path(store: Store, data: str, defense: str) -> Path:
    """Where the audits of a row are or will be."""
    folder = store.path(data, defense, "-", 0).parent.parent
    return store.root / AUDITS / folder.parent.name / f"{folder.name}.json"


def save(store: Store, defense: str, data: str, finding: Finding) -> Path:
    """Keep a finding beside those of the other kinds, over an older one of its own."""
    place = path(store, data, defense)
    known = load(store, data, defense)
    findings = {**(known.findings if known else {}), finding.kind: finding}
    row = {
        "defense": defense,
        "data": data,
        "reproducible": "every trial is seeded: the noise of none is private to whoever knows the seed",
        # What a perfect attack proves of hundreds of uses the accountant may call infinite, which JSON has no word for.
        "findings": {
            kind: asdict(one) | {"most": ["inf" if bound == math.inf else bound for bound in one.most]}
            for kind, one in findings.items()
        },
    }
    write(place, json.dumps(row, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n")
    return place


def load(store: Store, data: str, defense: str) -> Audited | None:
    """What is stored of a row; None where there is nothing or, with a Caveat, nothing that can be read."""
    return _read(path(store, data, defense))


def every(store: Store) -> list[Audited]:
    """Every row that was audited, by data set and defense."""
    found = [row for file in sorted((store.root / AUDITS).rglob("*.json")) if (row := _read(file))]
    return sorted(found, key=lambda row: (row.data, row.defense))


def _read(file: Path) -> Audited | None:
    try:
        values = json.loads(file.read_bytes())
        findings = {kind: _finding(kind, one) for kind, one in values["findings"].items()}
        return Audited(str(values["defense"]), str(values["data"]), findings)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        warnings.warn(f"{file} is left out ({error}): delete it or run `bench audit` again.", Caveat, stacklevel=3)
        return None


def _finding(kind: str, values: Any) -> Finding:
    """Raises ValueError, or what Python raises, where a file does not hold a finding."""
    if not isinstance(values, dict) or values.keys() != {field.name for field in fields(Finding)}:
        raise ValueError("it does not hold the keys of a finding")
    found = Finding(**{**values, "most": [math.inf if bound == "inf" else bound for bound in values["most"]]})
    numbers = [*found.lower, *(one for one in found.most if one != math.inf), found.delta, found.trials, found.seconds]
    sized = len(found.lower) == len(found.most) == len(SHARED)
    if kind != found.kind or kind not in KINDS or not sized or not all(map(math.isfinite, numbers)):
        raise ValueError("a figure in it is not of its kind")
    for shared in SHARED:
        found.violated(shared)
    return found
