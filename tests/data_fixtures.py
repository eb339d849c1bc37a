"""Small records, tables and folders of data files for the tests of data sets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.core.dataset import DataLocation, Examples, Split
from bench.data import official_files, tfds_source
from bench.data.sets import drebin215, texas100

DATA = Path(os.environ.get("BENCH_DATA_DIR") or Path(__file__).parents[2] / "shared" / "data")
PEOPLE = 400
# Sets whose official files were not available to the project: their builders are tested on small files of the form.
UNVERIFIED = {"texas100": texas100.texas100, "drebin215": drebin215.drebin215}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def same(a: Examples, b: Examples) -> bool:
    return np.array_equal(a.x, b.x) and np.array_equal(a.y, b.y)


def parts(data: Split) -> tuple[Examples, Examples, Examples]:
    return data.private, data.holdout, data.public


def files_of(name: str) -> Path:
    """Returns the folder of the official files of a set; skips the test if they are missing."""
    for folder in (DATA / name, DATA / "tfds_manual" / name):
        if not official_files.SETS[name].missing(folder):
            return folder
    pytest.skip(f"the official {name} files are not in {DATA}: set BENCH_DATA_DIR")


@pytest.fixture
def nothing_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for prepared sets."""
    folder = tmp_path / "prepared"
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    return folder


@pytest.fixture(scope="session")
def prepared_sets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for prepared sets, with extracted files of another set that have the same names."""
    folder = tmp_path_factory.mktemp("tfds")
    unpacked = folder / "downloads" / "extracted"
    unpacked.mkdir(parents=True)
    for file in official_files.IDX:
        (unpacked / f"GZIP.{file}").write_bytes(bytes(28 * 28 * 60000 + 16))
    yield folder
    tfds_source.columns_once.cache_clear()


@pytest.fixture
def data_location(prepared_sets: Path, monkeypatch: pytest.MonkeyPatch) -> DataLocation:
    """The folder of official files, without network; sets are prepared once per session."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared_sets))
    return DataLocation(DATA, offline=True)


def table(n: int = PEOPLE, seed: int = 0) -> list[list[str]]:
    """Cells of distinct people: an age, an income, a city and a label that depends on the age."""
    rng = np.random.default_rng(seed)
    ages, incomes = rng.integers(18, 90, n), rng.lognormal(10, 1, n)
    cities = rng.choice(["Rome", "Oslo, N", "Bern"], n)
    labels = np.where(ages > 50, "yes", "no")
    rows = zip(ages.tolist(), incomes.tolist(), cities.tolist(), labels.tolist(), strict=True)
    return [["age", "income", "city", "target"], *([str(a), f"{i:.2f}", c, y] for a, i, c, y in rows)]


def write_table(path: Path, rows: list[list[str]]) -> Path:
    path.write_text("".join(",".join(f'"{cell}"' if "," in cell else cell for cell in row) + "\n" for row in rows))
    return path


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A table of the user, as my.csv."""
    return write_table(tmp_path / "my.csv", table())
