"""Cells and remembered weights on disk: what is there is complete, whatever was killed, full or run twice at once."""

from __future__ import annotations

import ast
import fcntl
import gc
import hashlib
import io
import json
import math
import os
import re
import secrets
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache, cached_property, lru_cache
from importlib.util import cache_from_source
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from bench.core.errors import Doubt, UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Key = tuple[str, str, str, int]  # data, defense, attack, seed: the labels of a cell
SCHEMA = 2
CONTROLS = "controls"  # the folder of what `bench.runner.controls` stores, which is no data set
PROBES = "probes"  # the folder of what `bench.lint` found of defenses
SCORES = "scores"  # the folder of what `bench.audit` keeps of scores that were handed in
AUDITS = "audits"  # the folder of what `bench.audit` finds of our own defenses
_DAY = 86_400.0
_SEAL = 16  # bytes
_NUMBERS = frozenset({int, float})
_DIGITS = 300  # of whole numbers that every float can hold
_KINDS: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "float": (int, float),
    "Sequence[str]": (list,),
    "Mapping[str, Any]": (dict,),
}
# The table reads these without asking, so a file edited by hand must not lack one.
_PARTS: Mapping[str, tuple[set[str], ...]] = {
    "options": ({"data", "defense", "attack"},),
    "utility": ({"accuracy", "n"}, {"not_measurable"}),
    "privacy": ({"epsilon", "epsilon_rdp", "epsilon_selected", "delta", "relation", "sampler", "assumes"},),
    "seconds": ({"defense", "attack"},),
}


@contextmanager
def _blaming(folder: Path) -> Iterator[None]:
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
    with _blaming(path.parent):
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


