"""Arrays from untrusted archives: sizes are checked before any array is read, and no object is unpickled."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.core import arrays
from bench.core.arrays import BadArrays, load_arrays, read_arrays


def npy(array: Any, shape: str | None = None) -> bytes:
    """The bytes of one array, optionally with another shape in its header."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    data = buffer.getvalue()
    if shape is not None:
        before = str(np.shape(array)).encode()
        data = data.replace(b"'shape': " + before, b"'shape': " + shape.encode())
        data = data[:8] + struct.pack("<H", data.index(b"\n") + 1 - 10) + data[10:]
    return data


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def encrypted(data: bytes) -> bytes:
    """An archive with its encryption flag set in both headers."""
    spoilt = bytearray(data)
    spoilt[6] |= 1
    spoilt[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(spoilt)


def compressed_as(kind: int) -> bytes:
    data = bytearray(archive({"a.npy": npy(np.ones(4))}))
    data[8:10] = struct.pack("<H", kind)
    at = bytes(data).index(b"PK\x01\x02") + 10
    data[at : at + 2] = struct.pack("<H", kind)
    return bytes(data)


def deep() -> bytes:
    data = npy(np.ones(3))
    return data[:8] + struct.pack("<H", 5000) + b"(" * 4999 + b"\n" + data[-24:]


def test_arrays_saved_by_numpy_are_read_back(tmp_path: Path) -> None:
    made = {"dense/kernel:0": np.arange(6.0).reshape(2, 3), "word": np.array("a"), "none": np.zeros((0, 4)),
            "ends.in.dots": np.array([True]), "fortran": np.asfortranarray(np.arange(6).reshape(2, 3))}  # fmt: skip
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **made)
        for where in (tmp_path / "a.npz", (tmp_path / "a.npz").read_bytes()):
            found = read_arrays(where)
            assert list(found) == list(made)
            for name, array in made.items():
                assert found[name].dtype == array.dtype
                np.testing.assert_array_equal(found[name], array)
    assert list(read_arrays(tmp_path / "a.npz", wanted={"word"})) == ["word"]


BAD: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "no zip": (lambda: b"hello", "", "no archive of arrays"),
    "empty": (lambda: b"", "", "no archive of arrays"),
    "an array": (lambda: npy(np.ones(3)), "", "no archive of arrays"),
    "no array": (lambda: archive({"a.npy": npy(np.ones(3)), "readme": b"x"}), "", "'readme' is no array"),
    "text": (lambda: archive({"a.txt": npy(np.ones(3))}), "", "is no array"),
    "twice": (lambda: _twice(), "a", "two arrays of this name"),
    "encrypted": (lambda: encrypted(archive({"a.npy": npy(np.ones(3))})), "a", "encrypted"),
    "bzip2": (lambda: archive({"a.npy": npy(np.ones(3))}, zipfile.ZIP_BZIP2), "a", "compressed in an unknown way"),
    "lzma": (lambda: archive({"a.npy": npy(np.ones(3))}, zipfile.ZIP_LZMA), "a", "compressed in an unknown way"),
    "unknown": (lambda: compressed_as(93), "a", "compressed in an unknown way"),
    "a billion": (lambda: archive({"a.npy": npy(np.ones(3), "(1000000000,)")}), "a", "not what it holds"),
    "negative": (lambda: archive({"a.npy": npy(np.ones(3), "(-3,)")}), "a", "not what it holds"),
    "huge": (lambda: archive({"a.npy": npy(np.ones(3), "(9" + "9" * 40 + ",)")}), "a", "not what it holds"),
    "a word": (lambda: archive({"a.npy": npy(np.ones(3), "('a',)")}), "a", "no header"),
    "deep": (lambda: archive({"a.npy": deep()}), "a", "no header"),
    "cut": (lambda: archive({"a.npy": npy(np.ones(3))[:-1]}), "a", "not what it holds"),
    "no header": (lambda: archive({"a.npy": b"\x93NUMPY"}), "a", "no header"),
    "objects": (lambda: archive({"a.npy": npy(np.array([None, 1], object))}), "a", "never unpickled"),
    "many": (lambda: archive({f"{i}.npy": b"" for i in range(arrays.MEMBERS + 1)}), "", "members"),
}  # fmt: skip


def _twice() -> bytes:
    data = archive({"a.npy": npy(np.ones(3)), "b.npy": npy(np.ones(3))})
    return data.replace(b"b.npy", b"a.npy")


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_is_no_archive_of_arrays_is_refused(tmp_path: Path, case: str) -> None:
    make, name, why = BAD[case]
    data = make()
    with pytest.raises(BadArrays, match=why.replace("(", r"\(")) as refused:
        read_arrays(data)
    assert refused.value.name == name
    (tmp_path / "a.npz").write_bytes(data)
    assert load_arrays(tmp_path / "a.npz") is None


def test_a_flipped_bit_in_an_array_is_refused() -> None:
    data = archive({"a.npy": npy(np.arange(1000.0))}, zipfile.ZIP_STORED)
    spoilt = bytearray(data)
    spoilt[4000] ^= 1
    with pytest.raises(BadArrays, match="cannot be read"):
        read_arrays(bytes(spoilt))


BOMB = """
import resource, sys
from pathlib import Path
from bench.core.arrays import BadArrays, read_arrays
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_arrays(Path(sys.argv[1]), 1 << 26)
except BadArrays as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_an_archive_that_inflates_above_the_limit_is_refused_unread(tmp_path: Path) -> None:
    """A compressed megabyte that inflates to 256, of which 64 are allowed: no byte is inflated."""
    size = 1 << 28
    path = tmp_path / "bomb.npz"
    path.write_bytes(archive({"a.npy": npy(np.zeros(size, np.uint8))}))
    assert path.stat().st_size < 1 << 20
    done = subprocess.run([sys.executable, "-c", BOMB, path], capture_output=True, text=True, check=True, timeout=60)
    why, grown = done.stdout.splitlines()
    assert "above the limit" in why
    assert int(grown) < 30


def test_the_limit_is_of_all_arrays_together() -> None:
    data = archive({f"{i}.npy": npy(np.zeros(1000, np.uint8)) for i in range(5)})
    assert len(read_arrays(data, 5 * 1128)) == 5
    with pytest.raises(BadArrays, match="above the limit of 5639"):
        read_arrays(data, 5 * 1128 - 1)
