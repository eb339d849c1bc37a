"""A folder of results: records, weights, pictures and answers, complete whatever is killed, full or run twice."""

from __future__ import annotations

import fcntl
import gc
import io
import json
import os
import re
import secrets
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

from bench.core.arrays import load_arrays
from bench.core.errors import Caveat
from bench.core.files import file_name, read_regular, refusals_named, write
from bench.dp.weights_cache import WeightsCache
from bench.store import read_write
from bench.store.records import (
    AUDITS,
    CODE,
    CONTROLS,
    PROBES,
    SCORES,
    CellResult,
    ControlResult,
    LintVerdict,
    Record,
    place_of_label,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AUDITS", "CODE", "CONTROLS", "DAY", "PROBES", "SCORES", "Key", "Store", "samples_of", "uncollected"]

R = TypeVar("R", bound=Record)
L = TypeVar("L", ControlResult, LintVerdict)
Key = tuple[str, str, str, int]  # data, defense, attack, seed: the labels of a cell
_NO_CELLS = frozenset({CONTROLS, PROBES, SCORES, AUDITS, CODE})
DAY = 86_400.0  # seconds after which what a writer left behind is nobody's


@dataclass(frozen=True)
class Store:
    """A folder of results: <data>/<defense>/<attack>/<seed>.json, and .local/ for what concerns this checkout only.

    A symbolic link, to a folder or to a file, counts as what it leads to.
    """

    root: Path
    # By path, the state of a file and the cell in it: what this object has read.
    _read: dict[str, tuple[tuple[int, ...], CellResult]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def _local(self) -> Path:
        return self.root / ".local"

    def path(self, data: str, defense: str, attack: str, seed: int) -> Path:
        """Where a cell is or will be."""
        return Path(self._name(data, defense, attack, seed))

    def _name(self, data: str, defense: str, attack: str, seed: int) -> str:
        return os.path.join(self.root, file_name(data), file_name(defense), file_name(attack), f"{seed}.json")

    def save(self, record: Record) -> Path:
        """Write one record, over an older one if there is one. Raises UserError where the disk refuses."""
        return read_write.save(self.root, record)

    def load(self, data: str, defense: str, attack: str, seed: int) -> CellResult | None:
        """One cell, or None where it is missing or, with a Caveat, unreadable."""
        return self._cell(self._name(data, defense, attack, seed))

    def results(self, data: Iterable[str] | None = None) -> list[CellResult]:
        """All readable cells, sorted by data, defense, attack, seed; each unreadable file is named in a Caveat.

        data: the labels of the data sets whose cells are read, by default of all.
        """
        with uncollected():
            if data is None:
                files = _files(os.fspath(self.root), 3, _NO_CELLS)
            else:
                files = chain.from_iterable(_files(os.path.join(self.root, file_name(one)), 2) for one in data)
            found = [result for path in files if (result := self._cell(path)) is not None]
        return sorted(found, key=lambda cell: (cell.data, cell.defense, cell.attack, cell.seed))

    def _cell(self, path: str) -> CellResult | None:
        """One file, read once while it stays the same: a writer always puts a new file in its place."""
        with suppress(OSError):
            state = _state(os.stat(path))
            known = self._read.get(path)
            if known and known[0] == state:
                return known[1]
            result = read_write.load(self.root, path, CellResult)
            if result is not None:
                self._read[path] = state, result
            return result
        return read_write.load(self.root, path, CellResult)  # which says what is wrong

    def read(self, kind: type[R], *place: str) -> R:
        """A record by its place. Raises FileNotFoundError, or `read_write.Damaged` where the file holds none."""
        return read_write.read(self.root, os.path.join(self.root, *place), kind)

    def find(self, kind: type[R], *place: str) -> R | None:
        """A record by its place, or None where it is missing or, with a Caveat, damaged."""
        return read_write.load(self.root, os.path.join(self.root, *place), kind)

    def read_label(self, kind: type[L], label: str) -> L | None:
        """The control of an attack or the verdict on a defense, or None where there is none. Raises Damaged."""
        try:
            return self.read(kind, *place_of_label(kind, label))
        except FileNotFoundError:
            return None

    def find_label(self, kind: type[L], label: str) -> L | None:
        """As `read_label`, but None with a Caveat where it is damaged."""
        return self.find(kind, *place_of_label(kind, label))

    def every(self, kind: type[R], folder: str, depth: int) -> list[R]:
        """All records `depth` folders below a folder of the results; each damaged file is named in a Caveat."""
        files = _files(os.path.join(self.root, folder), depth)
        return [one for path in files if (one := read_write.load(self.root, path, kind)) is not None]

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

    def files(self) -> dict[str, tuple[int, ...]]:
        """The state of every file but those of this checkout, by path; it changes whenever a file is written."""
        found: dict[str, tuple[int, ...]] = {}
        for folder, folders, files in os.walk(self.root, followlinks=True):
            folders[:] = [name for name in folders if name[0] != "."]
            for path in (os.path.join(folder, name) for name in files):
                with suppress(OSError):  # a writer's temporary file is gone by now
                    found[path] = _state(os.stat(path))
        return found

    def check_writable(self) -> None:
        """Raise UserError now rather than after hours of training; clear away what killed writers left a day ago."""
        for folder in (self.root, self._local):
            probe = folder / f"{secrets.token_hex(8)}.tmp"
            write(probe, bytes(1 << 16))
            with refusals_named(folder):
                probe.unlink(missing_ok=True)
        for path in self.root.rglob("*.tmp"):
            with suppress(OSError):  # another process may have been quicker
                if re.fullmatch(r"[0-9a-f]{16}\.tmp", path.name) and time.time() - path.stat().st_mtime > DAY:
                    path.unlink()

    @property
    def known_machine(self) -> str:
        """The random id of this checkout, or "" where nothing was measured: for callers that only read; makes none."""
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
        # Not exclusive creation: a second process could read the file before the first has filled it.
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

    @property
    def pages(self) -> str:
        """What `save_pages` noted; "" where nothing did."""
        with suppress(OSError, UnicodeDecodeError):
            return (self._local / "pages").read_text("ascii")
        return ""

    def save_pages(self, state: str) -> None:
        """Note the state of results and code of which the pages were written (`bench.report.page_state`)."""
        write(self._local / "pages", state.encode("ascii"))

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
        """Note which fits a training or a cell requested, by key, with the seconds that each took when it was made."""
        write(self._asked(digest), json.dumps(fits, sort_keys=True, allow_nan=False).encode())

    def load_asked(self, digest: str) -> dict[str, float] | None:
        """The fits that a training or a cell requested when it ran in this checkout, else None."""
        try:
            return msgspec.json.decode(read_regular(self._asked(digest), read_write.MOST), type=dict[str, float])
        except (OSError, ValueError, RecursionError):  # a note: without it only the plan knows less
            return None

    def _asked(self, digest: str) -> Path:
        return self._local / "asked" / f"{digest}.json"


@contextmanager
def uncollected() -> Iterator[None]:
    """Within this block Python collects no garbage by itself.

    What is read of thousands of cells stays, and the collector would look through all of it, over and over. While jobs
    run, `bench.runner.garbage` says when it may.
    """
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


def _files(folder: str, depth: int, skipped: frozenset[str] = frozenset()) -> Iterator[str]:
    """The .json files up to `depth` folders down, in order of their names; skipped: folders at the top.

    No deeper, so a link that leads back up is no loop.
    """
    try:
        with os.scandir(folder) as found:
            entries = sorted((entry for entry in found if entry.name[0] != "."), key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    except OSError as error:
        warnings.warn(f"{folder} is left out ({error.strerror}): make it readable.", Caveat, stacklevel=4)
        return
    for entry in entries:
        if entry.name.endswith(".json"):
            yield entry.path
        elif depth and entry.name not in skipped and entry.is_dir():
            yield from _files(entry.path, depth - 1)
