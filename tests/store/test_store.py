"""Nothing that kills, fills or runs twice may cost a finished record, and nothing that is read may run."""

from __future__ import annotations

import errno
import gc
import json
import os
import pickle
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells import cell as made
from samples import AUDITED, CONTROL, RECORDS, STEP, VERDICT, WHOLE, values

from bench.core.errors import Caveat, UserError
from bench.core.files import write
from bench.store import audit_findings, control_results, lint_verdicts, read_write, score_rows, store
from bench.store.read_write import Damaged, encode, sealed
from bench.store.records import CellResult
from bench.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
DEFENSE = "dp_vaegm,epsilon=1.0"


def cell(seed: int = 0, attack: str = "lira", **changes: Any) -> CellResult:
    return made(DEFENSE, attack, seed, **changes)


def child(script: str, *args: object, within: Sequence[str] = ()) -> subprocess.Popen[str]:
    """A fresh Python with `cell`, `Store` and what they need; within: the words of a command that starts it."""
    head = """
        import os, random, signal, sys, time
        from pathlib import Path
        sys.path.insert(0, "tests")
        from cells import cell as made
        from bench.core import files
        from bench.core.errors import UserError
        from bench.core.files import write
        from bench.store import audit_findings, read_write, store
        from bench.store.store import Store
        def cell(seed=0, attack="lira", **changes):
            return made("dp_vaegm,epsilon=1.0", attack, seed, **changes)
    """
    command = [*within, sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(script), *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def output(process: subprocess.Popen[str], seconds: float = 120) -> str:
    text, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0
    return text


def temporaries(root: Path) -> list[Path]:
    return list(root.rglob("*.tmp"))


# Twice at once


def test_the_collector_is_as_it_was_after_reading() -> None:
    for collecting in (gc.enable, gc.disable):
        collecting()
        before, frozen = gc.isenabled(), gc.get_freeze_count()
        with pytest.raises(ValueError, match="unreadable"), store.uncollected():  # noqa: PT012 - both are looked at
            assert not gc.isenabled()
            raise ValueError("unreadable")
        assert (gc.isenabled(), gc.get_freeze_count()) == (before, frozen)
    gc.enable()


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
    before = Store(tmp_path).path("digits", DEFENSE, "lira", 0).read_bytes()
    script = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            Store(Path(sys.argv[1])).save(cell(caveats=["x" * 300_000]))
        except UserError as error:
            print(error)
    """
    said = output(child(script, tmp_path))
    path = Store(tmp_path).path("digits", DEFENSE, "lira", 0)
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

    monkeypatch.setattr(os, call, refuse)
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
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
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
    """What a killed writer left goes after a day: mutants that take it after 60 seconds took another writer's file."""
    root = tmp_path / "results"
    (root / "digits").mkdir(parents=True)
    ages = {"0123456789abcdef": 86_400 + 600, "1123456789abcdef": 86_400 - 600, "2123456789abcdef": 3600,
            "3123456789abcdef": 120, "4123456789abcdef": 61, "5123456789abcdef": 0, "thesis": 1e8}  # fmt: skip
    for name, age in ages.items():
        for folder in (root, root / "digits"):
            path = folder / f"{name}.tmp"
            path.write_bytes(b"")
            os.utime(path, (time.time() - age,) * 2)
    Store(root).check_writable()
    left = {f"{name}.tmp" for name in list(ages)[1:]}
    assert {path.name for path in (root / "digits").iterdir()} == left
    assert {path.name for path in root.iterdir()} == left | {".local", "digits"}
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
# The folder


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


def test_what_was_read_is_read_again_when_it_changed(tmp_path, monkeypatch):
    """One store asks for a cell thousands of times; whoever puts another in its place is noticed, whatever he sets."""
    here, read = Store(tmp_path), []
    plain = read_write.load
    monkeypatch.setattr(read_write, "load", lambda *where: read.append(where[1]) or plain(*where))
    paths = [here.save(cell(seed)) for seed in range(3)]
    before = here.results()
    assert here.results() == before
    assert here.load("digits", DEFENSE, "lira", 1) is before[1]
    assert len(read) == 3
    replaced, edited = cell(1, digest="e"), cell(2, digest="e" * 32)
    here.save(replaced)
    stat = paths[2].stat()
    time.sleep(0.05)  # the clock of a file system ticks
    paths[2].write_bytes(encode(edited))
    os.utime(paths[2], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (paths[2].stat().st_ino, paths[2].stat().st_size) == (stat.st_ino, stat.st_size)
    assert here.results() == [before[0], replaced, edited]
    assert len(read) == 5
    paths[0].unlink()
    assert here.results() == [replaced, edited]


def aloud(read: Callable[[], Any], count: int = 1) -> tuple[Any, list[str]]:
    """What is read, and the caveats that were said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = read()
    assert all(issubclass(one.category, Caveat) for one in caught)
    assert len(caught) == count
    return found, [str(one.message) for one in caught]


def test_a_link_counts_as_what_it_leads_to(tmp_path):
    """A folder moved to another disk, its cells in the results and in `load` alike; loops end."""
    here = Store(tmp_path / "results")
    here.save(cell())
    (here.root / "digits").rename(tmp_path / "elsewhere")
    (here.root / "digits").symlink_to(tmp_path / "elsewhere")
    here.save(cell(1))
    (here.root / "digits" / "loop").symlink_to(here.root)
    (here.root / "up").symlink_to(here.root)
    found, _ = aloud(here.results, 0)
    assert found == [cell(), cell(1)]
    assert here.load("digits", DEFENSE, "lira", 1) == cell(1)
    (tmp_path / "elsewhere").rename(tmp_path / "gone")
    (here.root / "digits").unlink()
    (here.root / "copy").symlink_to(tmp_path / "gone")
    found, said = aloud(here.results, 2)
    assert found == []
    assert all("holds the record of another file" in one for one in said)


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path):
    """A pipe named 77.json would be opened for ever; of a folder, a link to nothing and a device it is said, too."""
    here = Store(tmp_path)
    good = here.save(cell())
    os.mkfifo(good.with_name("77.json"))
    good.with_name("78.json").mkdir()
    good.with_name("79.json").symlink_to("nothing")
    good.with_name("80.json").symlink_to("/dev/zero")
    found, said = aloud(here.results, 4)
    assert found == [cell()]
    for one, why in zip(
        said, ("no regular file", "a folder", "link to a file that is not there", "no regular"), strict=True
    ):
        assert why in one
    for seed in (77, 78, 79, 80):
        assert aloud(lambda seed=seed: here.load("digits", DEFENSE, "lira", seed))[0] is None


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    here, plain = Store(tmp_path), os.scandir
    here.save(cell())

    def refuse(folder: str) -> Any:
        if folder.endswith("digits"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
        return plain(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    found, [said] = aloud(here.results)
    assert found == []
    assert "digits is left out (Permission denied): make it readable" in said


DAMAGE = {
    "cut": lambda data: data[:100], "empty": lambda data: b"", "deep": lambda data: b"[" * 200_000,
    "bytes": lambda data: b"\xff\xfe" * 40, "edited": lambda data: data.replace(b"d", b"e", 1),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", RECORDS)
def test_a_damaged_record_is_left_out_with_what_to_do(tmp_path, kind, damage):
    here, record = Store(tmp_path), RECORDS[kind]
    path = here.save(record)
    path.write_bytes(DAMAGE[damage](encode(record)))
    read = {
        "cell": here.results, "control": lambda: control_results.load(here, "lira"),
        "verdict": lambda: lint_verdicts.load(here, "dp_sgd"), "audit": lambda: audit_findings.every(here),
        "score": lambda: score_rows.every(here),
    }[kind]  # fmt: skip
    found, [said] = aloud(read)
    assert not found
    assert str(path) in said
    assert f"delete it or {record.remedy}." in said
    path.write_bytes(sealed(values(record)))
    assert aloud(read, 0)[0]


def test_damaged_is_not_the_same_as_absent(tmp_path):
    here = Store(tmp_path)
    assert control_results.read(here, "lira") is None
    assert lint_verdicts.read(here, "dp_sgd") is None
    for record, read in ((CONTROL, control_results.read), (VERDICT, lint_verdicts.read)):
        path = here.save(record)
        name = getattr(record, "attack", record.defense)
        assert read(here, name) == record
        path.write_bytes(b"{")
        with pytest.raises(Damaged, match="carries no seal"):
            read(here, name)


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_in_the_place_of_another_is_none_of_it(tmp_path, kind):
    here, record = Store(tmp_path), RECORDS[kind]
    path = here.save(record)
    other = path.with_name("1.json")
    path.rename(other)
    with pytest.raises(Damaged, match="the record of another file"):
        read_write.read(here.root, other, type(record))


AUDITS = """
    one, kind = Path(sys.argv[1]), sys.argv[2]
    sys.path.insert(0, "tests/store")
    from msgspec.structs import replace
    from samples import WHOLE
    if sys.argv[3] == "mutant":
        import contextlib
        Store.lock = lambda self: contextlib.nullcontext()
    plain = read_write.read
    def slow(*where):  # as long as a large file takes, or none would meet
        try:
            return plain(*where)
        finally:
            time.sleep(0.01)
    read_write.read = slow
    for turn in range(int(sys.argv[4])):
        here = Store(one / str(turn))
        here.root.joinpath(".local").mkdir(parents=True, exist_ok=True)
        here.root.joinpath(".local", kind).touch()
        while len(list(here.root.joinpath(".local").glob("*_*"))) + here.root.joinpath(".local", "whole").exists() < 3:
            time.sleep(0.0005)
        audit_findings.save(here, "dp_sgd", "digits", replace(WHOLE, kind=kind))
"""


@pytest.mark.parametrize("who", ["bench", "mutant"])
def test_three_audits_of_one_row_at_once_keep_all_findings(tmp_path, who):
    """Each in a process of its own reads, adds its finding and writes; without the lock some are lost."""
    turns = 10
    for process in [child(AUDITS, tmp_path, kind, who, turns) for kind in ("one_step", "whole", "black_box")]:
        output(process)
    rows = [audit_findings.load(Store(tmp_path / str(turn)), "digits", "dp_sgd") for turn in range(turns)]
    kept = [len(row.findings) for row in rows if row]
    assert kept == [3] * turns if who == "bench" else min(kept) < 3


def test_an_infinite_bound_is_a_word_in_the_file_and_a_number_here(tmp_path):
    here = Store(tmp_path)
    path = audit_findings.save(here, "dp_sgd", "digits", STEP)
    audit_findings.save(here, "dp_sgd", "digits", WHOLE)
    assert json.loads(path.read_bytes())["findings"]["one_step"]["most"] == ["inf", 7.25, 7.0]
    row = audit_findings.load(here, "digits", "dp_sgd")
    assert row is not None
    assert row.findings.keys() == AUDITED.findings.keys()
    assert row.findings["one_step"].most == (float("inf"), 7.25, 7.0)
    assert [row] == audit_findings.every(here)


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


@pytest.mark.parametrize("label", ["..", ".", ".hidden", "a/b", "x" * 400, "mine,path=/tmp/é ü.csv", "a|b\\", "100%"])
def test_every_label_has_a_folder_of_its_own(tmp_path, label):
    here = Store(tmp_path)
    one = cell(attack=label, data=label)
    path = here.save(one)
    assert len(path.relative_to(tmp_path).parts) == 4
    assert ".." not in path.parts
    assert here.results() == [one]
    assert path != here.path("digits", cell().defense, label + "x", 0)


@pytest.mark.parametrize("label", ["a\0b", "two\nlines", "\x1b[2J", "\ud800"])
def test_no_label_holds_a_control_character(tmp_path, label):
    with pytest.raises(ValueError, match=r"control character|half a character|surrogates"):
        Store(tmp_path).save(cell(data=label))
    assert list(tmp_path.iterdir()) == []


def test_a_caveat_is_kept_as_one_plain_line():
    """Its words may come from any library; a cell must not be lost for them."""
    for text in ("a\n  b", "a \x1b[31m b", "a \ud800 b", "a\u2028b", "é 😀"):
        line = read_write.plain_line(text)
        assert read_write.decode(CellResult, encode(cell(caveats=(line,)))).caveats == [line]
        assert line in ("a b", "a \\x1b[31m b", "a \\ud800 b", "é 😀")


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


def test_import_brings_nothing_heavy():
    heavy = "{'tensorflow', 'keras', 'pandas', 'sklearn', 'scipy', 'matplotlib', 'pickle5'}"
    assert output(child(f"print(sorted({heavy} & set(sys.modules)))")).strip() == "[]"


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
