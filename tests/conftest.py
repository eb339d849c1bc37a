"""Fixtures of several test modules: small splits, folders, and the program called in this process."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import pytest
from cli_fakes import fakes  # noqa: F401 - a fixture
from component_files import component_folder  # noqa: F401 - a fixture
from data_fixtures import data_location, nothing_prepared, people, prepared_sets  # noqa: F401 - fixtures
from releases import findings, release  # noqa: F401 - fixtures
from reproductions import check, kept  # noqa: F401 - fixtures
from toy_runs import plugin, run, trainings  # noqa: F401 - fixtures
from worker_fixtures import cores, scratch  # noqa: F401 - fixtures

from bench.conformance.short_runs import small_data as split
from bench.core.dataset import Split
from bench.lint.short_options import short_options as quick  # noqa: F401 - for the test modules
from bench.runner.registry import Registry, discover
from bench.store.store import Store


@cache
def components() -> Registry:
    """All components that ship with the project."""
    return discover()


@pytest.fixture(scope="session")
def digits() -> Split:
    return split()


@pytest.fixture(scope="session")
def cancer() -> Split:
    """Two classes and 30 features: work per class costs a fifth of that on digits."""
    return split("breast_cancer")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seed TensorFlow: after a test has made it deterministic, Keras refuses to initialise layers without a seed."""
    if tensorflow := sys.modules.get("tensorflow"):
        tensorflow.random.set_seed(0)


@pytest.fixture(autouse=True)
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs stay in this process, where fakes reach them; tests of workers state how many they want."""
    monkeypatch.setenv("BENCH_WORKERS", "1")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def store(results: Path) -> Store:
    return Store(results)