@dataclass(frozen=True, kw_only=True)
class Result:
    """One cell: what was run, under which code, and what came out. Numbers are finite; an infinite epsilon is "inf"."""

    data: str
    defense: str
    attack: str
    game: str
    seed: int
    options: Mapping[str, Any]
    digest: str
    code: Mapping[str, Any]
    versions: Mapping[str, Any]
    machine: str
    device: str
    utility: Mapping[str, Any]
    privacy: Mapping[str, Any]
    metrics: Mapping[str, Any]
    seconds: Mapping[str, Any]
    peak_memory_mib: float
    doubts: Sequence[str]
    reproducible: bool = True
    schema: int = SCHEMA

    def to_json(self) -> bytes:
        """Strict JSON. Raises ValueError on what from_json would refuse, so that no such file is ever written."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        text = json.dumps(values, sort_keys=True, indent=1, allow_nan=False, default=_plain)
        data = text.encode() + b"\n"
        Result.from_json(data)
        return data

    @classmethod
    def from_json(cls, data: bytes) -> Result:
        """The result in a file. Raises ValueError, saying why, unless it has all keys, no other and the right types."""
        try:
            values = json.loads(
                data.decode(),
                object_pairs_hook=_no_twins,
                parse_constant=_finite,
                parse_float=_finite,
                parse_int=_whole,
            )
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        if not isinstance(values, dict):
            raise ValueError("it is not an object")
        if type(values.get("schema")) is not int or values["schema"] != SCHEMA:
            raise ValueError(f"its schema is {values.get('schema')!r}, not {SCHEMA}")
        kinds = _fields()
        _same_keys("it", values, (kinds.keys(),))
        for name, kind in kinds.items():
            value = values[name]
            if type(value) not in _KINDS[kind]:
                raise ValueError(f"{name} is a {type(value).__name__}, not a {kind}")
            if name in _PARTS:
                _same_keys(name, value, _PARTS[name])
        if not all(values[name] for name in ("data", "defense", "attack")):
            raise ValueError("it does not name its data, defense and attack")
        if not all(type(doubt) is str for doubt in values["doubts"]):
            raise ValueError("doubts holds something else than sentences")
        _check_figures(values)
        return cls(**values)


def _number(value: object) -> bool:
    return type(value) in _NUMBERS


def _check_figures(values: Mapping[str, Any]) -> None:
    """Raise ValueError where what the board and the pictures read of a cell is not of its kind."""
    metrics = values["metrics"]
    if type(metrics.get("headline")) is not str or not _number(metrics.get("chance")):
        raise ValueError("metrics do not say which of them is the headline, or what it is by chance")
    figures = {name: figure for name, figure in metrics.items() if isinstance(figure, dict) and name != "roc"}
    for name in (metrics["headline"], "gain", "blind"):
        figures.setdefault(name, metrics.get(name))
    if "accuracy" in values["utility"]:
        figures["accuracy"] = values["utility"]["accuracy"]
    for name, figure in figures.items():
        parts = (figure.get("value"), figure.get("low"), figure.get("high")) if isinstance(figure, dict) else (None,)
        measured = _NUMBERS.issuperset(map(type, parts))
        if not measured and not (isinstance(figure, dict) and type(figure.get("not_measurable")) is str):
            raise ValueError(f"{name} is neither a figure with its interval nor not_measurable")
        if measured and not -1 <= figure["value"] <= 1:
            raise ValueError(f"{name} is {figure['value']}, outside of what a rate can be")
    roc = metrics.get("roc", {"fp": [], "tp": []})
    curves = [roc.get(key) for key in ("fp", "tp")] if isinstance(roc, dict) else [None]
    if not all(isinstance(curve, list) and set(map(type, curve)) <= _NUMBERS for curve in curves):
        raise ValueError("roc does not hold the counts fp and tp")
    privacy = values["privacy"]
    claims = [privacy[name] for name in ("epsilon", "epsilon_selected")]
    if not all(_number(claim) or claim == "inf" for claim in claims) or not _number(privacy["delta"]):
        raise ValueError("privacy holds an epsilon or a delta that is no number")
    assumes = privacy["assumes"]
    if not (isinstance(assumes, list) and all(type(fact) is str for fact in assumes)):
        raise ValueError("assumes holds something else than sentences")


@cache
def _fields() -> Mapping[str, str]:
    return {field.name: str(field.type) for field in fields(Result)}


def _same_keys(what: str, values: Mapping[str, Any], allowed: tuple[Set[str], ...]) -> None:
    if values.keys() not in allowed:
        wrong = sorted(values.keys() ^ allowed[0])
        raise ValueError(f"{what} must hold exactly {', '.join(sorted(allowed[0]))}; wrong: {', '.join(wrong)}")


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key occurs twice")  # json keeps the last one silently
    return values


def _finite(text: str) -> float:
    value = float(text)  # json takes NaN and Infinity for numbers, and reads 1e400 as inf
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is not a finite number")
    return value


def _whole(text: str) -> int:
    if len(text) > _DIGITS:  # the others need no second look, and there are hundreds of them in a cell
        _finite(text)
    return int(text)


def _plain(value: object) -> object:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} cannot be stored in a result")


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
        return os.path.join(self.root, _folder(data), _folder(defense), _folder(attack), f"{seed}.json")

    def save(self, result: Result) -> Path:
        """Write one cell, over an older one if there is one. Raises UserError where the disk refuses."""
        path = self.path(result.data, result.defense, result.attack, result.seed)
        write(path, result.to_json())
        return path

    def load(self, data: str, defense: str, attack: str, seed: int) -> Result | None:
        """One cell, or None where it is missing or, with a Doubt, unreadable."""
        return self._read(self._name(data, defense, attack, seed))

    def results(self) -> list[Result]:
        """All readable cells, sorted by data, defense, attack, seed; each unreadable file is named in a Doubt."""
        found: list[Result] = []
        with uncollected():
            for folder, folders, names in os.walk(self.root, onerror=_unlistable):
                own = {CONTROLS, PROBES, SCORES, AUDITS} if Path(folder) == self.root else set()
                folders[:] = [name for name in folders if not name.startswith(".") and name not in own]
                files = (name for name in sorted(names) if name.endswith(".json") and name[0] != ".")
                read = (self._read(os.path.join(folder, name)) for name in files)
                found += [result for result in read if result is not None]
        return sorted(found, key=lambda cell: (cell.data, cell.defense, cell.attack, cell.seed))

    def _read(self, path: str) -> Result | None:
        """One file, read once while it stays the same: whoever writes a cell puts a new file in its place."""
        try:
            known = self._known.get(path)
            if known and known[0] == _state(os.stat(path)):
                return known[1]
            with open(path, "rb") as file:
                state = _state(os.fstat(file.fileno()))
                result = Result.from_json(file.read())
            if self._name(result.data, result.defense, result.attack, result.seed) != path:
                raise ValueError("it holds the result of another cell")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            warnings.warn(f"{path} is left out ({error}): delete it or run its cell again.", Doubt, stacklevel=3)
            return None
        self._known[path] = state, result
        self._unkept.add(path)
        return result

    @cached_property
    def _known(self) -> dict[str, tuple[tuple[int, ...], Result]]:
        """By path, the state of a file and the cell in it: what this process has read, and what earlier ones kept."""
        with suppress(OSError):
            kept = (self._local / "read").read_bytes()
            seal, packed = kept[:_SEAL], kept[_SEAL:]
            if seal == self._seal(packed):  # so only what `keep_read` packed is parsed, and need not be checked again
                return {path: (tuple(state), Result(**values)) for path, (state, values) in json.loads(packed).items()}
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
        sealed = hashlib.blake2b(_reader() + os.fsencode(self.root), digest_size=_SEAL)
        sealed.update(packed)
        return sealed.digest()

    def save_sheet(self, cell: Key, rows: Mapping[str, NDArray[Any]]) -> None:
        """Keep a cell's pictures, uint8 (n, height, width, colours) by name; beside weights, as they show records."""
        self._save_beside("sheets", cell, rows)

    def load_sheet(self, cell: Key) -> dict[str, NDArray[Any]] | None:
        """The pictures of a cell by name, or None where this checkout has none that can be read."""
        return _load(self._beside("sheets", cell))

    def save_answers(self, cell: Key, answers: Mapping[str, NDArray[Any]]) -> None:
        """Keep what a cell's figures are made of, record by record: paired differences and exposure need it.

        Beside weights, for it is large and says who was found.
        """
        self._save_beside("answers", cell, answers)

    def load_answers(self, cell: Key) -> dict[str, NDArray[Any]] | None:
        """What `save_answers` kept, or None where this checkout has none that can be read."""
        return _load(self._beside("answers", cell))

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
            with _blaming(folder):
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
        with _blaming(self._local):
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
        with _blaming(self._local):
            self._local.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._local / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with _blaming(self._local):
                fcntl.flock(lock, fcntl.LOCK_EX)  # the system lets go when the process dies, however it dies
            yield
        finally:
            os.close(lock)

    def _fit(self, key: str) -> Path:
        return self._local / "fits" / f"{key}.npz"

    def save_fit(self, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Remember weights under a digest. Raises ValueError on arrays of objects, UserError where the disk refuses."""
        for name, array in arrays.items():
            if array.dtype.hasobject:  # numpy would pickle it
                raise ValueError(f"{name} holds objects, not numbers")
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        write(self._fit(key), buffer.getvalue())

    def load_fit(self, key: str) -> dict[str, NDArray[Any]] | None:
        """The weights under a digest, or None where there are none that can be read without running foreign code."""
        return _load(self._fit(key))

    def has_fit(self, key: str) -> bool:
        """Whether weights are remembered under a digest."""
        return self._fit(key).is_file()

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


def _load(path: Path) -> dict[str, NDArray[Any]] | None:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception:  # noqa: BLE001 (zipfile and numpy fail on foreign files in a dozen ways: all mean, make it again)
        return None
    return arrays if all(isinstance(array, np.ndarray) for array in arrays.values()) else None


@cache
def _folder(label: str) -> str:
    """A file name for a label: no separator, never hidden, never "..", within the 255 bytes of file systems."""
    name = quote(label, safe=",=.+-_")
    name = "%2E" + name[1:] if name.startswith(".") else name
    return name if len(name) <= 200 else f"{name[:160]}~{digest(label)}"


def _state(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_ctime_ns, found.st_size  # anybody can set the time that a file was modified


def _is_id(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{32}", text) is not None


def _unlistable(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        warnings.warn(f"{error.filename} is left out ({error.strerror}): make it readable.", Doubt, stacklevel=4)


def digest(value: object) -> str:
    """32 hex digits that stand for a value: frozen dataclasses (with class name), mappings, sequences, arrays, scalars.

    A list and a tuple of the same items are the same, as in JSON. Raises TypeError on anything else, paths included:
    what a file is called says nothing about what it holds.
    """
    return _digest(value).hex()


def _digest(value: object) -> bytes:
    return _of_text(value) if type(value) is str else _of_parts(value)


@lru_cache(1 << 13)  # names and digests of files recur in every cell
def _of_text(value: str) -> bytes:
    return _of_parts(value)


def _of_parts(value: object) -> bytes:
    hashed = hashlib.blake2b(digest_size=16)
    for part in _parts(value.item() if isinstance(value, np.generic) else value):
        hashed.update(len(part).to_bytes(8, "big"))  # lengths, so that no two values run into the same bytes
        hashed.update(part)
    return hashed.digest()


def _parts(value: Any) -> list[bytes]:
    """Kind and content; what is nested comes as its digest."""
    if value is None or isinstance(value, bool):
        return [b"constant", repr(value).encode()]
    if isinstance(value, str):
        return [b"str", value.encode("utf-8", "surrogatepass")]
    if isinstance(value, int):
        return [b"int", str(int(value)).encode()]
    if isinstance(value, float):
        return [b"float", float(value).hex().encode()]
    if isinstance(value, (list, tuple)):
        return [b"sequence", *map(_digest, value)]
    if isinstance(value, Mapping):
        pairs = sorted((_digest(key), _digest(item)) for key, item in value.items())
        return [b"mapping", *(half for pair in pairs for half in pair)]
    if type(value) in (np.ndarray, np.memmap) and not value.dtype.hasobject:
        return [b"array", repr(value.dtype.descr).encode(), repr(value.shape).encode(), value.tobytes()]
    if is_dataclass(value) and not isinstance(value, type) and value.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        named = ((field.name.encode(), _digest(getattr(value, field.name))) for field in fields(value))
        return [b"dataclass", type(value).__qualname__.encode(), *(half for pair in named for half in pair)]
    raise TypeError(f"a {type(value).__name__} has no stable digest")


@cache
def source_digest(path: Path) -> str:
    """Digest of what a Python file does: comments, docstrings and layout do not count. Read once a process.

    Kept beside the file's bytecode: where all is measured, working these out took longer than anything else.
    """
    source = path.read_bytes()
    kept = Path(cache_from_source(str(path))).with_suffix(".digest")
    state = hashlib.blake2b(_reader() + source, digest_size=16).hexdigest()
    with suppress(OSError, ValueError):
        before, found = kept.read_text("ascii").split()
        if before == state and _is_id(found):
            return found
    found = _of_source(source)
    if not sys.dont_write_bytecode:
        with suppress(UserError):  # where nothing can be written, it is worked out again next time
            write(kept, f"{state} {found}\n".encode())
    return found


@cache
def _reader() -> bytes:
    """Whoever makes digests of sources: another Python or another version of this file may make others."""
    return sys.version.encode() + Path(__file__).read_bytes()


def _of_source(source: bytes) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return digest(ast.dump(tree))
