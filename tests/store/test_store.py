"""A store lists, loads and names its records; unchanged files are read once."""

from __future__ import annotations

import gc
import json
import os
import time
import warnings
from pathlib import Path

import pytest
from processes import DEFENSE, cell, child, output
from samples import AUDITED, STEP, WHOLE

from bench.store import audit_findings, read_write, store
from bench.store.read_write import encode
from bench.store.records import CellResult
from bench.store.store import Store


def test_garbage_collection_is_restored_after_reading() -> None:
    for collecting in (gc.enable, gc.disable):
        collecting()
        before, frozen = gc.isenabled(), gc.get_freeze_count()
        with pytest.raises(ValueError, match="unreadable"), store.uncollected():  # noqa: PT012 - the state inside and after is checked
            assert not gc.isenabled()
            raise ValueError("unreadable")
        assert (gc.isenabled(), gc.get_freeze_count()) == (before, frozen)
    gc.enable()


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


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(tmp_path, monkeypatch):
    """A store loads a cell thousands of times; a replaced file is noticed even if its size and mtime are the same."""
    here, reads = Store(tmp_path), []
    original = read_write.load
    monkeypatch.setattr(read_write, "load", lambda *where: reads.append(where[1]) or original(*where))
    paths = [here.save(cell(seed)) for seed in range(3)]
    before = here.results()
    assert here.results() == before
    assert here.load("digits", DEFENSE, "lira", 1) is before[1]
    assert len(reads) == 3
    replaced, edited = cell(1, digest="e"), cell(2, digest="e" * 32)
    here.save(replaced)
    stat = paths[2].stat()
    time.sleep(0.05)  # longer than the time resolution of file systems
    paths[2].write_bytes(encode(edited))
    os.utime(paths[2], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (paths[2].stat().st_ino, paths[2].stat().st_size) == (stat.st_ino, stat.st_size)
    assert here.results() == [before[0], replaced, edited]
    assert len(reads) == 5
    paths[0].unlink()
    assert here.results() == [replaced, edited]


def test_an_infinite_bound_is_text_in_the_file_and_a_float_when_loaded(tmp_path):
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
def test_each_label_has_its_own_folder_inside_the_results(tmp_path, label):
    here = Store(tmp_path)
    one = cell(attack=label, data=label)
    path = here.save(one)
    assert len(path.relative_to(tmp_path).parts) == 4
    assert ".." not in path.parts
    assert here.results() == [one]
    assert path != here.path("digits", cell().defense, label + "x", 0)


@pytest.mark.parametrize("label", ["a\0b", "two\nlines", "\x1b[2J", "\ud800"])
def test_a_label_with_a_control_character_is_refused(tmp_path, label):
    with pytest.raises(ValueError, match=r"control character|half a character|surrogates"):
        Store(tmp_path).save(cell(data=label))
    assert list(tmp_path.iterdir()) == []


def test_a_caveat_is_stored_as_one_printable_line():
    """Its text may come from any library; it must not make the cell unstorable."""
    for text in ("a\n  b", "a \x1b[31m b", "a \ud800 b", "a\u2028b", "é 😀"):
        line = read_write.plain_line(text)
        assert read_write.decode(CellResult, encode(cell(caveats=(line,)))).caveats == [line]
        assert line in ("a b", "a \\x1b[31m b", "a \\ud800 b", "é 😀")


def test_importing_the_store_loads_no_heavy_library():
    heavy = "{'tensorflow', 'keras', 'pandas', 'sklearn', 'scipy', 'matplotlib', 'pickle5'}"
    assert output(child(f"print(sorted({heavy} & set(sys.modules)))")).strip() == "[]"
