"""What several test modules share: small splits, short trainings, and the program called in this process."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import pytest
from cli_fakes import fakes  # noqa: F401 - a fixture
from toy_runs import plugin, run, trainings  # noqa: F401 - fixtures

from bench.conformance.short_runs import small_data as split
from bench.core.dataset import Split
from bench.lint.short_options import short_options as quick  # noqa: F401 - for the test modules
from bench.runner.registry import Registry, discover


@cache
def components() -> Registry:
    """What ships with the project, for parametrisation over all of it."""
    return discover()


@pytest.fixture(scope="session")
def digits() -> Split:
    return split()


@pytest.fixture(scope="session")
def cancer() -> Split:
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
