"""Files that are complete or absent: atomic writes, reading within limits, file names for labels."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from urllib.parse import quote

from bench.core.digest import digest
from bench.core.errors import UserError


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
        except IsADirectoryError:
            raise UserError(
                f"{path} is a folder where a file should be: move it away, then run the same command again."
            ) from None
        finally:
            with suppress(OSError):  # gone when all went well; otherwise the first error is the one to tell
                temporary.unlink()


def write_if_changed(path: Path, data: bytes) -> None:
    """`write`, unless the file holds this already: who may only read still gets by. Raises UserError for a folder."""
    if path.is_dir():
        raise UserError(f"{path} is a folder where a file should be: move it away, then run the same command again.")
    if not (path.is_file() and path.read_bytes() == data):
        write(path, data)


def read_regular(path: str | Path, most: int) -> bytes:
    """The bytes of a regular file or of what a link leads to.

    Raises ValueError for anything else (opening a pipe would wait for its writer) and above `most` bytes, OSError
    where it cannot be read.
    """
    _check_regular(os.stat(path), most)
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # nor waits if a pipe took its place just now
    try:
        _check_regular(found := os.fstat(file), most)
        data = os.read(file, found.st_size + 1)
        while more := os.read(file, most):  # a file that grows, or a read that was cut short
            data += more
            if len(data) > most:
                raise ValueError(f"it is larger than {most} bytes")
        return data
    finally:
        os.close(file)


def _check_regular(found: os.stat_result, most: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is a folder" if stat.S_ISDIR(found.st_mode) else "it is no regular file")
    if found.st_size > most:
        raise ValueError(f"it has {found.st_size} bytes, more than {most}")


@cache
def file_name(label: str) -> str:
    """A file name for a label: no separator, never hidden, never "..", within the 255 bytes of file systems."""
    name = quote(label, safe=",=.+-_")
    name = "%2E" + name[1:] if name.startswith(".") else name
    return name if len(name) <= 200 else f"{name[:160]}~{digest(label)}"
