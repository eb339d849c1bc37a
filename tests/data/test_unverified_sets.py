"""Sets whose official files were not available: small files of their form are read, and damaged ones refused."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_fixtures import UNVERIFIED, parts, rng

from bench.core.dataset import DataLocation
from bench.core.errors import Caveat, UserError
from bench.data import official_files, tfds_source
from bench.data.sets import drebin215, texas100

FEATURES = 9
SIZES = {"private": 30, "holdout": 20, "public": 20}


def bits(name: str, n: int = 80) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Distinct records and labels of a small set of the same form; three of eight apps are harmful."""
    x = rng(5).permutation(2**FEATURES)[:n, None] >> np.arange(FEATURES) & 1
    return x, np.arange(n) % 8 // 5 if name == "drebin215" else np.arange(n) % 100


def small(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, edit: Callable[[list[str]], Any] = list
) -> DataLocation:
    """A folder with a small file of the official form; `edit` changes its lines of features in place."""
    from bench.data import tfds_builders

    x, y = bits(name)
    (folder / name).mkdir()
    path = folder / name / official_files.SETS[name].files[0]
    lines = [",".join(map(str, row)) for row in x]
    if name == "texas100":
        edit(lines)
        with tarfile.open(path, "w:gz") as made:
            for member, content in (("feats", lines), ("labels", [str(label + 1) for label in y])):
                data = ("\n".join(content) + "\n").encode()
                info = tarfile.TarInfo(f"texas/100/{member}")
                info.size = len(data)
                made.addfile(info, io.BytesIO(data))
        for constant, value in {"STAYS": len(x), "FINDINGS": x.shape[1]}.items():
            monkeypatch.setattr(tfds_builders, constant, value)
    else:
        lines = [f"{line},{'BS'[label]}" for line, label in zip(lines, y, strict=True)]
        edit(lines)
        head = ",".join([*(f"call_{i}" for i in range(x.shape[1])), "class"])
        path.write_text("\n".join([head, *lines]) + "\n")
        counts = dict(zip("BS", np.bincount(y).tolist(), strict=True))
        for constant, content in {"APPS": counts, "CALLS": x.shape[1]}.items():
            monkeypatch.setattr(tfds_builders, constant, content)
    monkeypatch.setitem(official_files.SETS, name, replace(official_files.SETS[name], records=len(x)))
    return DataLocation(folder, offline=True)


@pytest.mark.parametrize("name", UNVERIFIED)
def test_an_unverified_set_is_loaded_by_its_builder_with_a_caveat(
    name: str, nothing_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_location, (x, y) = small(name, tmp_path, monkeypatch), bits(name)
    for _ in range(2):  # with a caveat for every seed, also if the records are cached
        with pytest.warns(Caveat, match=f"{name} was checked by its size and form alone"):
            data = UNVERIFIED[name](data_location, rng(), **SIZES, attribute=3)
    naive = {row.astype(np.float32).tobytes(): label for row, label in zip(x, y, strict=True)}
    assert all(naive[row.tobytes()] == label for part in parts(data) for row, label in zip(part.x, part.y, strict=True))
    assert [len(part) for part in parts(data)] == list(SIZES.values())
    assert (data.attributes[0].name, len(data.attributes)) == ("feature_3", FEATURES)
    assert data.private.classes == {"texas100": 100, "drebin215": 2}[name]
    with pytest.raises(UserError, match="features 0 to 8, so attribute=9 is none"), pytest.warns(Caveat):
        UNVERIFIED[name](data_location, rng(), attribute=FEATURES)
    # The records of a prepared set are counted whenever they are read.
    tfds_source.columns_once.cache_clear()
    monkeypatch.setitem(official_files.SETS, name, replace(official_files.SETS[name], records=81))
    with pytest.raises(UserError, match="does not hold the"):
        UNVERIFIED[name](data_location, rng(), **SIZES)


FAULTS: dict[str, Callable[[list[str]], Any]] = {
    "a record missing": lambda lines: lines.pop(),
    "a record more": lambda lines: lines.append(lines[0]),
    "a feature missing": lambda lines: lines.__setitem__(4, lines[4][2:]),
    "a feature more": lambda lines: lines.__setitem__(4, "1," + lines[4]),
    "not a bit": lambda lines: lines.__setitem__(4, "2" + lines[4][1:]),
    "another separator": lambda lines: lines.__setitem__(4, lines[4].replace(",", ";", 1)),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", UNVERIFIED)
def test_a_file_that_cannot_be_the_official_one_is_refused(
    name: str, fault: str, nothing_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_location = small(name, tmp_path, monkeypatch, FAULTS[fault])
    with pytest.raises(UserError, match=rf"{official_files.SETS[name].files[0]} from .* is damaged"):
        UNVERIFIED[name](data_location, rng(), **SIZES)
    assert not list(nothing_prepared.glob(f"{name}/*"))


def test_wrong_numbers_of_stays_are_refused(
    nothing_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.data import tfds_builders

    data_location = small("texas100", tmp_path, monkeypatch)
    for n in (79, 81):
        monkeypatch.setattr(tfds_builders, "STAYS", n)
        with pytest.raises(UserError, match="is damaged"):
            texas100.texas100(data_location, rng(), **SIZES)


@pytest.mark.parametrize("name", UNVERIFIED)
def test_a_file_of_another_format_is_refused(name: str, nothing_prepared: Path, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / official_files.SETS[name].files[0]).write_bytes(b"<html>moved</html>")
    with pytest.raises(UserError, match="is damaged"):
        UNVERIFIED[name](DataLocation(tmp_path, offline=True), rng())


def test_an_unknown_feature_value_counts_as_absent(
    nothing_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_unknown_values(lines: list[str]) -> None:
        lines[:] = ["?" + line[1:] for line in lines]

    data_location = small("drebin215", tmp_path, monkeypatch, with_unknown_values)
    with pytest.warns(Caveat):
        data = drebin215.drebin215(data_location, rng(), private=10, holdout=10, public=10)
    assert not data.private.x[:, 0].any()
    assert data.private.x[:, 1:].any()


@pytest.mark.parametrize("offline", [True, False])
def test_a_set_downloaded_by_hand_states_its_address(offline: bool, nothing_prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is downloaded by hand, from https://figshare\.com/") as caught:
        drebin215.drebin215(DataLocation(tmp_path, offline), rng())
    assert "connect to the network" not in str(caught.value)
    assert str(tmp_path / "drebin215") in str(caught.value)
