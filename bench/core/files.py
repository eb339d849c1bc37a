"""Files that are complete or absent: atomic writes, file names for labels, arrays read without running code."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from bench.core.digest import digest
from bench.core.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@contextmanager
def refusals_named(folder: Path) -> Iterator[None]:
    """Turn what the operating system refuses into a sentence about the folder."""
    try:
        yield
    except OSError as error:
        reason = "a file is in its place" if isinstance(error, FileExistsError) else error.strerror or str(error)
        raise UserError(
            f"cannot write to {folder} ({reason}): free space there, make it writable or choose another folder, "
            "then run the same command again."
        ) from error


def write(path: Path, data: bytes) -> None:
    """Put data at path whole or not at all; two writers do not mix. Raises UserError where the disk refuses."""
    # A name of its own, and not mkstemp: its mode 0600 would hide the results from everybody else.
    temporary = path.parent / f"{secrets.token_hex(8)}.tmp"
    with refusals_named(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # else the new name may outlive a power cut and its content not
            os.replace(temporary, path)
        finally:
            with suppress(OSError):  # gone when all went well; otherwise the first error is the one to tell
                temporary.unlink()


def write_if_changed(path: Path, data: bytes) -> None:
    """`write`, unless the file holds this already: who may only read still gets by. Raises UserError for a folder."""
    if path.is_dir():
        raise UserError(f"{path} is a folder where a file should be: move it away, then run the same command again.")
    if not (path.is_file() and path.read_bytes() == data):
        write(path, data)


def load_arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception:  # noqa: BLE001 (zipfile and numpy fail on foreign files in a dozen ways: all mean, make it again)
        return None
    return arrays if all(isinstance(array, np.ndarray) for array in arrays.values()) else None


@cache
def file_name(label: str) -> str:
    """A file name for a label: no separator, never hidden, never "..", within the 255 bytes of file systems."""
    name = quote(label, safe=",=.+-_")
    name = "%2E" + name[1:] if name.startswith(".") else name
    return name if len(name) <= 200 else f"{name[:160]}~{digest(label)}"
