"""Cached weights and contact sheets: returned unchanged, never pickled, and replaced when damaged."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from bench.store.store import Store


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_weights_are_returned_unchanged(tmp_path):
    here = Store(tmp_path)
    arrays = {"dense/kernel:0": np.arange(6, dtype=np.float32).reshape(2, 3), "step": np.int64(3) * np.ones((), int)}
    assert here.weights.load("k") is None
    here.weights.save("k", arrays)
    again = here.weights.load("k")
    assert again is not None
    assert list(again) == list(arrays)
    for name, array in arrays.items():
        assert again[name].dtype == array.dtype
        assert again[name].shape == array.shape
        np.testing.assert_array_equal(again[name], array)


def test_pickles_are_neither_written_nor_executed(tmp_path):
    here, trace = Store(tmp_path), tmp_path / "ran"
    bomb = np.array([Bomb(trace)], object)
    with pytest.raises(ValueError, match="objects"):
        here.weights.save("k", {"a": bomb})
    assert list(tmp_path.iterdir()) == []
    path = tmp_path / ".local" / "fits" / "k.npz"
    path.parent.mkdir(parents=True)
    for spoil in (
        lambda: np.savez(path, good=np.ones(3), bad=bomb),
        lambda: path.write_bytes(pickle.dumps(Bomb(trace))),
    ):
        spoil()
        assert here.weights.load("k") is None
        assert not trace.exists()
    np.savez(path, bad=bomb)
    assert np.load(path, allow_pickle=True)["bad"].shape == (1,)  # the mutant that unpickles executes it
    assert trace.exists()


def test_damaged_weights_count_as_absent_and_are_replaced(tmp_path):
    here, arrays = Store(tmp_path), {"a": np.arange(1000.0)}
    here.weights.save("k", arrays)
    path = tmp_path / ".local" / "fits" / "k.npz"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (b"", b"PK\x03\x04", whole[: len(whole) // 2], whole[:-1], bytes(flipped), b"\x80\x04.", b"hello"):
        path.write_bytes(damaged)
        assert here.weights.load("k") is None, damaged[:10]
    np.save(path.with_suffix(".npy"), np.ones(3))
    os.replace(path.with_suffix(".npy"), path)
    assert here.weights.load("k") is None
    here.weights.save("k", arrays)
    np.testing.assert_array_equal((here.weights.load("k") or {})["a"], arrays["a"])


def test_contact_sheets_are_returned_unchanged_and_stay_out_of_git(tmp_path):
    here, name = Store(tmp_path), ("digits", "none,steps=3", "gradient_inversion", 0)
    rows = {"true": np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4, 1)}
    assert here.load_sheet(name) is None
    here.save_sheet(name, rows)
    back = here.load_sheet(name)
    assert back.keys() == rows.keys()
    assert np.array_equal(back["true"], rows["true"])
    assert here.load_sheet((*name[:3], 1)) is None
    [path] = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert path.relative_to(tmp_path).parts[0] == ".local"  # pictures of private records
    path.write_bytes(b"PK nothing")
    assert here.load_sheet(name) is None
