"""A results folder on a full or read-only disk: what a run reports, when it stops and which files remain."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Any

import pytest
from toy_runs import Run, cells, files, names

from bench.core import files as disk
from bench.store.store import Store


def test_a_full_disk_stops_the_run_at_once(
    run: Run, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unlike an error in a component: no later cell could be stored either, so measuring on would be wasted."""
    original = os.fsync

    def full(file: int) -> None:
        if cells(results):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(file)

    monkeypatch.setattr(disk.os, "fsync", full)
    assert run("says", "against", "honest", "slow", "stopped") == 2, "130 where it went on to the next attack"
    assert names(results) == {("says", "honest", 0)}
    assert "free space" in capsys.readouterr().err


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_error_is_one_sentence_and_stored_files_are_unchanged(
    run: Run, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], call: str
) -> None:
    assert run("says", "against", "honest") == 0
    before = files(results)
    leaderboard = (results / "leaderboard.md").read_bytes()
    monkeypatch.setattr(Store, "machine", "f" * 32)  # so that the stored cell is measured and written again
    original, writes = getattr(os, call), []

    def full(*words: Any) -> Any:
        # the first two calls test the disk before training; the disk is full from the third on
        writes.append(words)
        if len(writes) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*words)

    monkeypatch.setattr(disk.os, call, full)
    capsys.readouterr()
    assert run("says", "against", "honest", "slow") == 2
    err = capsys.readouterr().err
    messages = [line for line in err.splitlines() if line.startswith("bench:")]
    assert len(messages) == 1
    assert re.search(r"cannot write to .* \(No space left on device\): free space", messages[0])
    assert "Traceback" not in err
    assert files(results) == before
    assert (results / "leaderboard.md").read_bytes() == leaderboard
    assert not list(results.rglob("*.tmp"))


def test_a_read_only_disk_is_reported_before_training(
    run: Run, results: Path, monkeypatch: pytest.MonkeyPatch, trainings: list[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(disk.os, "fsync", full)
    assert run("none,steps=4", "against", "confidence") == 2
    assert trainings == []
    assert not files(results)


def test_a_run_whose_cells_are_all_stored_writes_nothing(
    run: Run, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("says", "against", "honest") == 0

    def full(*_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(disk.os, "fsync", full)
    assert run("says", "against", "honest") == 0
