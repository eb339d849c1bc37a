"""Files that cannot be read as the record of their name are left out, with a caveat that names them."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from processes import DEFENSE, cell
from samples import CONTROL, RECORDS, VERDICT, values

from bench.core.errors import Caveat
from bench.store import audit_findings, read_write, score_rows
from bench.store.read_write import Damaged, encode, sealed
from bench.store.records import ControlResult, LintVerdict
from bench.store.store import Store


def test_unreadable_files_are_named_and_skipped(tmp_path):
    here = Store(tmp_path)
    good = here.save(cell(0))
    bad = here.path("digits", cell().defense, "lira", 1)
    for spoil in (
        lambda: bad.write_bytes(good.read_bytes()[:100]),
        lambda: bad.write_bytes(good.read_bytes()),  # a copy under the name of another cell
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


def with_caveats(read: Callable[[], Any], count: int = 1) -> tuple[Any, list[str]]:
    """What `read` returns, and the texts of its `count` caveats."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = read()
    assert all(issubclass(one.category, Caveat) for one in caught)
    assert len(caught) == count
    return found, [str(one.message) for one in caught]


def test_symbolic_links_are_followed_and_loops_end(tmp_path):
    """`results` and `load` both read the cells of a folder that was moved to another disk and linked."""
    here = Store(tmp_path / "results")
    here.save(cell())
    (here.root / "digits").rename(tmp_path / "elsewhere")
    (here.root / "digits").symlink_to(tmp_path / "elsewhere")
    here.save(cell(1))
    (here.root / "digits" / "loop").symlink_to(here.root)
    (here.root / "up").symlink_to(here.root)
    found, _ = with_caveats(here.results, 0)
    assert found == [cell(), cell(1)]
    assert here.load("digits", DEFENSE, "lira", 1) == cell(1)
    (tmp_path / "elsewhere").rename(tmp_path / "gone")
    (here.root / "digits").unlink()
    (here.root / "copy").symlink_to(tmp_path / "gone")
    found, caveats = with_caveats(here.results, 2)
    assert found == []
    assert all("holds the record of another file" in one for one in caveats)


def test_pipes_folders_and_devices_are_left_out_without_blocking(tmp_path):
    """Opening a pipe named 77.json would block for ever."""
    here = Store(tmp_path)
    good = here.save(cell())
    os.mkfifo(good.with_name("77.json"))
    good.with_name("78.json").mkdir()
    good.with_name("79.json").symlink_to("nothing")
    good.with_name("80.json").symlink_to("/dev/zero")
    found, caveats = with_caveats(here.results, 4)
    assert found == [cell()]
    for one, why in zip(
        caveats, ("no regular file", "a folder", "link to a file that is not there", "no regular"), strict=True
    ):
        assert why in one
    for seed in (77, 78, 79, 80):
        assert with_caveats(lambda seed=seed: here.load("digits", DEFENSE, "lira", seed))[0] is None


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    here, original = Store(tmp_path), os.scandir
    here.save(cell())

    def refuse(folder: str) -> Any:
        if folder.endswith("digits"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
        return original(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    found, [caveat] = with_caveats(here.results)
    assert found == []
    assert "digits is left out (Permission denied): make it readable" in caveat


DAMAGE = {
    "cut": lambda data: data[:100], "empty": lambda data: b"", "deep": lambda data: b"[" * 200_000,
    "bytes": lambda data: b"\xff\xfe" * 40, "edited": lambda data: data.replace(b"d", b"e", 1),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", RECORDS)
def test_a_damaged_record_is_left_out_with_a_caveat_that_says_what_to_do(tmp_path, kind, damage):
    here, record = Store(tmp_path), RECORDS[kind]
    path = here.save(record)
    path.write_bytes(DAMAGE[damage](encode(record)))
    read = {
        "cell": here.results, "control": lambda: here.find_label(ControlResult, "lira"),
        "verdict": lambda: here.find_label(LintVerdict, "dp_sgd"), "audit": lambda: audit_findings.every(here),
        "score": lambda: score_rows.every(here),
    }[kind]  # fmt: skip
    found, [caveat] = with_caveats(read)
    assert not found
    assert str(path) in caveat
    assert f"delete it or {record.remedy}." in caveat
    path.write_bytes(sealed(values(record)))
    assert with_caveats(read, 0)[0]


def test_a_damaged_record_raises_and_an_absent_one_is_none(tmp_path):
    here = Store(tmp_path)
    assert here.read_label(ControlResult, "lira") is None
    assert here.read_label(LintVerdict, "dp_sgd") is None
    for record in (CONTROL, VERDICT):
        path = here.save(record)
        name = getattr(record, "attack", record.defense)
        assert here.read_label(type(record), name) == record
        path.write_bytes(b"{")
        with pytest.raises(Damaged, match="carries no seal"):
            here.read_label(type(record), name)


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_under_the_name_of_another_is_damaged(tmp_path, kind):
    here, record = Store(tmp_path), RECORDS[kind]
    path = here.save(record)
    other = path.with_name("1.json")
    path.rename(other)
    with pytest.raises(Damaged, match="the record of another file"):
        read_write.read(here.root, other, type(record))
