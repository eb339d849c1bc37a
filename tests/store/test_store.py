"""Nothing that kills, fills or runs twice may cost a finished cell, and nothing that is read may run."""

from __future__ import annotations

import dataclasses
import errno
import gc
import json
import math
import os
import pickle
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from bench.core.digest import digest
from bench.core.errors import Caveat, UserError
from bench.core.files import write
from bench.store import store
from bench.store.records import CellResult
from bench.store.store import Store, source_digest

CELL = """
from bench.store.records import CellResult
FIGURE = {"value": 0.5, "low": 0.4, "high": 0.6}
def metrics(auc=FIGURE):
    gain = {"value": 0, "low": -0.1, "high": 0.1}
    return {"headline": "auc", "chance": 0.5, "auc": auc, "blind": FIGURE, "gain": gain, "roc": {"fp": [0], "tp": [0]}}
def cell(seed=0, attack="lira", **changes):
    values = dict(
        data="digits", defense="dp_vaegm,epsilon=1.0", attack=attack, game="membership", seed=seed,
        options={"data": {}, "defense": {"epsilon": 1.0}, "attack": {}}, digest="d", code={"a.py": "1"},
        versions={"numpy": "1"}, machine="m", device="CPU",
        utility={"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}, "n": 100},
        privacy={"epsilon": "inf", "epsilon_rdp": "inf", "epsilon_selected": "inf", "delta": 1e-5,
                 "relation": "add/remove one record", "sampler": "none", "assumes": []},
        metrics=metrics(),
        seconds={"defense": 1.5, "attack": 0}, peak_memory_mib=10.5, doubts=[])
    return CellResult(**(values | changes))
"""
exec(CELL)  # the child processes below need the same cell, without importing this file and pytest
cell, metrics = globals()["cell"], globals()["metrics"]


def child(script: str, *args: object) -> subprocess.Popen[str]:
    """A fresh Python with `cell`, `Store` and friends."""
    head = "import os, random, signal, sys, time\nfrom pathlib import Path\nfrom bench.store import store\n"
    head += "from bench.core.errors import UserError\nfrom bench.store.store import Store, write\n"
    command = [sys.executable, "-c", head + CELL + textwrap.dedent(script), *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(store.__file__).parents[2])


def output(process: subprocess.Popen[str]) -> str:
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return text


def temporaries(root: Path) -> list[Path]:
    return list(root.rglob("*.tmp"))


# --- killed, twice at once ---

KILLS = """
    root, kills, mutant = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "mutant"
    def in_place(path, data):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            time.sleep(0.02)
            file.write(data[len(data) // 2 :])
    def slow_fsync(number, fsync=os.fsync):  # as slow a disk for the one as for the other, or no kill would meet it
        time.sleep(0.02)
        fsync(number)
    os.fsync = slow_fsync
    if mutant:
        store.write = in_place
    for kill in range(kills):
        folder = root / str(kill)
        folder.mkdir()
        done = os.open(folder / "done", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        process = os.fork()
        if not process:
            for turn in range(1_000_000):
                Store(folder / "results").save(cell(turn % 3, doubts=[str(turn), "x" * 300_000]))
                os.write(done, b"%d\\n" % turn)
        while not os.fstat(done).st_size:  # the first cell is there: from now on there is something to lose
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.06))
        os.kill(process, signal.SIGKILL)
        assert os.waitpid(process, 0)[1] == signal.SIGKILL
        os.close(done)
"""


def torn(root: Path) -> int:
    """How many cell files cannot be read; checks that the readable ones are no older than what was reported saved."""
    count = 0
    for folder in root.iterdir():
        saved = [int(line) for line in (folder / "done").read_text().split()]
        newest = {turn % 3: turn for turn in saved}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = Store(folder / "results").results()
        count += len(caught)
        if not caught:
            assert set(newest) <= {result.seed for result in found} <= {turn % 3 for turn in [*saved, saved[-1] + 1]}
            for result in found:
                assert newest.get(result.seed, -1) <= int(result.caveats[0]) <= saved[-1] + 1
                assert result.caveats[1] == "x" * 300_000
    return count


