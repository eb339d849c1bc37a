"""Records what a component does besides its computation: files of records read, hosts connected to, text printed."""

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
class SideEffects:
    """Files opened for reading, hosts connected to, and text printed."""

    files: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    printed: io.StringIO = field(default_factory=io.StringIO)

    def violations(self) -> Iterator[str]:
        """A sentence for each file and host that the component must not use."""
        for file in dict.fromkeys(self.files):
            yield f"it reads {Path(file).name}: take records from the arguments, which hold no holdout records."
        for host in dict.fromkeys(self.hosts):
            yield f"it connects to {host}: take what it needs as a public record or an option."


class _Tee(io.TextIOBase):
    """Keeps what is printed and copies it to stderr, so that stdout holds verdicts alone."""

    def __init__(self, kept: io.StringIO) -> None:
        self.kept = kept

    def write(self, text: str) -> int:
        sys.stderr.write(text)
        return self.kept.write(text)


_recording: list[SideEffects] = []
_hooked: list[bool] = []


@contextmanager
def recording_side_effects() -> Iterator[SideEffects]:
    """Record the side effects of this block."""
    if not _hooked:  # an audit hook cannot be removed
        sys.addaudithook(_audit_hook)
        _hooked.append(True)
    effects = SideEffects()
    _recording.append(effects)
    try:
        with redirect_stdout(_Tee(effects.printed)):
            yield effects
    finally:
        _recording.remove(effects)


def _audit_hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _recording:
        return
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        path = os.fsdecode(arguments[0])
        cached = Path(path).parent.name == "fits"  # weights that bench itself caches
        if path.lower().endswith(RECORDS) and _reads(arguments) and not cached:
            _recording[-1].files.append(path)
    elif event == "socket.connect":
        _recording[-1].hosts.append(str(arguments[1]))


def _reads(arguments: tuple[Any, ...]) -> bool:
    mode, flags = arguments[1], arguments[2]
    return "r" in mode if isinstance(mode, str) else not (flags or 0) & (os.O_WRONLY | os.O_RDWR)
