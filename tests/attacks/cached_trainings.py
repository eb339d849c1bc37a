"""A cache of trainings for the tests of attacks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.dp import train
from bench.dp.weights_cache import WeightsCache


@pytest.fixture(scope="module", autouse=True)
def cached_trainings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trains once what several tests of a module train on the same records."""
    with train.caching(WeightsCache(tmp_path_factory.mktemp("cache") / "fits")):
        yield