def test_the_collector_is_as_it_was_after_reading() -> None:
    for collecting in (gc.enable, gc.disable):
        collecting()
        before, frozen = gc.isenabled(), gc.get_freeze_count()
        with pytest.raises(ValueError, match="unreadable"), store.uncollected():  # noqa: PT012 - both are looked at
            assert not gc.isenabled()
            raise ValueError("unreadable")
        assert (gc.isenabled(), gc.get_freeze_count()) == (before, frozen)
    gc.enable()


def test_kill_9_leaves_every_file_complete(tmp_path):
    output(child(KILLS, tmp_path, 25, "bench"))
    assert torn(tmp_path) == 0


def test_rewriting_in_place_would_not(tmp_path):
    output(child(KILLS, tmp_path, 25, "mutant"))
    assert torn(tmp_path) > 0


def test_two_processes_lose_nothing(tmp_path):
    script = """
        for seed in range(40):
            Store(Path(sys.argv[1])).save(cell(seed, attack=sys.argv[2]))
            Store(Path(sys.argv[1])).save(cell(seed, attack="both", machine=sys.argv[2]))
    """
    for process in [child(script, tmp_path, name) for name in ("first", "second")]:
        output(process)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Store(tmp_path).results()
    names = ("both", "first", "second")
    assert [(r.attack, r.seed) for r in found] == [(name, seed) for name in names for seed in range(40)]
    assert {r.machine for r in found if r.attack == "both"} <= {"first", "second"}
    assert not temporaries(tmp_path)


COUNT = """
    import contextlib
    counter = Path(sys.argv[1]) / "counter"
    Path(sys.argv[1], f"{os.getpid()}.ready").touch()
    while len(list(Path(sys.argv[1]).glob("*.ready"))) < 2:
        time.sleep(0.001)
    for _ in range(60):
        with Store(Path(sys.argv[1])).lock() if sys.argv[2] == "bench" else contextlib.nullcontext():
            before = int(counter.read_text() or 0)
            time.sleep(0.002)
            write(counter, str(before + 1).encode())
"""


@pytest.mark.parametrize("who", ["bench", "mutant"])
def test_lock_lets_one_in(tmp_path, who):
    (tmp_path / "counter").write_text("0")
    for process in [child(COUNT, tmp_path, who) for _ in range(2)]:
        output(process)
    count = int((tmp_path / "counter").read_text())
    assert count == 120 if who == "bench" else count < 120


def test_lock_is_free_after_an_error(tmp_path):
    with pytest.raises(KeyError), Store(tmp_path).lock():
        raise KeyError
    with Store(tmp_path).lock():
        pass


MACHINE = """
    def slow(size, token_hex=store.secrets.token_hex):  # so that all stand at the same gap
        time.sleep(0.02)
        return token_hex(size)
    store.secrets.token_hex = slow
    if sys.argv[2] == "mutant":
        store.fcntl.flock = lambda *_: None
    for attempt in range(10):
        root = Path(sys.argv[1]) / str(attempt)
        local = root / ".local"
        local.mkdir(parents=True)
        if attempt % 2:
            (local / "machine").write_text("half an i")  # what a process killed in the middle would leave
        start, go = os.pipe()
        pids = []
        for _ in range(4):
            pids.append(os.fork())
            if not pids[-1]:
                os.close(go)
                os.read(start, 1)
                os.write(1, f"{attempt} {Store(root).machine}\\n".encode())
                os._exit(0)
        os.close(go)
        for pid in pids:
            assert os.waitpid(pid, 0)[1] == 0
        os.close(start)
"""


@pytest.mark.parametrize("who", ["bench", "mutant"])
def test_machine_is_one_for_all_processes(tmp_path, who):
    lines = output(child(MACHINE, tmp_path, who)).splitlines()
    told = {(Store(tmp_path / line.split()[0]).machine, line.split()[1]) for line in lines}
    assert len(lines) == 40
    if who == "bench":
        assert len(told) == 10
        assert all(kept == said for kept, said in told)
    else:
        assert len(told) > 10


