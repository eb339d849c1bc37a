"""A file of scores that somebody hands in: an .npz, checked to its last entry; nothing in it is ever unpickled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.arrays import BadArrays, read_arrays
from bench.core.errors import UserError, suggest

WORDS = ("defense", "data", "attack", "mechanism")
NUMBERS = ("epsilon", "delta", "utility")
PAIRS = (("in", "out"), ("scores", "member"), ("scores", "included"))
DELTA = 1e-5
UNSAID = "unnamed"  # data or attack
LONGEST = 100  # letters of a name


@dataclass(frozen=True)
class Scores:
    """Scores (n,), larger = more member; member: bool (n,); and what is claimed of the mechanism that they attack.

    coins: each record was included in one training by an independent fair coin; otherwise every score is an independent
    trial. gaussian: the mechanism is stated to have a Gaussian trade-off curve. utility: an accuracy, if one was given.
    """

    defense: str
    data: str
    attack: str
    scores: NDArray[Any]
    member: NDArray[Any]
    coins: bool
    epsilon: float
    delta: float
    gaussian: bool
    utility: float | None


def load(path: Path) -> Scores:
    """The scores in an .npz. Raises UserError, one sentence, on whatever is wrong with it."""
    arrays = _arrays(path)
    found = _pair(path, arrays)
    words = {name: _word(path, name, arrays[name]) for name in WORDS if name in arrays}
    mechanism = words.pop("mechanism", "")
    if mechanism not in ("", "gaussian"):
        raise UserError(f"{path}: `mechanism` may be 'gaussian' or be left out, but is {mechanism!r}.")
    numbers = {name: _number(path, name, arrays[name]) for name in NUMBERS if name in arrays}
    epsilon, delta, utility = numbers.get("epsilon", math.inf), numbers.get("delta", DELTA), numbers.get("utility")
    for name, value, right in (
        ("epsilon", epsilon, epsilon >= 0),
        ("delta", delta, 0 <= delta < 1),
        ("utility", utility, utility is None or 0 <= utility <= 1),
    ):
        if not right:
            must = {"epsilon": "0 or more", "delta": "from 0 to below 1", "utility": "from 0 to 1"}[name]
            raise UserError(f"{path}: `{name}` is {value}, but must be {must}.")
    scores, member, coins = found
    name, data, attack = words.get("defense", path.stem), words.get("data", UNSAID), words.get("attack", UNSAID)
    return Scores(name, data, attack, scores, member, coins, epsilon, delta, bool(mechanism), utility)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All that the file holds, by name."""
    if not path.is_file():
        raise UserError(f"there is no file {path}: correct its name.")
    known = {name for pair in PAIRS for name in pair} | {*WORDS, *NUMBERS}
    try:
        arrays = read_arrays(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): make it readable.") from None
    except BadArrays as error:
        if not error.name:
            raise UserError(f"{path} cannot be read ({error}): write it with numpy.savez.") from None
        if error.name not in known:
            raise UserError(f"{path}: nothing here is called {error.name!r}: {suggest(error.name, known)}") from None
        raise UserError(
            f"{path}: {error.name!r} cannot be read ({error}): store an array of numbers or a word."
        ) from None
    for name in arrays.keys() - known:
        raise UserError(f"{path}: nothing here is called {name!r}: {suggest(name, known)}")
    return arrays


def _pair(path: Path, arrays: dict[str, NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any], bool]:
    """Scores, member and coins, of whichever pair of arrays the file holds."""
    named = {name for pair in PAIRS for name in pair} & arrays.keys()
    pair = next((pair for pair in PAIRS if set(pair) == named), None)
    if pair is None:
        wanted = ", or ".join(f"`{a}` and `{b}`" for a, b in PAIRS)
        raise UserError(f"{path} must hold {wanted}, but of these it has {', '.join(sorted(named)) or 'none'}.")
    first, second = arrays[pair[0]], arrays[pair[1]]
    if pair == ("in", "out"):
        members, others = _scores(path, "in", first), _scores(path, "out", second)
        member = np.arange(len(members) + len(others)) < len(members)
        scores = np.concatenate([members, others])
    else:
        scores, member = _scores(path, "scores", first), _truth(path, pair[1], second)
        if len(scores) != len(member):
            raise UserError(f"{path} holds {len(scores)} scores but {len(member)} entries of `{pair[1]}`: one a score.")
    n = int(member.sum())
    if min(n, len(member) - n) < 2:
        raise UserError(f"{path} has {n} held-in and {len(member) - n} held-out scores, and needs 2 of each.")
    return scores, member, pair[1] == "included"


def _scores(path: Path, name: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        raise UserError(f"{path}: `{name}` must be real numbers (n,), but is {array.dtype} {array.shape}.")
    array = array.astype(np.float64)
    if bad := int((~np.isfinite(array)).sum()):
        raise UserError(f"{path}: {bad} of {len(array)} entries of `{name}` are not finite: every score is a number.")
    return array


def _truth(path: Path, name: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.ndim != 1 or array.dtype.kind not in "biu" or not ((array == 0) | (array == 1)).all():
        raise UserError(f"{path}: `{name}` must be true or false (or 1 or 0) for each score, (n,).")
    return array.astype(bool)


def _word(path: Path, name: str, array: NDArray[Any]) -> str:
    word = " ".join(str(array).split()) if array.dtype.kind == "U" and array.shape == () else ""
    if not (0 < len(word) <= LONGEST and word.isprintable()):
        raise UserError(f"{path}: `{name}` must be a word or a line of at most {LONGEST} letters.")
    return word


def _number(path: Path, name: str, array: NDArray[Any]) -> float:
    if array.shape != () or array.dtype.kind not in "iuf":
        raise UserError(f"{path}: `{name}` must be one number, but is {array.dtype} {array.shape}.")
    return float(array)
