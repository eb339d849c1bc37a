"""Selects and loads files of the user."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from bench.core.component import Choice
from bench.core.dataset import DataLocation, Split
from bench.core.errors import Caveat
from bench.runner.registry import discover
from bench.runner.selection import choose

REGISTRY = discover()


def selected(path: Path, options: str = "label=target") -> Choice:
    [found] = choose(REGISTRY, "data", f"{path},{options}" if options else str(path))
    return found


def load(path: Path, options: str = "label=target", seed: int = 0) -> Split:
    found = selected(path, options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Caveat)
        data: Split = found.component.function(DataLocation(), np.random.default_rng(seed), **found.settings)
    return data
