"""Records and splits that share nothing, scaling that reads nothing private, and sets that are missing or damaged."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import textwrap
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import components

from bench.core.dataset import DataLocation, Examples, Split, record_keys, scaled, shared, split
from bench.core.errors import Caveat, UserError
from bench.data import adult_schema, official_files, tfds_source
from bench.data.card import FIELDS, card
from bench.data.sets import drebin215, randhie, texas100

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("BENCH_DATA_DIR") or Path(__file__).parents[3] / "shared" / "data")
SMALL = {"digits": (1000, 500, 297), "breast_cancer": (250, 200, 119)}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def planted(n: int = 60, copies: int = 40) -> Examples:
    """`n` distinct records, some of them again at the end under another label."""
    x = rng(1).random((n, 3), np.float32)
    y = np.arange(n) % 4
    return Examples(np.concatenate([x, x[:copies]]), np.concatenate([y, (y[:copies] + 1) % 4]), classes=4)


def careless_split(records: Examples, generator: np.random.Generator) -> Split:
    """The mutant: a split that takes copies for different records."""
    a, b, c = np.split(generator.permutation(len(records))[:60], [20, 40])
    return Split("careless", records[a], records[b], records[c])


def same(a: Examples, b: Examples) -> bool:
    return np.array_equal(a.x, b.x) and np.array_equal(a.y, b.y)


def parts(data: Split) -> tuple[Examples, Examples, Examples]:
    return data.private, data.holdout, data.public


# Examples


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_a_value_that_is_not_finite_is_refused_by_its_record(bad: float) -> None:
    x = np.zeros((5, 2))
    x[3, 1] = bad
    with pytest.raises(UserError, match="record 3 "), np.errstate(over="ignore"):
        Examples(x, np.zeros(5), classes=2)


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_out_of_range_is_refused_by_its_record(label: int) -> None:
    with pytest.raises(UserError, match=f"record 1 has label {label}"):
        Examples(np.zeros((2, 2)), np.array([0, label]), classes=2)


def test_labels_must_match_records() -> None:
    with pytest.raises(UserError, match="3 records came with 2 labels"):
        Examples(np.zeros((3, 2)), np.zeros(2), classes=1)


def test_records_cannot_be_changed_and_an_empty_part_knows_its_schema() -> None:
    records = planted()
    with pytest.raises(ValueError, match="read-only"):
        records.x[0, 0] = 1
    empty = records[:0]
    assert (len(empty), empty.shape, empty.classes) == (0, (3,), 4)


# split


def test_parts_share_no_record_although_copies_are_planted() -> None:
    for seed in range(20):
        data = split("planted", planted(), rng(seed), private=20, holdout=20, public=20)
        assert [len(part) for part in parts(data)] == [20, 20, 20]
        assert shared(data) == 0
        assert all(len(set(record_keys(part))) == 20 for part in parts(data))


def test_the_check_sees_a_split_that_does_not_drop_copies() -> None:
    assert all(shared(careless_split(planted(), rng(seed))) > 0 for seed in range(20))


def test_a_copy_counts_although_its_label_differs_and_the_first_is_kept() -> None:
    data = split("planted", planted(), rng(), private=20, holdout=20, public=20)
    original = dict(zip(record_keys(planted()[:60]), planted().y[:60], strict=True))
    assert all(original[key] == y for part in parts(data) for key, y in zip(record_keys(part), part.y, strict=True))


def test_a_split_follows_its_seed() -> None:
    def draw(seed: int) -> Split:
        return split("planted", planted(), rng(seed), private=10, holdout=20, public=25)

    assert all(map(same, parts(draw(3)), parts(draw(3))))
    assert not same(draw(3).private, draw(4).private)


@pytest.mark.parametrize("sizes", [(21, 20, 20), (0, 20, 20), (20, -1, 20), (20, 20, 0), (10**9, 1, 1)])
def test_sizes_that_do_not_fit_are_refused_with_the_number_of_distinct_records(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(UserError, match="planted has 60 distinct records"):
        split("planted", planted(), rng(), private=sizes[0], holdout=sizes[1], public=sizes[2])


# sets inside scikit-learn


@pytest.mark.parametrize("name", SMALL)
def test_a_set_uses_every_record_by_default_and_lies_in_the_unit_cube(name: str) -> None:
    load = components().data[name].function
    data = load(DataLocation(), rng())
    assert data.name == name
    assert tuple(len(part) for part in parts(data)) == SMALL[name]
    assert shared(data) == 0
    for part in parts(data):
        assert part.x.min() >= 0
        assert part.x.max() <= 1
    assert data.public.x.max() == 1
    assert data.private.shape == {"digits": (8, 8, 1), "breast_cancer": (30,)}[name]
    assert all(map(same, parts(data), parts(load(DataLocation(), rng()))))
    assert not same(data.private, load(DataLocation(), rng(1)).private)
    assert [len(part) for part in parts(load(DataLocation(), rng(), private=7, holdout=5, public=50))] == [7, 5, 50]
    with pytest.raises(UserError, match="distinct records"):
        load(DataLocation(), rng(), private=10**5)


def extreme(data: Split, part: str, value: float) -> Split:
    """The same split, with one record of a part at an extreme."""
    records: Examples = getattr(data, part)
    x = records.x.copy()
    x[0] = value
    return Split(**{**vars(data), part: Examples(x, records.y, records.classes)})


def careless_scaling(data: Split) -> Split:
    """The mutant: ranges over every record."""
    everything = np.concatenate([part.x for part in parts(data)])
    low, high = everything.min(0), everything.max(0)
    return Split(data.name, *(Examples((p.x - low) / (high - low), p.y, p.classes) for p in parts(data)))


def moved_by_an_extreme(scale: Callable[[Split], Split], part: str, value: float) -> bool:
    """Whether one extreme record of a part changes any other scaled record."""
    records = Examples(rng(2).normal(5, 3, (90, 4)), np.zeros(90), classes=1)
    raw = split("plain", records, rng(), private=30, holdout=30, public=30)
    before, after = scale(raw), scale(extreme(raw, part, value))
    return not all(
        same(a[1:] if name == part else a, b[1:] if name == part else b)
        for name, a, b in zip(("private", "holdout", "public"), parts(before), parts(after), strict=True)
    )


@pytest.mark.parametrize("value", [-1e6, 1e6])
@pytest.mark.parametrize("part", ["private", "holdout"])
def test_scaling_reads_neither_private_nor_holdout_records(part: str, value: float) -> None:
    assert not moved_by_an_extreme(scaled, part, value)
    assert moved_by_an_extreme(careless_scaling, part, value), "the check does not see a scaling that reads everything"
    assert moved_by_an_extreme(scaled, "public", value), "the check does not see what scaling reads"


def test_an_extreme_record_in_a_whole_set_changes_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the loaders themselves, scaling sets or not: one private record at an extreme, all others bit for bit."""
    import sklearn.datasets

    for name, field in (("digits", "images"), ("breast_cancer", "data")):
        load, fetch = components().data[name].function, getattr(sklearn.datasets, f"load_{name}")
        raw = fetch()
        before = load(DataLocation(), rng())
        row = rng().permutation(len(raw.target))[0]  # no copies in these sets: the first record of `private`
        raw[field] = raw[field].copy()
        raw[field][row] = 1e5
        monkeypatch.setattr(sklearn.datasets, f"load_{name}", lambda raw=raw: raw)
        after = load(DataLocation(), rng())
        assert not same(before.private[:1], after.private[:1])
        assert same(before.private[1:], after.private[1:])
        assert same(before.holdout, after.holdout)
        assert same(before.public, after.public)


