"""Records and splits that share nothing, scaling that reads nothing private, and sets that are missing or damaged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bench import sources
from bench.data import Data, Examples, Where, record_keys, shared, split
from bench.errors import UserError

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("BENCH_DATA_DIR") or Path(__file__).parents[2] / "shared" / "data")
SMALL = {"digits": (1000, 500, 297), "breast_cancer": (250, 200, 119)}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def planted(n: int = 60, copies: int = 40) -> Examples:
    """`n` distinct records, some of them again at the end under another label."""
    x = rng(1).random((n, 3), np.float32)
    y = np.arange(n) % 4
    return Examples(np.concatenate([x, x[:copies]]), np.concatenate([y, (y[:copies] + 1) % 4]), classes=4)


def careless_split(records: Examples, generator: np.random.Generator) -> Data:
    """The mutant: a split that takes copies for different records."""
    a, b, c = np.split(generator.permutation(len(records))[:60], [20, 40])
    return Data("careless", records[a], records[b], records[c])


def same(a: Examples, b: Examples) -> bool:
    return np.array_equal(a.x, b.x) and np.array_equal(a.y, b.y)


def parts(data: Data) -> tuple[Examples, Examples, Examples]:
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
    def draw(seed: int) -> Data:
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
    load = getattr(sources, name)
    data = load(Where(), rng())
    assert data.name == name
    assert tuple(len(part) for part in parts(data)) == SMALL[name]
    assert shared(data) == 0
    for part in parts(data):
        assert part.x.min() >= 0
        assert part.x.max() <= 1
    assert data.public.x.max() == 1
    assert data.private.shape == {"digits": (8, 8, 1), "breast_cancer": (30,)}[name]
    assert all(map(same, parts(data), parts(load(Where(), rng()))))
    assert not same(data.private, load(Where(), rng(1)).private)
    assert [len(part) for part in parts(load(Where(), rng(), private=7, holdout=5, public=50))] == [7, 5, 50]
    with pytest.raises(UserError, match="distinct records"):
        load(Where(), rng(), private=10**5)


def extreme(data: Data, part: str, value: float) -> Data:
    """The same split, with one record of a part at an extreme."""
    records: Examples = getattr(data, part)
    x = records.x.copy()
    x[0] = value
    return Data(**{**vars(data), part: Examples(x, records.y, records.classes)})


def careless_scaling(data: Data) -> Data:
    """The mutant: ranges over every record."""
    everything = np.concatenate([part.x for part in parts(data)])
    low, high = everything.min(0), everything.max(0)
    return Data(data.name, *(Examples((p.x - low) / (high - low), p.y, p.classes) for p in parts(data)))


def moved_by_an_extreme(scale: Callable[[Data], Data], part: str, value: float) -> bool:
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
    assert not moved_by_an_extreme(sources.scaled, part, value)
    assert moved_by_an_extreme(careless_scaling, part, value), "the check does not see a scaling that reads everything"
    assert moved_by_an_extreme(sources.scaled, "public", value), "the check does not see what scaling reads"


def test_an_extreme_record_in_a_whole_set_changes_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the loaders themselves, scaling sets or not: one private record at an extreme, all others bit for bit."""
    import sklearn.datasets

    for name, field in (("digits", "images"), ("breast_cancer", "data")):
        load, fetch = getattr(sources, name), getattr(sklearn.datasets, f"load_{name}")
        raw = fetch()
        before = load(Where(), rng())
        row = rng().permutation(len(raw.target))[0]  # no copies in these sets: the first record of `private`
        raw[field] = raw[field].copy()
        raw[field][row] = 1e5
        monkeypatch.setattr(sklearn.datasets, f"load_{name}", lambda raw=raw: raw)
        after = load(Where(), rng())
        assert not same(before.private[:1], after.private[:1])
        assert same(before.private[1:], after.private[1:])
        assert same(before.holdout, after.holdout)
        assert same(before.public, after.public)


def test_a_public_part_too_small_to_scale_by_is_refused() -> None:
    with pytest.raises(UserError, match="public=1 records are too few"):
        sources.breast_cancer(Where(), rng(), public=1)


# sets through TensorFlow Datasets


@pytest.mark.parametrize("name", sources.CONTENT)
def test_the_addresses_and_files_are_those_of_the_real_builder(name: str) -> None:
    import tensorflow_datasets as tfds

    builder = tfds.builder_cls(name)
    assert sources.URLS[name] == builder.URL
    assert {url.rpartition("/")[2] for url in builder.url_infos} == set(sources.FILES)


