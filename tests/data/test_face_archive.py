"""The archive of AT&T faces is read, downloaded and checked."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import components
from data_fixtures import rng

from bench.core.dataset import DataLocation
from bench.core.errors import UserError
from bench.data import official_files, tfds_source


# The archive of faces as it is downloaded, made small
def archive(path: Path, pictures: np.ndarray[Any, Any], *, kind: bytes = b"P5", skip: str = "") -> Path:
    """An archive of PGM files and a README in the layout of att_faces.zip."""
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("att_faces/README", "synthetic")
        for i, picture in enumerate(pictures):
            name, (height, width) = f"s{i // 10 + 1}/{i % 10 + 1}.pgm", picture.shape
            if name != skip:
                made.writestr(f"att_faces/{name}", kind + b"\n%d %d\n255\n" % (width, height) + picture.tobytes())
    return path


def random_faces() -> np.ndarray[Any, Any]:
    return rng(3).integers(0, 256, (400, 5, 4), np.uint8)


def test_faces_of_the_archive_equal_those_of_the_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.data import tfds_builders

    pictures, labels = random_faces(), np.repeat(np.arange(40), 10)
    pictures[0, 0, :2] = [10, 32]  # pixels that are white space, which the parser of the header must keep
    monkeypatch.setattr(tfds_builders, "PIXELS", hashlib.sha256(pictures.tobytes()).hexdigest())
    shuffled = np.concatenate([np.flatnonzero(labels % 2), np.flatnonzero(labels % 2 == 0)])
    np.savez(tmp_path / "att_faces.npz", images=pictures[shuffled], labels=labels[shuffled])
    for path in (archive(tmp_path / "att_faces.zip", pictures), tmp_path / "att_faces.npz"):
        assert np.array_equal(tfds_builders.faces(path), pictures)


@pytest.mark.parametrize("fault", ["another picture", "no header", "a picture short", "cut off", "no archive"])
def test_another_archive_is_refused(fault: str, nothing_prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "att_faces").mkdir()
    pictures, path = random_faces(), tmp_path / "att_faces" / "att_faces.zip"
    archive(path, pictures, kind=b"P2" if fault == "no header" else b"P5", skip="s7/3.pgm" if "short" in fault else "")
    if fault == "cut off":
        path.write_bytes(path.read_bytes()[:-30])
    if fault == "no archive":
        path.write_bytes(b"<html>moved</html>")
    with pytest.raises(UserError, match=r"att_faces\.zip from .* is damaged") as caught:
        components().data["att_faces"].function(DataLocation(tmp_path, offline=True), rng())
    assert "\n" not in str(caught.value)
    assert not list(nothing_prepared.glob("att_faces/*"))


def test_faces_are_downloaded_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a local server: TFDS cannot check this download, so the builder does."""
    import tensorflow_datasets as tfds

    from bench.data import tfds_builders

    pictures = random_faces()
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
