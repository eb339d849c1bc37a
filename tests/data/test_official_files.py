"""Sets of TensorFlow Datasets: missing, damaged or incomplete files are refused by name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import components
from data_fixtures import files_of, parts, rng, same

from bench.core.dataset import DataLocation, shared
from bench.core.errors import UserError
from bench.data import official_files, tfds_source


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_addresses_and_files_equal_those_of_the_builder_in_tfds(name: str) -> None:
    import tensorflow_datasets as tfds

    builder = tfds.builder_cls(name)
    assert official_files.SETS[name].url == builder.URL
    assert {url.rpartition("/")[2] for url in builder.url_infos} == set(official_files.SETS[name].files)


@pytest.mark.parametrize("offline", [True, False])
def test_a_missing_set_is_refused_in_two_seconds_even_if_name_resolution_hangs(offline: bool, tmp_path: Path) -> None:
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
    environment = {**os.environ, "TFDS_DATA_DIR": str(tmp_path / "none"), "PYTHONPATH": str(Path(__file__).parents[2])}
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


def test_a_host_that_answers_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert tfds_source.answers(f"http://{address}/")
        monkeypatch.setenv("http_proxy", f"http://{address}")
        assert tfds_source.answers("http://a-host-behind-the-proxy.invalid/")
    assert not tfds_source.answers("http://a-host-behind-the-proxy.invalid/")


@pytest.mark.usefixtures("nothing_prepared")
def test_an_incomplete_folder_is_refused_with_the_name_of_the_missing_file(tmp_path: Path) -> None:
    (tmp_path / "mnist").mkdir()
    for file in official_files.IDX[:3]:
        (tmp_path / "mnist" / file).touch()
    with pytest.raises(UserError, match=f"mnist lacks {official_files.IDX[3]}"):
        components().data["mnist"].function(DataLocation(tmp_path, offline=True), rng())


def test_an_incomplete_prepared_set_is_refused(nothing_prepared: Path) -> None:
    half = nothing_prepared / "mnist" / "incomplete.ABCDEF_3.0.1"
    half.mkdir(parents=True)
    (half / "mnist-train.tfrecord-00000-of-00001").touch()
    with pytest.raises(UserError, match="not on this machine"):  # the state after a killed preparation
        components().data["mnist"].function(DataLocation(offline=True), rng())
    half.rename(half.with_name("3.0.1"))
    with pytest.raises(UserError, match=r"3\.0\.1 is only a part"):  # the state after a killed copy
        components().data["mnist"].function(DataLocation(offline=True), rng())


IMAGES = [pytest.param(name, marks=pytest.mark.slow) for name in ("mnist", "fashion_mnist")]


@pytest.mark.parametrize("name", IMAGES)
def test_images_are_loaded_by_the_builder_of_tfds(
    name: str, data_location: DataLocation, prepared_sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files_of(name)
    load = components().data[name].function
    data = load(data_location, rng())
    assert capsys.readouterr().out == ""
    assert [len(part) for part in parts(data)] == [50000, 14000, 6000]
    assert shared(data) == 0
    assert (data.private.shape, data.private.classes) == ((28, 28, 1), 10)
    assert (data.private.x.min(), data.private.x.max()) == (0, 1)
    assert not list(prepared_sets.glob("**/*incomplete*")), "the preparation left incomplete files"
    assert tfds_source.columns_once(name, data_location, prepared_sets) is tfds_source.columns_once(
        name, data_location, prepared_sets
    )
    # Prepared now, so it is loaded without files and network.
    assert same(load(DataLocation(offline=True), rng()).public, data.public)


def test_a_prepared_set_with_missing_records_is_refused(nothing_prepared: Path) -> None:
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
def test_a_damaged_official_file_is_refused_by_name_and_nothing_is_prepared(
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
