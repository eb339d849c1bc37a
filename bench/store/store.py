"""Cells and remembered weights on disk: what is there is complete, whatever was killed, full or run twice at once."""

from __future__ import annotations

import fcntl
import gc
import hashlib
import io
import json
import os
import re
import secrets
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.core.errors import Caveat, UserError
from bench.core.files import file_name, load_arrays, refusals_named, write
from bench.dp.weights_cache import WeightsCache
from bench.store import records
from bench.store.records import CellResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

Key = tuple[str, str, str, int]  # data, defense, attack, seed: the labels of a cell
CONTROLS = "controls"  # the folder of what `bench.runner.controls` stores, which is no data set
PROBES = "probes"  # the folder of what `bench.lint` found of defenses
SCORES = "scores"  # the folder of what `bench.audit` keeps of scores that were handed in
AUDITS = "audits"  # the folder of what `bench.audit` finds of our own defenses
CODE = "code"  # the folder of what `bench.store.code_release` keeps
_DAY = 86_400.0
_SEAL = 16  # bytes


@dataclass(frozen=True)
class Store:
    """A folder of results: <data>/<defense>/<attack>/<seed>.json, and .local/ for what concerns this checkout only."""

    root: Path
    _unkept: set[str] = field(default_factory=set, compare=False, repr=False)  # paths that no earlier process has read

    @property
    def _local(self) -> Path:
        return self.root / ".local"

    def path(self, data: str, defense: str, attack: str, seed: int) -> Path:
        """Where a cell is or will be."""
        return Path(self._name(data, defense, attack, seed))

    def _name(self, data: str, defense: str, attack: str, seed: int) -> str:
        # os.walk names what it finds in the same way
        return os.path.join(self.root, file_name(data), file_name(defense), file_name(attack), f"{seed}.json")

    def save(self, result: CellResult) -> Path:
        """Write one cell, over an older one if there is one. Raises UserError where the disk refuses."""
        path = self.path(result.data, result.defense, result.attack, result.seed)
        write(path, result.to_json())
        return path

    def load(self, data: str, defense: str, attack: str, seed: int) -> CellResult | None:
        """One cell, or None where it is missing or, with a Caveat, unreadable."""
        return self._read(self._name(data, defense, attack, seed))

    def results(self) -> list[CellResult]:
        """All readable cells, sorted by data, defense, attack, seed; each unreadable file is named in a Caveat."""
        found: list[CellResult] = []
        with uncollected():
            for folder, folders, names in os.walk(self.root, onerror=_unlistable):
                own = {CONTROLS, PROBES, SCORES, AUDITS, CODE} if Path(folder) == self.root else set()
                folders[:] = [name for name in folders if not name.startswith(".") and name not in own]
                files = (name for name in sorted(names) if name.endswith(".json") and name[0] != ".")
                read = (self._read(os.path.join(folder, name)) for name in files)
                found += [result for result in read if result is not None]
        return sorted(found, key=lambda cell: (cell.data, cell.defense, cell.attack, cell.seed))

    def _read(self, path: str) -> CellResult | None:
        """One file, read once while it stays the same: whoever writes a cell puts a new file in its place."""
        try:
            known = self._known.get(path)
            if known and known[0] == _state(os.stat(path)):
                return known[1]
            with open(path, "rb") as file:
                state = _state(os.fstat(file.fileno()))
                result = CellResult.from_json(file.read())
            if self._name(result.data, result.defense, result.attack, result.seed) != path:
                raise ValueError("it holds the result of another cell")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            warnings.warn(f"{path} is left out ({error}): delete it or run its cell again.", Caveat, stacklevel=3)
            return None
        self._known[path] = state, result
        self._unkept.add(path)
        return result

    @cached_property
    def _known(self) -> dict[str, tuple[tuple[int, ...], CellResult]]:
        """By path, the state of a file and the cell in it: what this process has read, and what earlier ones kept."""
        with suppress(OSError):
            kept = (self._local / "read").read_bytes()
            seal, packed = kept[:_SEAL], kept[_SEAL:]
            if seal == self._seal(packed):  # so only what `keep_read` packed is parsed, and need not be checked again
                return {
                    path: (tuple(state), CellResult(**values)) for path, (state, values) in json.loads(packed).items()
                }
        return {}

    def keep_read(self) -> None:
        """Spare the next process what this one has read: parsing thousands of cells took longer than their table."""
        if not self._unkept:
            return
        known = {path: (state, vars(one)) for path, (state, one) in self._known.items() if os.path.exists(path)}
        packed = json.dumps(known, separators=(",", ":")).encode()
        with suppress(UserError):  # where nothing can be written, they are parsed again next time
            write(self._local / "read", self._seal(packed) + packed)
            self._unkept.clear()

    def _seal(self, packed: bytes) -> bytes:
        """Stands for the bytes, for who wrote them and for where: another reader might see something else in a file."""
        sealed = hashlib.blake2b(_read_by() + os.fsencode(self.root), digest_size=_SEAL)
        sealed.update(packed)
        return sealed.digest()

    def save_sheet(self, cell: Key, rows: Mapping[str, NDArray[Any]]) -> None:
        """Keep a cell's pictures, uint8 (n, height, width, colours) by name; beside weights, as they show records."""
        self._save_beside("sheets", cell, rows)

    def load_sheet(self, cell: Key) -> dict[str, NDArray[Any]] | None:
        """The pictures of a cell by name, or None where this checkout has none that can be read."""
        return load_arrays(self._beside("sheets", cell))

    def save_answers(self, cell: Key, answers: Mapping[str, NDArray[Any]]) -> None:
        """Keep what a cell's figures are made of, record by record: paired differences and exposure need it.

        Beside weights, for it is large and says who was found.
        """
        self._save_beside("answers", cell, answers)

    def load_answers(self, cell: Key) -> dict[str, NDArray[Any]] | None:
        """What `save_answers` kept, or None where this checkout has none that can be read."""
        return load_arrays(self._beside("answers", cell))

    def _save_beside(self, kind: str, cell: Key, arrays: Mapping[str, NDArray[Any]]) -> None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        write(self._beside(kind, cell), buffer.getvalue())

    def _beside(self, kind: str, cell: Key) -> Path:
        return self._local / kind / self.path(*cell).relative_to(self.root).with_suffix(".npz")

    def check_writable(self) -> None:
        """Raise UserError now rather than after hours of training; clear away what killed writers left a day ago."""
        for folder in (self.root, self._local):
            probe = folder / f"{secrets.token_hex(8)}.tmp"
            write(probe, bytes(1 << 16))
            with refusals_named(folder):
                probe.unlink(missing_ok=True)
        for path in self.root.rglob("*.tmp"):
            with suppress(OSError):  # another process may have been quicker
                if re.fullmatch(r"[0-9a-f]{16}\.tmp", path.name) and time.time() - path.stat().st_mtime > _DAY:
                    path.unlink()

    @property
    def known_machine(self) -> str:
        """The random id of this checkout, or "" where nothing was measured: for whoever only reads, and makes none."""
        with suppress(OSError, ValueError):
            if _is_id(known := (self._local / "machine").read_text("ascii")):
                return known
        return ""

    @property
    def machine(self) -> str:
        """The random id of this checkout (32 hex digits), made on first use; all processes get the same."""
        if known := self.known_machine:
            return known
        path = self._local / "machine"
        # Not exclusive creation: whoever comes second could read the file before the first has filled it.
        with refusals_named(self._local):
            self._local.mkdir(parents=True, exist_ok=True)
            with open(path, "a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                known = file.read().decode("ascii", "replace")
                if not _is_id(known):
                    known = secrets.token_hex(16)
                    file.truncate(0)
                    file.write(known.encode())
        return known

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Wait until no other process is inside; for reading all cells and then writing the board. Not reentrant."""
        with refusals_named(self._local):
            self._local.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._local / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with refusals_named(self._local):
                fcntl.flock(lock, fcntl.LOCK_EX)  # the system lets go when the process dies, however it dies
            yield
        finally:
            os.close(lock)

    @property
    def weights(self) -> WeightsCache:
        """The weights that this checkout has trained."""
        return WeightsCache(self._local / "fits")

    def save_asked(self, digest: str, fits: Mapping[str, float]) -> None:
        """Note what a training or a cell asked for: the keys of its fits, and the seconds that each took when made."""
        write(self._asked(digest), json.dumps(fits, sort_keys=True, allow_nan=False).encode())

    def load_asked(self, digest: str) -> dict[str, float] | None:
        """What a training or a cell asked for when it ran in this checkout, else None."""
        try:
            found = json.loads(self._asked(digest).read_bytes())
            return {str(key): float(seconds) for key, seconds in found.items()}
        except (OSError, ValueError, TypeError, AttributeError):  # a note: without it only the plan knows less
            return None

    def _asked(self, digest: str) -> Path:
        return self._local / "asked" / f"{digest}.json"


@contextmanager
def uncollected() -> Iterator[None]:
    """What is read of thousands of cells stays: the collector would look through all of it, over and over."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def samples_of(cell: Key) -> Key:
    """The sheet on which samples of a cell's release stand, under the name `samples` in place of an attack's."""
    data, defense, _, seed = cell
    return data, defense, "samples", seed


def _state(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_ctime_ns, found.st_size  # anybody can set the time that a file was modified


def _is_id(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{32}", text) is not None


def _unlistable(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        warnings.warn(f"{error.filename} is left out ({error.strerror}): make it readable.", Caveat, stacklevel=4)


@cache
def _read_by() -> bytes:
    """Another Python, or another reader, might see something else in a file."""
    return sys.version.encode() + b"".join(Path(file).read_bytes() for file in (__file__, records.__file__))
