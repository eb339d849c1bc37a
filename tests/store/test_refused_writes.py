"""Full disks, read-only folders and interrupts: one clear sentence, the old file intact, no temporary file left."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import numpy as np
import pytest
from processes import DEFENSE, cell, child, output, temporaries

from bench.core.errors import UserError
from bench.core.files import write
from bench.store.store import Store


def test_a_file_size_limit_is_one_sentence_and_the_old_file_stays(tmp_path):
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
    message = output(child(script, tmp_path))
    path = Store(tmp_path).path("digits", DEFENSE, "lira", 0)
    assert str(path.parent) in message
    assert os.strerror(errno.EFBIG) in message
    assert path.read_bytes() == before
    assert not temporaries(tmp_path)


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_full_or_read_only_disk_is_one_sentence_and_the_old_file_stays(tmp_path, monkeypatch, call, code):
    path = tmp_path / "a" / "cell.json"
    write(path, b"old")

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(UserError) as message:
        write(path, b"new")
    assert str(path.parent) in str(message.value)
    assert os.strerror(code) in str(message.value)
    assert "\n" not in str(message.value)
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


def test_a_missing_permission_is_one_sentence(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match="Permission denied"):
        Store(tmp_path / "results").check_writable()


def test_check_writable_makes_the_folder_and_leaves_it_clean(tmp_path):
    """Temporary files of killed writers are deleted after a day; a mutant that deletes after 60 s removes live ones."""
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
