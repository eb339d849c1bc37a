"""What several test modules share: small splits, short trainings, and the program called in this process."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.component import Component
from bench.data import Data, Where
from bench.probes.quick import QUICK, SIZES
from bench.registry import Registry, discover


@cache
def components() -> Registry:
    """What ships with the project, for parametrisation over all of it."""
    return discover()


@cache
def split(name: str = "digits", seed: int = 0) -> Data:
    """A small split of a data set that is inside scikit-learn."""
    data: Data = components().data[name].function(Where(), np.random.default_rng(seed), **SIZES)
    return data


def quick(component: Component, **changed: Any) -> dict[str, Any]:
    """Options that make a component's training short, where it has them, and `changed`."""
    return {name: value for name, value in {**QUICK, **changed}.items() if name in component.options}


@pytest.fixture(scope="session")
def digits() -> Data:
    return split()


@pytest.fixture(scope="session")
def cancer() -> Data:
    """Two classes and plain features: what is per class costs a fifth of what it costs on digits."""
    return split("breast_cancer")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Once a test has made TensorFlow deterministic, Keras starts no layer without a seed: in no test that follows."""
    if tensorflow := sys.modules.get("tensorflow"):
        tensorflow.random.set_seed(0)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"
