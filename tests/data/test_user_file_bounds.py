"""The parser refuses bounds and arrays that are nested too deeply, too large or malformed, in one sentence."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bench.core.errors import UserError
from bench.data.user_file_parser import parse

ROWS = b"age,sex,label\n1,f,x\n2,m,x\n3,f,y\n4,m,y\n"


def test_bounds_are_read() -> None:
    found = parse(Path("my.csv"), ROWS, b"age: [0, 120]\nsex: [f, m]\n", "label")
    assert [column.given is not None for column in found.columns] == [True, True]


@pytest.mark.parametrize(
    ("bounds", "why"),
    [
        (b"[" * 200_000, "nested too deeply"), (b"age: " + b"[" * 200_000, "nested too deeply"),
        (b"{" * 200_000, "nested too deeply"), (b"age: [0, " + b"1" * (2 << 20) + b"]", "more than 1048576"),
        (b"age: [0", "not valid YAML"), (b"\xff", "not valid YAML"), (b"- a", "a line a column"),
    ],
    ids=range(7),
)  # fmt: skip
def test_malformed_bounds_are_refused_in_one_sentence(bounds: bytes, why: str) -> None:
    with pytest.raises(UserError, match=why) as caught:
        parse(Path("my.csv"), ROWS, bounds, "label")
    assert "\n" not in str(caught.value)


def arrays(
    compression: int = zipfile.ZIP_DEFLATED, size: int | None = None, name: str = "x.npy", **more: object
) -> bytes:
    content = {"x": np.arange(8.0).reshape(4, 2), "label": np.array([0, 0, 1, 1])} | more
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for key, array in content.items():
            member = io.BytesIO()
            np.save(member, np.asarray(array), allow_pickle=True)
            file.writestr(name if key == "x" else f"{key}.npy", member.getvalue())
        if size is not None:
            file.filelist[0].file_size = size
    return buffer.getvalue()


def test_arrays_are_read_within_limits_and_faults_are_named() -> None:
    assert parse(Path("my.npz"), arrays(), b"", "label").n == 4
    for data, why in (
        (arrays(size=4 << 30), "above the limit"), (arrays(zipfile.ZIP_LZMA), "compressed in an unknown way"),
        (arrays(name="x"), "is no array"), (arrays(size=10**9), "not what it holds|cannot be read"),
        (arrays(x=np.array([{}, {}, {}, {}], object)), "'x': it holds Python objects, which are never unpickled"),
        (b"hello", "no archive of arrays"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=why):
            parse(Path("my.npz"), data, b"", "label")
