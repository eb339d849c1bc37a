"""Sets with builders of the project's: records equal those of the official files, and faults are refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import components
from data_fixtures import files_of, parts, rng, same

from bench.core.dataset import DataLocation, shared
from bench.core.errors import UserError
from bench.data import adult_schema, official_files

SIZES = {"att_faces": (200, 120, 80), "adult": (20000, 14000, 7000), "location30": (1200, 1400, 2410)}


@pytest.mark.parametrize("name", SIZES)
def test_a_set_is_loaded_by_its_builder(
    name: str, data_location: DataLocation, prepared_sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files_of(name)
    load = components().data[name].function
    data = load(data_location, rng())
    assert capsys.readouterr().out == ""
    assert tuple(len(part) for part in parts(data)) == SIZES[name]
    assert shared(data) == 0
    assert (data.private.x.min() >= 0) & (data.private.x.max() <= 1)
    assert not list(prepared_sets.glob("**/*incomplete*"))
    assert same(load(DataLocation(offline=True), rng()).public, data.public)
    assert not same(load(data_location, rng(1)).public, data.public)
    with pytest.raises(UserError, match="distinct records"):
        load(data_location, rng(), private=10**6)
    for attribute in data.attributes:
        columns = data.private.x[:, attribute.start : attribute.stop]
        assert np.isin(columns, (0, 1)).all()
        if attribute.stop - attribute.start > 1:
            assert (columns.sum(1) == 1).all()


def test_faces_equal_those_of_the_archive_and_every_person_is_in_every_part(data_location: DataLocation) -> None:
    with np.load(files_of("att_faces") / "att_faces.npz") as archive:
        pictures, people = archive["images"], archive["labels"]
    for size in (112, 56, 28):
        data = components().data["att_faces"].function(data_location, rng(), size=size)
        assert data.private.shape == (size, size * 92 // 112, 1)
        for part, each in zip(parts(data), (5, 3, 2), strict=True):
            assert (np.bincount(part.y, minlength=40) == each).all()
    for x, y in zip(data.private.x[:3], data.private.y, strict=False):
        squares = [
            [[one[4 * i : 4 * i + 4, 4 * j : 4 * j + 4].mean() / 255 for j in range(23)] for i in range(28)]
            for one in pictures[people == y]
        ]
        assert np.abs(np.array(squares) - x[..., 0]).max((1, 2)).min() < 1e-5
    for size in (0, 64, -56, 14):
        with pytest.raises(UserError, match="size=112, size=56 or size=28, not"):
            components().data["att_faces"].function(data_location, rng(), size=size)


def test_census_records_equal_the_official_lines(data_location: DataLocation) -> None:
    """Parses the lines naively and compares all values that have a feature."""
    lines = [line for file in ("adult.data", "adult.test") for line in (files_of("adult") / file).open()]
    cells = [line.strip().rstrip(".").split(", ") for line in lines if line.count(",") == 14]
    assert len(cells) == 48842
    naive = {(c[0], c[12], *(c[i] for i in (1, 3, 5, 6, 7, 8, 9, 13)), int(c[10]) > 0, int(c[11]) > 0) for c in cells}
    data = components().data["adult"].function(data_location, rng(), private=500, holdout=10, public=10)
    numbers, at = data.private.x[:, :4], {a.name: a for a in data.attributes}
    for x, (age, hours, gain, loss) in zip(data.private.x, numbers, strict=True):
        words = []
        for name, values in adult_schema.CATEGORIES.items():
            words.append(values[int(x[at[name].start : at[name].stop].argmax())])
        assert (str(round(17 + 73 * age)), str(round(1 + 98 * hours)), *words, gain > 0, loss > 0) in naive
    assert [data.attributes[0].name, len(data.attributes)] == ["race", 8]
    assert components().data["adult"].function(data_location, rng(), attribute="sex").attributes[0].name == "sex"
    with pytest.raises(UserError, match="no attribute 'rase': did you mean 'race'"):
        components().data["adult"].function(data_location, rng(), attribute="rase")


def test_census_features_are_scaled_by_their_documented_ranges() -> None:
    dollars = adult_schema.NUMBERS["capital_gain"].scale(np.array([0, 99_999, 10**7, 315]))
    assert np.allclose(dollars, [0, 1, 1, np.log(316) / np.log(100_000)])
    assert np.allclose(adult_schema.NUMBERS["age"].scale(np.array([0, 17, 90, 120, 53.5])), [0, 0, 1, 1, 0.5])


def test_census_scales_do_not_depend_on_the_records() -> None:
    columns = {name: np.array([40, 50]) for name in adult_schema.NUMBERS}
    columns |= {name: np.array([0, 1]) for name in adult_schema.CATEGORIES}
    first = adult_schema.encoded(columns)
    columns["age"] = np.array([40, 10**6])
    assert np.array_equal(adult_schema.encoded(columns)[0], first[0])
    assert first.shape == (2, max(a.stop for a in adult_schema.attributes().values()))


def test_an_unknown_place_is_refused(data_location: DataLocation) -> None:
    files_of("location30")
    assert components().data["location30"].function(data_location, rng(), attribute=7).attributes[0].name == "place_7"
    for place in (446, -1):
        with pytest.raises(UserError, match=f"attribute={place} is none"):
            components().data["location30"].function(data_location, rng(), attribute=place)


def flipped(path: Path) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(damaged)


@pytest.mark.parametrize("file", ["att_faces.npz", "adult.test", "dataset_location.tgz"])
def test_a_damaged_file_is_refused_by_name(file: str, nothing_prepared: Path, tmp_path: Path) -> None:
    name = next(name for name, files in official_files.SETS.items() if file in files.names)
    folder = tmp_path / "files" / name
    shutil.copytree(files_of(name), folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    flipped(folder / file)
    with pytest.raises(UserError, match=f"{file} from {folder} is damaged"):
        components().data[name].function(DataLocation(tmp_path / "files", offline=True), rng())
    assert not list(nothing_prepared.glob(f"{name}/*"))
    assert not list(nothing_prepared.glob("incomplete*"))


@pytest.mark.parametrize("name", SIZES)
def test_a_missing_set_is_refused_in_one_sentence(name: str, nothing_prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{name} is not on this machine and --offline") as caught:
        components().data[name].function(DataLocation(tmp_path, offline=True), rng())
    assert all(file in str(caught.value) for file in official_files.SETS[name].names)
    assert str(caught.value).count(". ") == 0
