"""Runs the attribute game for its tests."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from dp_accounting import NonPrivateDpEvent
from numpy.typing import NDArray

from bench.core.dataset import Examples, Split
from bench.core.errors import Caveat
from bench.core.release import Map, Release
from bench.games import ATTRIBUTE


def arrays_of(data: Split, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    part: Examples = getattr(data, name)
    return part.x, part.y


def released(predict: Map) -> Release:
    return Release(NonPrivateDpEvent(), predict=predict)


def challenged(data: Split, seed: int = 0) -> Any:
    return ATTRIBUTE.challenge(data, np.random.default_rng(seed))


def judged(answer: NDArray[Any], data: Split, baseline: NDArray[Any] | None = None) -> dict[str, Any]:
    challenge = challenged(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Caveat)
        baseline = ATTRIBUTE.baseline(challenge, 0) if baseline is None else baseline
        return dict(ATTRIBUTE.judge(answer, baseline, challenge, np.random.default_rng(0)))


def play(function: Callable[..., Any], data: Split, predict: Map, **options: Any) -> dict[str, Any]:
    challenge = challenged(data)
    return judged(function(released(predict), challenge.targets, challenge.public, seed=0, **options), data)