@pytest.mark.parametrize("offline", [True, False])
def test_a_missing_set_is_refused_in_two_seconds_even_where_resolving_hangs(offline: bool, tmp_path: Path) -> None:
    program = f"""
        import json, socket, sys, time
        from pathlib import Path
        import numpy as np
        from bench import sources
        from bench.data import Where
        from bench.errors import UserError

        asked = []
        socket.getaddrinfo = lambda *a, **k: (asked.append(a), time.sleep(60))
        start = time.monotonic()
        try:
            sources.mnist(Where(Path({str(tmp_path)!r}), {offline}), np.random.default_rng())
        except UserError as error:
            print(json.dumps([time.monotonic() - start, str(error), "tensorflow" in sys.modules, bool(asked)]))
    """
    environment = {**os.environ, "TFDS_DATA_DIR": str(tmp_path / "none"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=environment, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    seconds, sentence, imported, asked = json.loads(done.stdout)
    assert seconds < 2
    assert not imported
    assert asked == (not offline)
    assert str(tmp_path / "mnist") in sentence
    assert all(file in sentence for file in sources.FILES)
    assert ("--offline" in sentence) == offline
    assert sentence.count(". ") == 0


def test_an_answering_host_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert sources._answers(f"http://{address}/")
        monkeypatch.setenv("http_proxy", f"http://{address}")
        assert sources._answers("http://a-host-behind-the-proxy.invalid/")
    assert not sources._answers("http://a-host-behind-the-proxy.invalid/")


@pytest.fixture
def nothing_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "prepared"
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    return folder


@pytest.mark.usefixtures("nothing_prepared")
def test_an_incomplete_folder_is_refused_by_the_missing_file(tmp_path: Path) -> None:
    (tmp_path / "mnist").mkdir()
    for file in sources.FILES[:3]:
        (tmp_path / "mnist" / file).touch()
    with pytest.raises(UserError, match=f"mnist lacks {sources.FILES[3]}"):
        sources.mnist(Where(tmp_path, offline=True), rng())


def test_half_of_a_prepared_set_is_never_taken_for_a_whole(nothing_prepared: Path) -> None:
    half = nothing_prepared / "mnist" / "incomplete.ABCDEF_3.0.1"
    half.mkdir(parents=True)
    (half / "mnist-train.tfrecord-00000-of-00001").touch()
    with pytest.raises(UserError, match="not on this machine"):  # what a killed preparation leaves
        sources.mnist(Where(offline=True), rng())
    half.rename(half.with_name("3.0.1"))
    with pytest.raises(UserError, match=r"3\.0\.1 is only a part"):  # what a killed copy leaves
        sources.mnist(Where(offline=True), rng())


def official(name: str) -> Path:
    """The folder of the official files, or a skip that says what to do."""
    for folder in (DATA / name, DATA / "tfds_manual" / name):
        if all((folder / file).is_file() for file in sources.FILES):
            return folder
    pytest.skip(f"the official {name} files are not in {DATA}: set BENCH_DATA_DIR")


IMAGES = ["mnist", pytest.param("fashion_mnist", marks=pytest.mark.slow)]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for prepared sets, in which TFDS once unpacked another set's files, which have the same names."""
    folder = tmp_path_factory.mktemp("tfds")
    unpacked = folder / "downloads" / "extracted"
    unpacked.mkdir(parents=True)
    for file in sources.FILES:
        (unpacked / f"GZIP.{file}").write_bytes(bytes(28 * 28 * 60000 + 16))
    yield folder
    sources._arrays.cache_clear()


@pytest.fixture
def where(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Where:
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    return Where(DATA, offline=True)


@pytest.mark.parametrize("name", IMAGES)
def test_images_come_through_the_real_builder(
    name: str, where: Where, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    official(name)
    load = getattr(sources, name)
    data = load(where, rng())
    assert capsys.readouterr().out == ""
    assert [len(part) for part in parts(data)] == [50000, 14000, 6000]
    assert shared(data) == 0
    assert (data.private.shape, data.private.classes) == ((28, 28, 1), 10)
    assert (data.private.x.min(), data.private.x.max()) == (0, 1)
    assert not list(prepared.glob("**/*incomplete*")), "the preparation left something behind"
    assert sources._arrays(name, where, prepared)[0] is sources._arrays(name, where, prepared)[0]
    # Prepared now, so it is found without the files and without the network.
    assert same(load(Where(offline=True), rng()).public, data.public)


def test_a_prepared_set_that_is_not_the_whole_one_is_refused(nothing_prepared: Path) -> None:
    import tensorflow_datasets as tfds

    config = tfds.download.DownloadConfig(
        manual_dir=official("mnist"), try_download_gcs=False, max_examples_per_split=9
    )
    builder = tfds.builder("mnist", data_dir=nothing_prepared)
    builder.download_and_prepare(download_config=config)
    with pytest.raises(UserError, match=r"mnist/3\.0\.1 does not hold the mnist of its authors"):
        sources.mnist(Where(offline=True), rng())
    file = next(Path(builder.data_dir).glob("*train.tfrecord*"))
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"mnist/3\.0\.1 cannot be read .* delete it"):
        sources.mnist(Where(offline=True), rng())


@pytest.mark.parametrize("file", ["train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz"])
def test_a_damaged_official_file_is_refused_by_name_and_leaves_nothing(
    file: str, nothing_prepared: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "files" / "mnist"
    shutil.copytree(official("mnist"), folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    damaged = bytearray((folder / file).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (folder / file).write_bytes(damaged)
    with pytest.raises(UserError, match=f"{file} from {folder} is damaged"):
        sources.mnist(Where(tmp_path / "files", offline=True), rng())
    assert not list(nothing_prepared.glob("mnist/*"))
    assert not list(nothing_prepared.glob("incomplete*"))