def test_a_public_part_too_small_to_scale_by_is_refused() -> None:
    with pytest.raises(UserError, match="public=1 records are too few"):
        components().data["breast_cancer"].function(DataLocation(), rng(), public=1)


# sets through TensorFlow Datasets


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_addresses_and_files_are_those_of_the_real_builder(name: str) -> None:
    import tensorflow_datasets as tfds

    builder = tfds.builder_cls(name)
    assert official_files.SETS[name].url == builder.URL
    assert {url.rpartition("/")[2] for url in builder.url_infos} == set(official_files.SETS[name].files)


@pytest.mark.parametrize("offline", [True, False])
def test_a_missing_set_is_refused_in_two_seconds_even_where_resolving_hangs(offline: bool, tmp_path: Path) -> None:
    program = f"""
        import json, socket, sys, time
        from pathlib import Path
        import numpy as np
        from bench.core.dataset import DataLocation
        from bench.core.errors import UserError
        from bench.runner.registry import discover

        load, resolved = discover().data["mnist"].function, []
        socket.getaddrinfo = lambda *a, **k: (resolved.append(a), time.sleep(60))
        start = time.monotonic()
        try:
            load(DataLocation(Path({str(tmp_path)!r}), {offline}), np.random.default_rng())
        except UserError as error:
            print(json.dumps([time.monotonic() - start, str(error), "tensorflow" in sys.modules, bool(resolved)]))
    """
    environment = {**os.environ, "TFDS_DATA_DIR": str(tmp_path / "none"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=environment, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    seconds, sentence, imported, resolved = json.loads(done.stdout)
    assert seconds < 2
    assert not imported
    assert resolved == (not offline)
    assert str(tmp_path / "mnist") in sentence
    assert all(file in sentence for file in official_files.IDX)
    assert ("--offline" in sentence) == offline
    assert sentence.count(". ") == 0


def test_an_answering_host_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert tfds_source.answers(f"http://{address}/")
        monkeypatch.setenv("http_proxy", f"http://{address}")
        assert tfds_source.answers("http://a-host-behind-the-proxy.invalid/")
    assert not tfds_source.answers("http://a-host-behind-the-proxy.invalid/")


@pytest.fixture
def nothing_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "prepared"
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    return folder


@pytest.mark.usefixtures("nothing_prepared")
def test_an_incomplete_folder_is_refused_by_the_missing_file(tmp_path: Path) -> None:
    (tmp_path / "mnist").mkdir()
    for file in official_files.IDX[:3]:
        (tmp_path / "mnist" / file).touch()
    with pytest.raises(UserError, match=f"mnist lacks {official_files.IDX[3]}"):
        components().data["mnist"].function(DataLocation(tmp_path, offline=True), rng())


def test_half_of_a_prepared_set_is_never_taken_for_a_whole(nothing_prepared: Path) -> None:
    half = nothing_prepared / "mnist" / "incomplete.ABCDEF_3.0.1"
    half.mkdir(parents=True)
    (half / "mnist-train.tfrecord-00000-of-00001").touch()
    with pytest.raises(UserError, match="not on this machine"):  # what a killed preparation leaves
        components().data["mnist"].function(DataLocation(offline=True), rng())
    half.rename(half.with_name("3.0.1"))
    with pytest.raises(UserError, match=r"3\.0\.1 is only a part"):  # what a killed copy leaves
        components().data["mnist"].function(DataLocation(offline=True), rng())


def files_of(name: str) -> Path:
    """The folder of the official files, or a skip that says what to do."""
    for folder in (DATA / name, DATA / "tfds_manual" / name):
        if not official_files.SETS[name].missing(folder):
            return folder
    pytest.skip(f"the official {name} files are not in {DATA}: set BENCH_DATA_DIR")


IMAGES = [pytest.param(name, marks=pytest.mark.slow) for name in ("mnist", "fashion_mnist")]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for prepared sets, in which TFDS once unpacked another set's files, which have the same names."""
    folder = tmp_path_factory.mktemp("tfds")
    unpacked = folder / "downloads" / "extracted"
    unpacked.mkdir(parents=True)
    for file in official_files.IDX:
        (unpacked / f"GZIP.{file}").write_bytes(bytes(28 * 28 * 60000 + 16))
    yield folder
    tfds_source.columns_once.cache_clear()


@pytest.fixture
def where(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> DataLocation:
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    return DataLocation(DATA, offline=True)


@pytest.mark.parametrize("name", IMAGES)
def test_images_come_through_the_real_builder(
    name: str, where: DataLocation, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files_of(name)
    load = components().data[name].function
    data = load(where, rng())
    assert capsys.readouterr().out == ""
    assert [len(part) for part in parts(data)] == [50000, 14000, 6000]
    assert shared(data) == 0
    assert (data.private.shape, data.private.classes) == ((28, 28, 1), 10)
    assert (data.private.x.min(), data.private.x.max()) == (0, 1)
    assert not list(prepared.glob("**/*incomplete*")), "the preparation left something behind"
    assert tfds_source.columns_once(name, where, prepared) is tfds_source.columns_once(name, where, prepared)
    # Prepared now, so it is found without the files and without the network.
    assert same(load(DataLocation(offline=True), rng()).public, data.public)


def test_a_prepared_set_that_is_not_the_whole_one_is_refused(nothing_prepared: Path) -> None:
    import tensorflow_datasets as tfds

    config = tfds.download.DownloadConfig(
        manual_dir=files_of("mnist"), try_download_gcs=False, max_examples_per_split=9
    )
    builder = tfds.builder("mnist", data_dir=nothing_prepared)
    builder.download_and_prepare(download_config=config)
    with pytest.raises(UserError, match=r"mnist/3\.0\.1 does not hold the mnist of its authors"):
        components().data["mnist"].function(DataLocation(offline=True), rng())
    file = next(Path(builder.data_dir).glob("*train.tfrecord*"))
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"mnist/3\.0\.1 cannot be read .* delete it"):
        components().data["mnist"].function(DataLocation(offline=True), rng())


@pytest.mark.parametrize(
    "file", [pytest.param("train-labels-idx1-ubyte.gz", marks=pytest.mark.slow), "t10k-images-idx3-ubyte.gz"]
)
def test_a_damaged_official_file_is_refused_by_name_and_leaves_nothing(
    file: str, nothing_prepared: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "files" / "mnist"
    shutil.copytree(files_of("mnist"), folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    damaged = bytearray((folder / file).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (folder / file).write_bytes(damaged)
    with pytest.raises(UserError, match=f"{file} from {folder} is damaged"):
        components().data["mnist"].function(DataLocation(tmp_path / "files", offline=True), rng())
    assert not list(nothing_prepared.glob("mnist/*"))
    assert not list(nothing_prepared.glob("incomplete*"))


# sets with builders of our own


OWN = {"att_faces": (200, 120, 80), "adult": (20000, 14000, 7000), "location30": (1200, 1400, 2410)}


@pytest.mark.parametrize("name", OWN)
def test_a_set_of_our_own_comes_through_its_builder(
    name: str, where: DataLocation, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files_of(name)
    load = components().data[name].function
    data = load(where, rng())
    assert capsys.readouterr().out == ""
    assert tuple(len(part) for part in parts(data)) == OWN[name]
    assert shared(data) == 0
    assert (data.private.x.min() >= 0) & (data.private.x.max() <= 1)
    assert not list(prepared.glob("**/*incomplete*"))
    assert same(load(DataLocation(offline=True), rng()).public, data.public)
    assert not same(load(where, rng(1)).public, data.public)
    with pytest.raises(UserError, match="distinct records"):
        load(where, rng(), private=10**6)
    for attribute in data.attributes:
        columns = data.private.x[:, attribute.start : attribute.stop]
        assert np.isin(columns, (0, 1)).all()
        if attribute.stop - attribute.start > 1:
            assert (columns.sum(1) == 1).all()


def test_pictures_are_those_of_the_archive_and_every_person_is_in_every_part(where: DataLocation) -> None:
    with np.load(files_of("att_faces") / "att_faces.npz") as held:
        pictures, people = held["images"], held["labels"]
    for size in (112, 56, 28):
        data = components().data["att_faces"].function(where, rng(), size=size)
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
            components().data["att_faces"].function(where, rng(), size=size)


def test_census_records_say_what_the_official_lines_say(where: DataLocation) -> None:
    """Read again by splitting lines, and written as words; only what the features leave out is left out."""
    lines = [line for file in ("adult.data", "adult.test") for line in (files_of("adult") / file).open()]
    cells = [line.strip().rstrip(".").split(", ") for line in lines if line.count(",") == 14]
    assert len(cells) == 48842
    naive = {(c[0], c[12], *(c[i] for i in (1, 3, 5, 6, 7, 8, 9, 13)), int(c[10]) > 0, int(c[11]) > 0) for c in cells}
    data = components().data["adult"].function(where, rng(), private=500, holdout=10, public=10)
    numbers, at = data.private.x[:, :4], {a.name: a for a in data.attributes}
    for x, (age, hours, gain, loss) in zip(data.private.x, numbers, strict=True):
        words = []
        for name, values in adult_schema.CATEGORIES.items():
            words.append(values[int(x[at[name].start : at[name].stop].argmax())])
        assert (str(round(17 + 73 * age)), str(round(1 + 98 * hours)), *words, gain > 0, loss > 0) in naive
    assert [data.attributes[0].name, len(data.attributes)] == ["race", 8]
    assert components().data["adult"].function(where, rng(), attribute="sex").attributes[0].name == "sex"
    with pytest.raises(UserError, match="no attribute 'rase': did you mean 'race'"):
        components().data["adult"].function(where, rng(), attribute="rase")


def test_census_scales_are_those_of_the_survey() -> None:
    dollars = adult_schema.NUMBERS["capital_gain"].scale(np.array([0, 99_999, 10**7, 315]))
    assert np.allclose(dollars, [0, 1, 1, np.log(316) / np.log(100_000)])
    assert np.allclose(adult_schema.NUMBERS["age"].scale(np.array([0, 17, 90, 120, 53.5])), [0, 0, 1, 1, 0.5])


def test_a_scale_of_the_census_reads_no_record() -> None:
    columns = {name: np.array([40, 50]) for name in adult_schema.NUMBERS}
    columns |= {name: np.array([0, 1]) for name in adult_schema.CATEGORIES}
    first = adult_schema.encoded(columns)
    columns["age"] = np.array([40, 10**6])
    assert np.array_equal(adult_schema.encoded(columns)[0], first[0])
    assert first.shape == (2, max(a.stop for a in adult_schema.attributes().values()))


def test_a_place_that_is_not_there_is_refused(where: DataLocation) -> None:
    files_of("location30")
    assert components().data["location30"].function(where, rng(), attribute=7).attributes[0].name == "place_7"
    for place in (446, -1):
        with pytest.raises(UserError, match=f"attribute={place} is none"):
            components().data["location30"].function(where, rng(), attribute=place)


def flipped(path: Path) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(damaged)


@pytest.mark.parametrize("file", ["att_faces.npz", "adult.test", "dataset_location.tgz"])
def test_a_damaged_file_of_our_own_sets_is_refused_by_name(file: str, nothing_prepared: Path, tmp_path: Path) -> None:
    name = next(name for name, own in official_files.SETS.items() if file in own.names)
    folder = tmp_path / "files" / name
    shutil.copytree(files_of(name), folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    flipped(folder / file)
    with pytest.raises(UserError, match=f"{file} from {folder} is damaged"):
        components().data[name].function(DataLocation(tmp_path / "files", offline=True), rng())
    assert not list(nothing_prepared.glob(f"{name}/*"))
    assert not list(nothing_prepared.glob("incomplete*"))


@pytest.mark.parametrize("name", OWN)
def test_a_missing_set_of_our_own_is_one_sentence(name: str, nothing_prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{name} is not on this machine and --offline") as caught:
        components().data[name].function(DataLocation(tmp_path, offline=True), rng())
    assert all(file in str(caught.value) for file in official_files.SETS[name].names)
    assert str(caught.value).count(". ") == 0


# The archive of faces as it is downloaded, made small


def archive(path: Path, pictures: np.ndarray[Any, Any], *, kind: bytes = b"P5", skip: str = "") -> Path:
    """PGM files in the layout of att_faces.zip, beside its README."""
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("att_faces/README", "made up")
        for i, picture in enumerate(pictures):
            name, (height, width) = f"s{i // 10 + 1}/{i % 10 + 1}.pgm", picture.shape
            if name != skip:
                made.writestr(f"att_faces/{name}", kind + b"\n%d %d\n255\n" % (width, height) + picture.tobytes())
    return path


def made_up() -> np.ndarray[Any, Any]:
    return rng(3).integers(0, 256, (400, 5, 4), np.uint8)


def test_faces_are_read_from_the_archive_as_from_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.data import tfds_builders

    pictures, labels = made_up(), np.repeat(np.arange(40), 10)
    pictures[0, 0, :2] = [10, 32]  # white space among the pixels, which the header must not swallow
    monkeypatch.setattr(tfds_builders, "PIXELS", hashlib.sha256(pictures.tobytes()).hexdigest())
    shuffled = np.concatenate([np.flatnonzero(labels % 2), np.flatnonzero(labels % 2 == 0)])
    np.savez(tmp_path / "att_faces.npz", images=pictures[shuffled], labels=labels[shuffled])
    for path in (archive(tmp_path / "att_faces.zip", pictures), tmp_path / "att_faces.npz"):
        assert np.array_equal(tfds_builders.faces(path), pictures)


@pytest.mark.parametrize("fault", ["another picture", "no header", "a picture short", "cut off", "no archive"])
def test_an_archive_of_anything_else_is_refused(fault: str, nothing_prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "att_faces").mkdir()
    pictures, path = made_up(), tmp_path / "att_faces" / "att_faces.zip"
    archive(path, pictures, kind=b"P2" if fault == "no header" else b"P5", skip="s7/3.pgm" if "short" in fault else "")
    if fault == "cut off":
        path.write_bytes(path.read_bytes()[:-30])
    if fault == "no archive":
        path.write_bytes(b"<html>moved</html>")
    with pytest.raises(UserError, match=r"att_faces\.zip from .* is damaged") as caught:
        components().data["att_faces"].function(DataLocation(tmp_path, offline=True), rng())
    assert "\n" not in str(caught.value)
    assert not list(nothing_prepared.glob("att_faces/*"))


def test_faces_are_downloaded_where_no_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a server on this machine: the only set whose download TFDS cannot check, so that our builder does."""
    import tensorflow_datasets as tfds

    from bench.data import tfds_builders

    pictures = made_up()
    (tmp_path / "served").mkdir()
    archive(tmp_path / "served" / "att_faces.zip", pictures)
    monkeypatch.setattr(tfds_builders, "PIXELS", hashlib.sha256(pictures.tobytes()).hexdigest())
    monkeypatch.setattr(tfds_builders, "FACE", pictures.shape[1:])
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = replace(official_files.SETS["att_faces"], url=f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setitem(official_files.SETS, "att_faces", here)
        builder = tfds.builder("att_faces", data_dir=tmp_path / "prepared")
        tfds_source.prepare(builder, None, tmp_path / "prepared")
        monkeypatch.setattr(tfds_builders, "PIXELS", "of other pictures")
        other = tfds.builder("att_faces", data_dir=tmp_path / "other")
        with pytest.raises(UserError, match=f"from {here.url} is damaged"):
            tfds_source.prepare(other, None, tmp_path / "other")
        server.shutdown()
    found = tfds.as_numpy(builder.as_dataset(split="train", batch_size=-1))
    order = np.lexsort((found["image"][:, 0, 0, 0], found["label"]))
    naive = np.lexsort((pictures[:, 0, 0], np.repeat(np.arange(40), 10)))
    assert found["image"].sum() == pictures.sum()
    assert np.array_equal(found["image"][order, 0, 0, 0], pictures[naive, 0, 0])


# split by class


def test_a_split_by_class_gives_every_part_its_share() -> None:
    y = np.repeat(np.arange(5), 12)
    records = Examples(rng(4).random((60, 3)), y, classes=5)
    for sizes in ((20, 20, 20), (25, 15, 10), (7, 9, 11)):
        sized = dict(zip(("private", "holdout", "public"), sizes, strict=True))
        data = split("shares", records, rng(), **sized, by_class=True)
        assert shared(data) == 0
        for part, size in zip(parts(data), sizes, strict=True):
            assert len(part) == size
            assert np.ptp(np.bincount(part.y, minlength=5)) <= (0 if size % 5 == 0 and sizes[0] % 5 == 0 else 2)
        plain = [split("shares", records, rng(seed), **sized).private.y for seed in range(9)]
        assert any(np.ptp(np.bincount(y, minlength=5)) > 2 for y in plain), "the check does not see a split at random"
    assert not same(data.private, split("shares", records, rng(1), **sized, by_class=True).private)


# sets that come with statsmodels, and sets whose files nobody here has seen


def test_health_records_say_what_the_survey_says() -> None:
    """Read again from the shipped table; every distinct record once, with the label of its first line."""
    from statsmodels.datasets import randhie as shipped

    raw = shipped.load_pandas().data
    data = randhie.randhie(DataLocation(), rng())
    assert shared(data) == 0
    assert sum(map(len, parts(data))) == 2760 == len(raw.drop(columns="mdvis").drop_duplicates())
    assert [one.name for one in data.attributes] == ["health", "individual_plan"]
    highest = {"lncoins": np.log(101), "lpi": np.log(10_000), "fmde": np.log(4000), "physlm": 1, "disea": 100}
    naive = {}
    for row in raw.to_dict("records"):
        health = 0 if not (row["hlthg"] or row["hlthf"] or row["hlthp"]) else int(row["hlthf"] + 2 * row["hlthp"]) + 1
        key = [np.float32(min(1, row[name] / high)) for name, high in highest.items()]
        naive.setdefault((*key, health, row["idp"]), 0 if row["mdvis"] == 0 else 1 if row["mdvis"] < 3 else 2)
    for part in parts(data):
        assert (part.x.min() >= 0) & (part.x.max() <= 1)
        assert (part.x[:, 5:9].sum(1) == 1).all()
        assert [naive[*x[:5], x[5:9].argmax(), x[9]] for x in part.x] == part.y.tolist()
    assert randhie.randhie(DataLocation(), rng(), attribute="individual_plan").attributes[0].name == "individual_plan"
    with pytest.raises(UserError, match="no attribute 'helth': did you mean 'health'"):
        randhie.randhie(DataLocation(), rng(), attribute="helth")


def test_health_records_of_another_version_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(randhie, "CONTENT", "of another version")
    with pytest.raises(UserError, match="statsmodels ships another randhie"):
        randhie.randhie(DataLocation(), rng())


UNSEEN = {"texas100": texas100.texas100, "drebin215": drebin215.drebin215}
FEATURES = 9
SIZES = {"private": 30, "holdout": 20, "public": 20}


def bits(name: str, n: int = 80) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Distinct records of a small set of the same form, and labels: apps are harmful three times in eight."""
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


@pytest.mark.parametrize("name", UNSEEN)
def test_a_set_that_was_not_seen_comes_through_its_builder_with_a_doubt(
    name: str, nothing_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, (x, y) = small(name, tmp_path, monkeypatch), bits(name)
    for _ in range(2):  # the doubt is about every seed, however often the records are at hand already
        with pytest.warns(Caveat, match=f"{name} was checked by its size and form alone"):
            data = UNSEEN[name](where, rng(), **SIZES, attribute=3)
    naive = {row.astype(np.float32).tobytes(): label for row, label in zip(x, y, strict=True)}
    assert all(naive[row.tobytes()] == label for part in parts(data) for row, label in zip(part.x, part.y, strict=True))
    assert [len(part) for part in parts(data)] == list(SIZES.values())
    assert (data.attributes[0].name, len(data.attributes)) == ("feature_3", FEATURES)
    assert data.private.classes == {"texas100": 100, "drebin215": 2}[name]
    with pytest.raises(UserError, match="features 0 to 8, so attribute=9 is none"), pytest.warns(Caveat):
        UNSEEN[name](where, rng(), attribute=FEATURES)
    # Prepared, it is counted again whenever it is read.
    tfds_source.columns_once.cache_clear()
    monkeypatch.setitem(official_files.SETS, name, replace(official_files.SETS[name], records=81))
    with pytest.raises(UserError, match="does not hold the"):
        UNSEEN[name](where, rng(), **SIZES)


FAULTS: dict[str, Callable[[list[str]], Any]] = {
    "a record short": lambda lines: lines.pop(),
    "a record more": lambda lines: lines.append(lines[0]),
    "a feature short": lambda lines: lines.__setitem__(4, lines[4][2:]),
    "a feature more": lambda lines: lines.__setitem__(4, "1," + lines[4]),
    "no bit": lambda lines: lines.__setitem__(4, "2" + lines[4][1:]),
    "another sign between": lambda lines: lines.__setitem__(4, lines[4].replace(",", ";", 1)),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", UNSEEN)
def test_a_file_that_cannot_be_the_official_one_is_refused(
    name: str, fault: str, nothing_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = small(name, tmp_path, monkeypatch, FAULTS[fault])
    with pytest.raises(UserError, match=rf"{official_files.SETS[name].files[0]} from .* is damaged"):
        UNSEEN[name](where, rng(), **SIZES)
    assert not list(nothing_prepared.glob(f"{name}/*"))


def test_stays_are_counted(nothing_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.data import tfds_builders

    where = small("texas100", tmp_path, monkeypatch)
    for n in (79, 81):
        monkeypatch.setattr(tfds_builders, "STAYS", n)
        with pytest.raises(UserError, match="is damaged"):
            texas100.texas100(where, rng(), **SIZES)


@pytest.mark.parametrize("name", UNSEEN)
def test_what_is_no_archive_and_no_table_is_refused(name: str, nothing_prepared: Path, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / official_files.SETS[name].files[0]).write_bytes(b"<html>moved</html>")
    with pytest.raises(UserError, match="is damaged"):
        UNSEEN[name](DataLocation(tmp_path, offline=True), rng())


def test_a_feature_left_open_counts_as_not_found(
    nothing_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave_open(lines: list[str]) -> None:
        lines[:] = ["?" + line[1:] for line in lines]

    where = small("drebin215", tmp_path, monkeypatch, leave_open)
    with pytest.warns(Caveat):
        data = drebin215.drebin215(where, rng(), private=10, holdout=10, public=10)
    assert not data.private.x[:, 0].any()
    assert data.private.x[:, 1:].any()


@pytest.mark.parametrize("offline", [True, False])
def test_a_set_that_nobody_may_download_says_from_where(offline: bool, nothing_prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is downloaded by hand, from https://figshare\.com/") as caught:
        drebin215.drebin215(DataLocation(tmp_path, offline), rng())
    assert "connect to the network" not in str(caught.value)
    assert str(tmp_path / "drebin215") in str(caught.value)


# cards


SLOW = {"mnist": pytest.mark.slow, "fashion_mnist": pytest.mark.slow}


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in components().data])
def test_every_set_has_a_card_whose_size_is_that_of_its_records(name: str, where: DataLocation) -> None:
    component = components().data[name]
    fields = card(component)
    assert all(fields.values()), "a card is five lines of the docstring: " + ", ".join(FIELDS)
    size = fields["Size"].replace(",", "")
    n, features, classes = (int(re.findall(rf"(\d+) {what}", size)[0]) for what in ("records", "features", "classes"))
    if name in UNSEEN:
        assert n == official_files.SETS[name].records
        return
    if name in official_files.SETS:
        files_of(name)
    data = component.function(where, rng(), **component.options)
    distinct = int((re.findall(r"which (\d+) are distinct", size) or [n])[0])
    assert (np.prod(data.private.shape), data.private.classes) == (features, classes)
    with pytest.raises(UserError, match=f"has {distinct} distinct records"):
        component.function(where, rng(), **{**component.options, "private": 10**6})
