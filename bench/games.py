"""The questions that attacks answer, and who is right. Larger always means more leakage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.data import Data, Examples


@dataclass(frozen=True)
class Targets:
    """What an attack is asked about: `records`, and other records of which the adversary already knows the truth.

    `known` are never scored, so an attack may be fitted on them; `known_member` (len(known),) says which were trained on.
    """

    records: Examples
    known: Examples
    known_member: np.ndarray


@dataclass(frozen=True)
class Game:
    """A question: `challenge` draws it, `blind` answers it without any release, `judge` scores an answer.

    challenge(data, rng) -> (targets, secret); blind(targets, secret, seed) -> answer (cross-fitted: no record is scored
    by a model that saw its secret); judge(answer, blind answer, secret, rng) -> metrics for one cell.
    """

    name: str
    one_line: str
    challenge: Callable[[Data, np.random.Generator], tuple[Targets, np.ndarray]]
    blind: Callable[[Targets, np.ndarray, int], np.ndarray]
    judge: Callable[[np.ndarray, np.ndarray, np.ndarray, np.random.Generator], Mapping[str, Any]]
