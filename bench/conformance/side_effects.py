"""What foreign code reaches for while it runs beside what it was handed: files of records, the network, its words."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RECORDS = (".csv", ".gz", ".npy", ".npz", ".parquet", ".pkl", ".h5", ".arff", ".mat", ".tfrecord", ".data")


@dataclass
class Reach:
    """Files that were opened for reading and hosts that were connected to, and what was printed."""

    files: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    said: io.StringIO = field(default_factory=io.StringIO)

    def wrong(self) -> Iterator[str]:
        """A sentence for whatever was fetched that nobody handed over."""
        for file in dict.fromkeys(self.files):
            yield f"it reads {Path(file).name}: records come as arguments, so that holdout ones stay out of reach."
        for host in dict.fromkeys(self.hosts):
            yield f"it connects to {host}: take what it needs as a public record or an option."


class _Aloud(io.TextIOBase):
    """Where print goes: kept, and shown on stderr, so that stdout holds verdicts alone."""

    def __init__(self, kept: io.StringIO) -> None:
        self.kept = kept

    def write(self, text: str) -> int:
        sys.stderr.write(text)
        return self.kept.write(text)


_watching: list[Reach] = []
_hooked: list[bool] = []


@contextmanager
def reaching() -> Iterator[Reach]:
    """Watch what happens within."""
    if not _hooked:  # it cannot be taken off again
        sys.addaudithook(_heard)
        _hooked.append(True)
    reach = Reach()
    _watching.append(reach)
    try:
        with redirect_stdout(_Aloud(reach.said)):
            yield reach
    finally:
        _watching.remove(reach)


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        path = os.fsdecode(arguments[0])
        remembered = Path(path).parent.name == "fits"  # what the bench itself keeps of trainings
        if path.lower().endswith(RECORDS) and _reads(arguments) and not remembered:
            _watching[-1].files.append(path)
    elif event == "socket.connect":
        _watching[-1].hosts.append(str(arguments[1]))


def _reads(arguments: tuple[Any, ...]) -> bool:
    mode, flags = arguments[1], arguments[2]
    return "r" in mode if isinstance(mode, str) else not (flags or 0) & (os.O_WRONLY | os.O_RDWR)
