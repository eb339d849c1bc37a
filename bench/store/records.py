"""What is stored, as typed records."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np

SCHEMA = 3
_NUMBERS = frozenset({int, float})
_DIGITS = 300  # of whole numbers that every float can hold
_KINDS: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "float": (int, float),
    "Sequence[str]": (list,),
    "Mapping[str, Any]": (dict,),
}
# The table reads these without asking, so a file edited by hand must not lack one.
_PARTS: Mapping[str, tuple[set[str], ...]] = {
    "options": ({"data", "defense", "attack"},),
    "utility": ({"accuracy", "n"}, {"not_measurable"}),
    "privacy": ({"epsilon", "epsilon_rdp", "epsilon_selected", "delta", "relation", "sampler", "public_knowledge"},),
    "seconds": ({"defense", "attack"},),
}


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """One cell: what was run, under which code, and what came out. Numbers are finite; an infinite epsilon is "inf"."""

    data: str
    defense: str
    attack: str
    game: str
    seed: int
    options: Mapping[str, Any]
    digest: str
    code: str
    versions: Mapping[str, Any]
    machine: str
    device: str
    utility: Mapping[str, Any]
    privacy: Mapping[str, Any]
    metrics: Mapping[str, Any]
    seconds: Mapping[str, Any]
    peak_memory_mib: float
    caveats: Sequence[str]
    reproducible: bool = True
    schema: int = SCHEMA

    def to_json(self) -> bytes:
        """Strict JSON. Raises ValueError on what from_json would refuse, so that no such file is ever written."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        text = json.dumps(values, sort_keys=True, indent=1, allow_nan=False, default=_plain)
        data = text.encode() + b"\n"
        CellResult.from_json(data)
        return data

    @classmethod
    def from_json(cls, data: bytes) -> CellResult:
        """The result in a file. Raises ValueError, saying why, unless it has all keys, no other and the right types."""
        try:
            values = json.loads(
                data.decode(),
                object_pairs_hook=_no_twins,
                parse_constant=_finite,
                parse_float=_finite,
                parse_int=_whole,
            )
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        if not isinstance(values, dict):
            raise ValueError("it is not an object")
        if type(values.get("schema")) is not int or values["schema"] != SCHEMA:
            raise ValueError(f"its schema is {values.get('schema')!r}, not {SCHEMA}")
        kinds = _fields()
        _same_keys("it", values, (kinds.keys(),))
        for name, kind in kinds.items():
            value = values[name]
            if type(value) not in _KINDS[kind]:
                raise ValueError(f"{name} is a {type(value).__name__}, not a {kind}")
            if name in _PARTS:
                _same_keys(name, value, _PARTS[name])
        if not all(values[name] for name in ("data", "defense", "attack")):
            raise ValueError("it does not name its data, defense and attack")
        if not all(type(caveat) is str for caveat in values["caveats"]):
            raise ValueError("doubts holds something else than sentences")
        _check_figures(values)
        return cls(**values)


def _number(value: object) -> bool:
    return type(value) in _NUMBERS


def _check_figures(values: Mapping[str, Any]) -> None:
    """Raise ValueError where what the board and the pictures read of a cell is not of its kind."""
    metrics = values["metrics"]
    if type(metrics.get("headline")) is not str or not _number(metrics.get("chance")):
        raise ValueError("metrics do not say which of them is the headline, or what it is by chance")
    figures = {name: figure for name, figure in metrics.items() if isinstance(figure, dict) and name != "roc"}
    for name in (metrics["headline"], "gain", "baseline"):
        figures.setdefault(name, metrics.get(name))
    if "accuracy" in values["utility"]:
        figures["accuracy"] = values["utility"]["accuracy"]
    for name, figure in figures.items():
        parts = (figure.get("value"), figure.get("low"), figure.get("high")) if isinstance(figure, dict) else (None,)
        measured = _NUMBERS.issuperset(map(type, parts))
        if not measured and not (isinstance(figure, dict) and type(figure.get("not_measurable")) is str):
            raise ValueError(f"{name} is neither a figure with its interval nor not_measurable")
        if measured and not -1 <= figure["value"] <= 1:
            raise ValueError(f"{name} is {figure['value']}, outside of what a rate can be")
    roc = metrics.get("roc", {"fp": [], "tp": []})
    curves = [roc.get(key) for key in ("fp", "tp")] if isinstance(roc, dict) else [None]
    if not all(isinstance(curve, list) and set(map(type, curve)) <= _NUMBERS for curve in curves):
        raise ValueError("roc does not hold the counts fp and tp")
    privacy = values["privacy"]
    claims = [privacy[name] for name in ("epsilon", "epsilon_selected")]
    if not all(_number(claim) or claim == "inf" for claim in claims) or not _number(privacy["delta"]):
        raise ValueError("privacy holds an epsilon or a delta that is no number")
    public_knowledge = privacy["public_knowledge"]
    if not (isinstance(public_knowledge, list) and all(type(fact) is str for fact in public_knowledge)):
        raise ValueError("assumes holds something else than sentences")


@cache
def _fields() -> Mapping[str, str]:
    return {field.name: str(field.type) for field in fields(CellResult)}


def _same_keys(what: str, values: Mapping[str, Any], allowed: tuple[Set[str], ...]) -> None:
    if values.keys() not in allowed:
        wrong = sorted(values.keys() ^ allowed[0])
        raise ValueError(f"{what} must hold exactly {', '.join(sorted(allowed[0]))}; wrong: {', '.join(wrong)}")


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key occurs twice")  # json keeps the last one silently
    return values


def _finite(text: str) -> float:
    value = float(text)  # json takes NaN and Infinity for numbers, and reads 1e400 as inf
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is not a finite number")
    return value


def _whole(text: str) -> int:
    if len(text) > _DIGITS:  # the others need no second look, and there are hundreds of them in a cell
        _finite(text)
    return int(text)


def _plain(value: object) -> object:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} cannot be stored in a result")
