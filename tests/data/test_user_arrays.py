"""Arrays of the user (.npz) become data sets, and mistakes in them are refused in one sentence."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_fixtures import PEOPLE, parts
from user_files import load, selected

from bench.core.dataset import DataLocation
from bench.core.errors import Caveat, UserError


def arrays(path: Path, **changed: Any) -> Path:
    rng = np.random.default_rng(0)
    content = {"x": rng.integers(0, 256, (PEOPLE, 4, 5, 1)), "y": np.arange(PEOPLE) % 3, "low": 0, "high": 255}
    np.savez(path, **{key: value for key, value in {**content, **changed}.items() if value is not None})
    return path


def test_arrays_are_loaded_as_pictures_or_features(tmp_path: Path) -> None:
    path = arrays(tmp_path / "my.npz")
    data = load(path, "")
    assert data.private.shape == (4, 5, 1)
    assert data.private.classes == 3
    rows = {row.tobytes() for row in np.load(path)["x"].astype(np.uint8)}
    assert {np.round(x * 255).astype(np.uint8).tobytes() for part in parts(data) for x in part.x} == rows
    assert selected(path, "").component.has == {"pictures"}
    features = np.random.default_rng(1).normal(size=(PEOPLE, 7))
    flat = arrays(tmp_path / "flat.npz", x=features, kind=np.array(["a", "b"] * 200))
    assert load(flat, "label=kind").private.classes == 2
    bare = selected(arrays(tmp_path / "bare.npz", low=None, high=None), "")
    with pytest.warns(Caveat, match="the range of x"):
        bare.component.function(DataLocation(), np.random.default_rng(0), **bare.settings)


NPZ: dict[str, tuple[dict[str, Any], str]] = {
    "no x": ({"x": None}, "no array 'x'"),
    "no label": ({"y": None, "yy": np.arange(PEOPLE) % 3}, "no array 'y'"),
    "pickled": ({"x": np.array([{}] * PEOPLE, object)}, "Python objects, which are never unpickled"),
    "text": ({"x": np.array([["a"]] * PEOPLE)}, "x must be numbers"),
    "one dimension": ({"x": np.arange(PEOPLE)}, "x must be numbers"),
    "too few labels": ({"y": np.arange(3)}, "for each of the 400 records"),
    "fractional labels": ({"y": np.arange(PEOPLE) / 7}, "a whole number or a word"),
    "single label": ({"y": 7 * (np.arange(PEOPLE) == 0)}, "record 0: no other record has the label '7'"),
    "nan": ({"x": np.where(np.arange(PEOPLE * 2).reshape(PEOPLE, 2) == 7, np.nan, 1.0)}, "record 3: x holds a value"),
    "low without high": ({"high": None}, "low and high must both be there"),
    "low above high": ({"low": 255, "high": 0}, "low below high"),
    "ranges of another shape": ({"low": np.zeros(3), "high": np.ones(3)}, "one a feature"),
}


@pytest.mark.parametrize(("changed", "why"), NPZ.values(), ids=NPZ)
def test_a_mistake_in_arrays_is_refused(changed: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=why) as caught:
        load(arrays(tmp_path / "my.npz", **changed), "")
    assert "\n" not in str(caught.value)


def test_a_file_of_another_format_is_refused_and_never_unpickled(tmp_path: Path) -> None:
    import pickle

    class Executed:
        def __reduce__(self) -> Any:
            return (Path(tmp_path / "executed").touch, ())

    plain, buffer = tmp_path / "my.npz", io.BytesIO()
    np.save(buffer, np.arange(3))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("x.npy", b"nothing")
        made.writestr("y.npy", b"nothing")
    cut = arrays(tmp_path / "whole.npz").read_bytes()[:-40]
    for data in (pickle.dumps(Executed()), buffer.getvalue(), b"", b"<html>", archive.getvalue(), cut):
        plain.write_bytes(data)
        with pytest.raises(UserError, match=r"my\.npz (cannot be read|has no array)|x must be numbers"):
            load(plain, "")
    assert not (tmp_path / "executed").exists()
