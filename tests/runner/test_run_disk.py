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


def test_a_disk_that_fills_up_stops_the_run_at_once(
    run: Run, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unlike a mistake in a component: no later cell could be stored either, and hours would be spent on them."""
    plain = os.fsync

    def full(file: int) -> None:
        if cells(results):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain(file)

    monkeypatch.setattr(disk.os, "fsync", full)
    assert run("says", "against", "honest", "slow", "stopped") == 2, "130 where it went on to the next attack"
    assert names(results) == {("says", "honest", 0)}
    assert "free space" in capsys.readouterr().err


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_refuses_is_one_sentence_and_old_files_stay(
    run: Run, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], call: str
) -> None:
    assert run("says", "against", "honest") == 0
    before = files(results)
    board = (results / "leaderboard.md").read_bytes()
    monkeypatch.setattr(Store, "machine", "f" * 32)  # so that what is there is written anew
    plain, wrote = getattr(os, call), []

    def full(*words: Any) -> Any:
        # the store tries the disk before it trains; it fills up after that
        wrote.append(words)
        if len(wrote) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return plain(*words)

    monkeypatch.setattr(disk.os, call, full)
    capsys.readouterr()
    assert run("says", "against", "honest", "slow") == 2
    err = capsys.readouterr().err
    said = [line for line in err.splitlines() if line.startswith("bench:")]
    assert len(said) == 1
    assert re.search(r"cannot write to .* \(No space left on device\): free space", said[0])
    assert "Traceback" not in err
    assert files(results) == before
    assert (results / "leaderboard.md").read_bytes() == board
    assert not list(results.rglob("*.tmp"))


def test_a_disk_that_refuses_is_noticed_before_anything_is_trained(
    run: Run, results: Path, monkeypatch: pytest.MonkeyPatch, trainings: list[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(disk.os, "fsync", full)
    assert run("none,steps=4", "against", "confidence") == 2
    assert trainings == []
    assert not files(results)


def test_a_run_that_finds_everything_stored_needs_no_disk(
    run: Run, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("says", "against", "honest") == 0

    def full(*_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(disk.os, "fsync", full)
    assert run("says", "against", "honest") == 0