def test_machine_is_read_where_nothing_can_be_written(tmp_path, monkeypatch):
    known = Store(tmp_path).machine
    monkeypatch.setattr(store.fcntl, "flock", lambda *_: pytest.fail("locked to read"))
    assert Store(tmp_path).machine == known


# --- full, read-only ---


def test_file_too_large(tmp_path):
    Store(tmp_path).save(cell())
    before = Store(tmp_path).path("digits", cell().defense, "lira", 0).read_bytes()
    script = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            Store(Path(sys.argv[1])).save(cell(doubts=["x" * 300_000]))
        except UserError as error:
            print(error)
    """
    said = output(child(script, tmp_path))
    path = Store(tmp_path).path("digits", cell().defense, "lira", 0)
    assert str(path.parent) in said
    assert os.strerror(errno.EFBIG) in said
    assert path.read_bytes() == before
    assert not temporaries(tmp_path)


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_disk_full_or_read_only(tmp_path, monkeypatch, call, code):
    path = tmp_path / "a" / "cell.json"
    write(path, b"old")

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(store.os, call, refuse)
    with pytest.raises(UserError) as said:
        write(path, b"new")
    assert str(path.parent) in str(said.value)
    assert os.strerror(code) in str(said.value)
    assert "\n" not in str(said.value)
    assert path.read_bytes() == b"old"
    assert not temporaries(tmp_path)
    with pytest.raises(UserError):
        Store(tmp_path).check_writable()
    assert not temporaries(tmp_path)


def test_interrupt_leaves_no_temporary_file(tmp_path, monkeypatch):
    monkeypatch.setattr(store.os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "cell.json", b"new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("root", ["file", "file/results"])
def test_a_file_in_place_of_a_folder(tmp_path, root):
    (tmp_path / "file").write_text("mine")
    here = Store(tmp_path / root)
    for act in (
        here.check_writable,
        lambda: here.save(cell()),
        lambda: here.weights.save("k", {"a": np.ones(1)}),
        lambda: here.machine,
        lambda: here.lock().__enter__(),
    ):
        with pytest.raises(UserError, match=str(tmp_path / "file")):
            act()
    assert here.weights.load("k") is None
    assert (tmp_path / "file").read_text() == "mine"


def test_no_permission(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match="Permission denied"):
        Store(tmp_path / "results").check_writable()


def test_check_writable_makes_the_folder_and_leaves_it_clean(tmp_path):
    root = tmp_path / "results"
    root.mkdir()
    old, young, foreign = (root / name for name in ("0123456789abcdef.tmp", "f123456789abcdef.tmp", "thesis.tmp"))
    for path in (old, young, foreign):
        path.write_bytes(b"")
    for path in (old, foreign):
        os.utime(path, (0, 0))
    Store(root).check_writable()
    assert {path.name for path in root.iterdir()} == {young.name, foreign.name, ".local"}
    assert list((root / ".local").iterdir()) == []
    Store(tmp_path / "deep" / "results").check_writable()


def test_results_are_readable_by_others(tmp_path):
    before = os.umask(0o022)
    try:
        path = Store(tmp_path).save(cell())
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644


# --- strict JSON ---


def test_round_trip():
    result = cell(options=MappingProxyType({"data": {}, "defense": {"size": np.int64(3)}, "attack": {}}))
    again = CellResult.from_json(result.to_json())
    assert again == cell(options={"data": {}, "defense": {"size": 3}, "attack": {}})
    assert again.to_json() == result.to_json()
    keys = [line.split('"')[1] for line in result.to_json().decode().splitlines() if line.startswith(' "')]
    assert keys == sorted(field.name for field in dataclasses.fields(CellResult))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), object(), 10**400])
def test_what_json_cannot_say_is_not_written(tmp_path, value):
    with pytest.raises((ValueError, TypeError)):
        Store(tmp_path).save(cell(metrics=metrics(value)))
    assert list(tmp_path.iterdir()) == []


def edited(**changes: object) -> bytes:
    values = json.loads(cell().to_json()) | changes
    return json.dumps({key: value for key, value in values.items() if value is not ...}).encode()


def test_the_unedited_cell_is_taken():
    assert CellResult.from_json(edited()) == cell()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1" + "0" * 400])
def test_numbers_that_are_not_finite_are_refused(number):
    json.loads(f"[{number}]")  # which json takes
    with pytest.raises(ValueError, match="finite"):
        CellResult.from_json(edited(metrics=metrics("HERE")).replace(b'"HERE"', number.encode()))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        cell().to_json()[:-3],
        cell().to_json().decode().encode("utf-16"),
        cell().to_json().replace(b'"seed": 0', b'"seed": 0, "seed": 1'),
        *(edited(**{field.name: ...}) for field in dataclasses.fields(CellResult)),
        edited(surprise=1),
        edited(schema=1),
        edited(schema=True),
        edited(schema="1"),
        edited(seed=True),
        edited(seed=1.0),
        edited(data=""),
        edited(data=3),
        edited(reproducible=1),
        edited(peak_memory_mib="much"),
        edited(caveats=[1]),
        edited(caveats="caveat"),
        edited(metrics=[]),
        edited(options={"data": {}, "defense": {}}),
        edited(utility={"accuracy": 1}),
        edited(privacy={}),
        edited(seconds={"defense": 1, "attack": 1, "more": 1}),
    ],
)
def test_other_files_are_refused(data):
    with pytest.raises(ValueError, match=r"[a-z]"):
        CellResult.from_json(data)


def test_utility_may_say_why_not():
    assert (
        CellResult.from_json(edited(utility={"not_measurable": "one class"})).utility["not_measurable"] == "one class"
    )


# --- the folder ---


def test_cells_come_back_sorted(tmp_path):
    here = Store(tmp_path)
    assert here.results() == []
    assert here.load("digits", "none", "lira", 0) is None
    cells = [cell(seed, attack=attack) for attack in ("baseline", "lira") for seed in (2, 10)]
    for one in reversed(cells):
        here.save(one)
    assert here.results() == cells
    assert here.load("digits", cells[0].defense, "baseline", 2) == cells[0]
    assert here.load("digits", cells[0].defense, "baseline", 3) is None
    assert Store(Path(os.path.relpath(tmp_path))).results() == cells


def test_unreadable_files_are_named_and_skipped(tmp_path):
    here = Store(tmp_path)
    good = here.save(cell(0))
    bad = here.path("digits", cell().defense, "lira", 1)
    for spoil in (
        lambda: bad.write_bytes(good.read_bytes()[:100]),
        lambda: bad.write_bytes(good.read_bytes()),  # a copy under another cell's name is no measurement of it
        lambda: (bad.unlink(), bad.symlink_to(bad)),
    ):
        spoil()
        with pytest.warns(Caveat) as caught:
            assert here.results() == [cell(0)]
        assert len(caught) == 1
        assert str(bad) in str(caught[0].message)
        assert "delete it or run its cell again" in str(caught[0].message)
        with pytest.warns(Caveat):
            assert here.load("digits", cell().defense, "lira", 1) is None


@pytest.fixture
def parsed(monkeypatch):
    """The cells that were parsed, in order."""
    found, whole = [], CellResult.from_json
    monkeypatch.setattr(CellResult, "from_json", lambda data: found.append(whole(data)) or found[-1])
    return found


def kept(root: Path) -> Store:
    """A store of three cells that another process has read and kept."""
    here = Store(root)
    for seed in range(3):
        write(here.path("digits", cell().defense, "lira", seed), cell(seed).to_json())
    assert [one.seed for one in here.results()] == [0, 1, 2]
    here.keep_read()
    return here


def test_what_was_read_before_is_not_parsed_again(tmp_path, parsed):
    before = kept(tmp_path).results()
    parsed.clear()
    here = Store(tmp_path)
    assert here.results() == before
    assert here.load(before[1].data, before[1].defense, before[1].attack, 1) == before[1]
    assert parsed == []
    time_of = (tmp_path / ".local" / "read").stat().st_mtime_ns
    here.keep_read()  # nothing is new: nothing is written
    assert (tmp_path / ".local" / "read").stat().st_mtime_ns == time_of


def in_place(path: Path, data: bytes) -> None:
    """An edit that leaves everything of a file as it was that whoever edits can choose."""
    before = path.stat()
    time.sleep(0.05)  # the clock of a file system ticks
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_ino, path.stat().st_size) == (before.st_ino, before.st_size)


@pytest.mark.parametrize("put", [write, in_place])
def test_a_cell_that_changed_is_parsed_again(tmp_path, parsed, put):
    path = kept(tmp_path).path("digits", cell().defense, "lira", 1)
    parsed.clear()
    put(path, cell(1, digest="e").to_json())
    here = Store(tmp_path)
    assert [one.digest for one in here.results()] == ["d", "e", "d"]
    here.keep_read()
    assert [one.digest for one in Store(tmp_path).results()] == ["d", "e", "d"]
    assert [one.seed for one in parsed] == [1, 1]  # `to_json` reads what it wrote


def test_a_cell_that_is_gone_stays_gone(tmp_path):
    here = kept(tmp_path)
    here.path("digits", cell().defense, "lira", 1).unlink()
    assert [one.seed for one in Store(tmp_path).results()] == [0, 2]
    assert Store(tmp_path).load("digits", cell().defense, "lira", 1) is None
    before = (tmp_path / ".local" / "read").stat().st_size
    write(here.path("digits", cell().defense, "lira", 0), cell(0).to_json())
    after = Store(tmp_path)
    after.results()
    after.keep_read()
    assert (tmp_path / ".local" / "read").stat().st_size < before  # nor is it kept for ever


def test_spoilt_or_foreign_readings_are_not_trusted(tmp_path, parsed, monkeypatch):
    kept(tmp_path / "results")
    path = tmp_path / "results" / ".local" / "read"
    whole = path.read_bytes()

    def parsed_anew(root: Path) -> int:
        parsed.clear()
        assert [one.seed for one in Store(root).results()] == [0, 1, 2]
        return len(parsed)

    for spoilt in (b"", whole[:10], whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), b"x" + whole[1:]):
        path.write_bytes(spoilt)
        assert parsed_anew(path.parents[1]) == 3
    path.write_bytes(whole)
    assert parsed_anew(path.parents[1]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(store, "_reader", lambda: b"another")
        assert parsed_anew(path.parents[1]) == 3
    path.parents[1].rename(tmp_path / "moved")
    assert parsed_anew(tmp_path / "moved") == 3


def test_readings_are_done_without_where_nothing_can_be_written(tmp_path, monkeypatch):
    def refuse(path, data):
        raise UserError("no")

    with monkeypatch.context() as patch:
        patch.setattr(store, "write", refuse)
        (tmp_path / ".local").mkdir()
        here = Store(tmp_path)
        cells = here.path("digits", cell().defense, "lira", 0)
        cells.parent.mkdir(parents=True)
        cells.write_bytes(cell().to_json())
        assert here.results() == [cell()]
        here.keep_read()
    here.keep_read()  # as soon as it can
    assert (tmp_path / ".local" / "read").is_file()


def test_dot_folders_are_not_read(tmp_path):
    here = Store(tmp_path)
    path = here.save(cell())
    for name in (".local", ".git"):
        copy = tmp_path / name / path.name
        copy.parent.mkdir()
        copy.write_text("not a cell")
    (tmp_path / "README.md").write_text("not a cell")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert here.results() == [cell()]


@pytest.mark.parametrize("label", ["..", ".", ".hidden", "a/b", "x" * 400, "mine,path=/tmp/é ü.csv", "a\0b", "100%"])
def test_every_label_has_a_folder_of_its_own(tmp_path, label):
    here = Store(tmp_path)
    one = cell(attack=label, data=label)
    path = here.save(one)
    assert len(path.relative_to(tmp_path).parts) == 4
    assert ".." not in path.parts
    assert here.results() == [one]
    assert path != here.path("digits", cell().defense, label + "x", 0)


# --- weights ---


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_weights_come_back(tmp_path):
    here = Store(tmp_path)
    arrays = {"dense/kernel:0": np.arange(6, dtype=np.float32).reshape(2, 3), "step": np.int64(3) * np.ones((), int)}
    assert here.weights.load("k") is None
    here.weights.save("k", arrays)
    again = here.weights.load("k")
    assert again is not None
    assert list(again) == list(arrays)
    for name, array in arrays.items():
        assert again[name].dtype == array.dtype
        assert again[name].shape == array.shape
        np.testing.assert_array_equal(again[name], array)


def test_pickles_are_neither_written_nor_run(tmp_path):
    here, trace = Store(tmp_path), tmp_path / "ran"
    bomb = np.array([Bomb(trace)], object)
    with pytest.raises(ValueError, match="objects"):
        here.weights.save("k", {"a": bomb})
    assert list(tmp_path.iterdir()) == []
    path = tmp_path / ".local" / "fits" / "k.npz"
    path.parent.mkdir(parents=True)
    for spoil in (
        lambda: np.savez(path, good=np.ones(3), bad=bomb),
        lambda: path.write_bytes(pickle.dumps(Bomb(trace))),
    ):
        spoil()
        assert here.weights.load("k") is None
        assert not trace.exists()
    np.savez(path, bad=bomb)
    assert np.load(path, allow_pickle=True)["bad"].shape == (1,)  # the mutant: the bomb is a live one
    assert trace.exists()


def test_spoilt_weights_count_as_absent_and_are_replaced(tmp_path):
    here, arrays = Store(tmp_path), {"a": np.arange(1000.0)}
    here.weights.save("k", arrays)
    path = tmp_path / ".local" / "fits" / "k.npz"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for spoilt in (b"", b"PK\x03\x04", whole[: len(whole) // 2], whole[:-1], bytes(flipped), b"\x80\x04.", b"hello"):
        path.write_bytes(spoilt)
        assert here.weights.load("k") is None, spoilt[:10]
    np.save(path.with_suffix(".npy"), np.ones(3))
    os.replace(path.with_suffix(".npy"), path)
    assert here.weights.load("k") is None
    here.weights.save("k", arrays)
    np.testing.assert_array_equal((here.weights.load("k") or {})["a"], arrays["a"])


# --- digests ---


@dataclasses.dataclass(frozen=True)
class Recipe:
    units: object = 1
    rate: object = 0.5


@dataclasses.dataclass(frozen=True)
class Other:
    units: object = 1
    rate: object = 0.5


@dataclasses.dataclass(frozen=True)
class Renamed:
    width: object = 1
    rate: object = 0.5


@dataclasses.dataclass
class Loose:
    units: int = 1


def test_different_values_have_different_digests():
    values = [
        ["ab", "c"], ["a", "bc"], ["abc"], "abc", ["a", ["b"]], [["a"], "b"], ["a", "b"], [], [[]], {}, "",
        None, "None", 1, 1.0, True, "1", 0, 0.0, -0.0, False, math.inf, -math.inf, "inf", math.nan, 10**30,
        [1], [1.0], [True],
        {"a": "b"}, {"b": "a"}, {"a": 1, "b": 2}, {"a": 2, "b": 1}, {1: "a"}, {"1": "a"}, ["a", 1, "b", 2],
        {"a": {"b": 1}}, {"a": {}, "b": 1}, Recipe(), Other(), Renamed(), Recipe(2), Recipe(Recipe()),
        Recipe([Recipe()]), Recipe("1"), {"units": 1, "rate": 0.5},
        np.zeros(4), np.zeros(4, np.float32), np.zeros(8, np.float32), np.zeros((2, 2)), np.zeros((4, 1)), np.zeros(0),
        np.zeros((0, 2)), np.zeros(4, np.int64), np.zeros(4, ">f8"), np.zeros(()), np.ones(4), [0.0] * 4,
        bytes(32).decode(), np.zeros(2, [("a", "<f8"), ("b", "<f8")]), np.zeros(2, [("c", "<f8"), ("b", "<f8")]),
        np.array(["a"]), np.array(["b"]),
    ]  # fmt: skip
    found = [digest(value) for value in values]
    assert len(set(found)) == len(values)
    assert all(len(text) == 32 and set(text) <= set("0123456789abcdef") for text in found)


def test_equal_values_have_equal_digests():
    assert digest({"a": 1, "b": 2}) == digest(MappingProxyType({"b": 2, "a": 1}))
    assert digest((1, (2,))) == digest([1, [2]])
    assert digest([np.float64(0.5), np.int64(3), np.True_]) == digest([0.5, 3, True])
    square = np.arange(6.0).reshape(2, 3)
    assert digest(square) == digest(np.asfortranarray(square)) == digest(np.repeat(square, 2, 0)[::2])


def test_digest_is_the_same_in_every_process():
    script = 'print(store.digest({"b": [1, 2.5, None, float("inf")], "a": "x"}))'
    assert output(child(script)).strip() == digest({"a": "x", "b": [1, 2.5, None, math.inf]})
    assert (
        digest({"a": "x"}) == "8ea790f1a9ecd2f4689536151f1d6a28"
    )  # a new digest makes every stored result stale: do it knowingly


@pytest.mark.parametrize(
    "value", [Path("a"), {1}, object(), Loose(), Recipe, b"", len, np.array([None]), 1j, [Path("a")], Recipe(Path("a"))]
)
def test_what_has_no_stable_content_is_refused(value):
    with pytest.raises(TypeError):
        digest(value)


CODE = '''"""A module."""
import os
def f(x, *, y=1):
    """What it does."""
    return x + y  # the sum
class A:
    """A class."""
    name = "a"
    async def g(self):
        """Nothing."""
'''


def of(path: Path, text: str) -> str:
    path.write_text(text)
    source_digest.cache_clear()
    return source_digest(path)


def test_comments_docstrings_and_layout_do_not_count(tmp_path):
    path = tmp_path / "a.py"
    first = of(path, CODE)
    for old, new in [
        ("  # the sum", ""),
        ("x + y", "(x  +\n      y)"),
        ('"""A module."""\n', "\n\n# other\n"),
        ("What it does.", "Something else."),
        ('    """A class."""\n', ""),
        ('"""Nothing."""', '"""Something."""'),
        ('"a"', "'a'"),
        ("\n", "\r\n"),
    ]:
        assert old in CODE
        assert of(path, CODE.replace(old, new)) == first, new
    assert of(tmp_path / "b.py", CODE) == first


def test_code_counts(tmp_path):
    path = tmp_path / "a.py"
    first = of(path, CODE)
    for old, new in [
        ("x + y", "x - y"),
        ("y=1", "y=2"),
        ('name = "a"', 'name = "b"'),
        ("f(x, *,", "f(x,"),
        ("async ", ""),
    ]:
        assert old in CODE
        assert of(path, CODE.replace(old, new)) != first, new
    assert of(path, 'f("a")\n"b"\n') != of(path, 'f("a")\n"c"\n')  # a string elsewhere is code


def test_source_is_read_once(tmp_path):
    path = tmp_path / "a.py"
    first = of(path, "a = 1")
    path.write_text("a = 2")
    assert source_digest(path) == first


@pytest.fixture
def worked_out(monkeypatch):
    """The sources whose digests were worked out, where bytecode may be written."""
    found = []
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(store, "_of_source", lambda source: found.append(source) or digest(source.decode()))
    return found


def test_a_digest_is_kept_beside_the_bytecode(tmp_path, worked_out):
    path = tmp_path / "a.py"
    first = of(path, "a = 1")
    assert of(path, "a = 1") == first
    assert worked_out == [b"a = 1"]
    assert [kept.name for kept in (tmp_path / "__pycache__").iterdir()] == [f"a.{sys.implementation.cache_tag}.digest"]
    other = of(path, "a = 2")
    assert other != first
    assert of(path, "a = 2") == other
    assert of(path, "a = 1") == first
    assert worked_out == [b"a = 1", b"a = 2", b"a = 1"]


@pytest.mark.parametrize("spoilt", [b"", b"\xff", b"0 1", b"x" * 100])
def test_a_spoilt_digest_is_worked_out_again(tmp_path, worked_out, spoilt):
    path = tmp_path / "a.py"
    first = of(path, "a = 1")
    [kept] = (tmp_path / "__pycache__").iterdir()
    state = kept.read_bytes().split()[0]
    for content in (spoilt, state, state + b" " + spoilt):
        kept.write_bytes(content)
        assert of(path, "a = 1") == first
    assert len(worked_out) == 4


def test_another_python_or_another_reader_keeps_its_own(tmp_path, worked_out, monkeypatch):
    path = tmp_path / "a.py"
    of(path, "a = 1")
    monkeypatch.setattr(store, "_reader", lambda: b"another")
    of(path, "a = 1")
    assert len(worked_out) == 2


def test_no_digest_is_kept_where_no_bytecode_is(tmp_path, worked_out, monkeypatch):
    path = tmp_path / "a.py"
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    of(path, "a = 1")
    assert [one.name for one in tmp_path.iterdir()] == ["a.py"]
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "__pycache__").write_text("a file is in its place")  # nothing can be written there
    assert of(path, "a = 1") == of(path, "a = 1")


def test_import_brings_nothing_heavy():
    heavy = "{'tensorflow', 'keras', 'pandas', 'sklearn', 'scipy', 'matplotlib', 'pickle5'}"
    assert output(child(f"print(sorted({heavy} & set(sys.modules)))")).strip() == "[]"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("metrics", "headline"), "leakage"), (("metrics", "chance"), "x"), (("metrics", "gain"), None),
        (("metrics", "auc"), "x"), (("metrics", "auc"), {"value": 0.5}), (("metrics", "auc", "value"), 7.0),
        (("metrics", "roc"), None), (("metrics", "roc", "fp"), ["a"]), (("utility", "accuracy"), "a"),
        (("privacy", "epsilon"), "abc"), (("privacy", "delta"), None), (("privacy", "public_knowledge"), 5),
    ],
)  # fmt: skip
def test_a_cell_whose_figures_are_no_figures_is_left_out(tmp_path: Path, place: tuple[str, ...], value: Any) -> None:
    """Such a file is named in a doubt; it must not take the whole board down."""
    store = Store(tmp_path)
    path = store.save(cell())
    values = json.loads(path.read_bytes())
    inner = values
    for key in place[:-1]:
        inner = inner[key]
    assert store.results()
    inner[place[-1]] = value
    path.write_text(json.dumps(values))
    with pytest.warns(Caveat, match="left out"):
        assert store.results() == []


def test_sheets_come_back_and_stay_out_of_git(tmp_path):
    here, name = Store(tmp_path), ("digits", "none,steps=3", "gradient_inversion", 0)
    rows = {"true": np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4, 1)}
    assert here.load_sheet(name) is None
    here.save_sheet(name, rows)
    back = here.load_sheet(name)
    assert back.keys() == rows.keys()
    assert np.array_equal(back["true"], rows["true"])
    assert here.load_sheet((*name[:3], 1)) is None
    [path] = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert path.relative_to(tmp_path).parts[0] == ".local"  # pictures of private records
    path.write_bytes(b"PK nothing")
    assert here.load_sheet(name) is None
