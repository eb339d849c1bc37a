"""Arrays from `.npz` files of anybody: sizes are read from headers first, and nothing is ever unpickled."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 1 << 30  # bytes of all arrays of a file together, unpacked
CACHED = 1 << 33  # the same for files that this program made
MEMBERS = 10_000
PICKLED = "it holds Python objects, which are never unpickled"


class BadArrays(ValueError):
    """A file that is no archive of arrays within the limits. name: of the array at fault, "" for the file itself."""

    def __init__(self, why: str, name: str = "") -> None:
        super().__init__(why)
        self.name = name


def read_arrays(file: Path | bytes, most: int = MOST, wanted: Container[str] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of an `.npz`, by name, or those of them that are wanted.

    No array is read before the headers of all said that together they have at most `most` bytes. Raises BadArrays
    (also for encrypted members, other compression than deflate, and members that are no arrays), OSError where the
    file cannot be read.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(file) if isinstance(file, bytes) else file) as archive:
            members = _checked(archive, most)
            return {
                name: _array(archive, name, one) for name, one in members.items() if wanted is None or name in wanted
            }
    except (BadArrays, OSError):
        raise
    except Exception:  # noqa: BLE001 - zipfile fails on foreign files in a dozen ways
        raise BadArrays("it is no archive of arrays") from None


def load_arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    """The arrays of a file that this program made, None where it cannot be read: then they are made again."""
    try:
        return read_arrays(path, CACHED) if path.is_file() else None
    except (BadArrays, OSError):
        return None


def _checked(archive: zipfile.ZipFile, most: int) -> dict[str, zipfile.ZipInfo]:
    """The members by the names of their arrays. Raises BadArrays where one is no array or all are too large."""
    members, total = archive.infolist(), 0
    if len(members) > MEMBERS:
        raise BadArrays(f"it has {len(members)} members, more than {MEMBERS}")
    found: dict[str, zipfile.ZipInfo] = {}
    for one in members:
        name, dot, kind = one.filename.rpartition(".")
        if not dot or kind != "npy":
            raise BadArrays(f"its member {one.filename[:100]!r} is no array (.npy)")
        if name in found:
            raise BadArrays("it holds two arrays of this name", name)
        if one.flag_bits & 1:
            raise BadArrays("it is encrypted", name)
        if one.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BadArrays("it is compressed in an unknown way", name)
        total += one.file_size
        if total > most:
            raise BadArrays(f"its arrays have {total} bytes and more, above the limit of {most}")
        found[name] = one
    for name, one in found.items():
        _check_header(archive, name, one)
    return found


def _check_header(archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo) -> None:
    """Raise BadArrays where an array would need more bytes than its member has, or holds objects."""
    try:
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
            reader = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, _, dtype = reader(file)  # type: ignore[no-untyped-call]
            start = file.tell()
    except Exception:  # noqa: BLE001 - headers are parsed as Python, which fails in a dozen ways
        raise BadArrays("it has no header that can be read", name) from None
    if dtype.hasobject:
        raise BadArrays(PICKLED, name)
    if min(shape, default=0) < 0 or start + math.prod(shape) * dtype.itemsize != member.file_size:
        raise BadArrays(f"its header says {shape} of {dtype}, which is not what it holds", name)


def _array(archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo) -> NDArray[Any]:
    try:
        with archive.open(member) as file:
            found: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)  # type: ignore[no-untyped-call]
            return found
    except Exception:  # noqa: BLE001
        raise BadArrays("it cannot be read", name) from None
