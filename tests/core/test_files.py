"""Files are complete or absent, and a path that is no regular file of limited size is refused before it is opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.core.files import read_regular, write, write_if_changed


def test_a_file_is_read_completely_and_only_within_the_limit(tmp_path: Path) -> None:
    path, data = tmp_path / "deep" / "a", os.urandom(100_000)
    write(path, data)
    assert read_regular(path, len(data)) == read_regular(str(path), len(data)) == data
    with pytest.raises(ValueError, match="it has 100000 bytes, more than 99999"):
        read_regular(path, len(data) - 1)
    (tmp_path / "link").symlink_to(path)
    assert read_regular(tmp_path / "link", len(data)) == data


def test_a_path_that_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to_pipe").symlink_to("pipe")
    for path, why in ((tmp_path, "a folder"), (tmp_path / "pipe", "no regular file"), (Path("/dev/zero"), "no regular"),
                      (tmp_path / "to_pipe", "no regular file")):  # fmt: skip
        with pytest.raises(ValueError, match=why):
            read_regular(path, 10)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "missing", 10)


def test_a_path_that_is_no_regular_file_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a device can have side effects, and opening a pipe unblocks the process at its other end."""
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("opened"))
    with pytest.raises(ValueError, match="no regular file"):
        read_regular(tmp_path / "pipe", 10)


def test_a_file_that_grows_while_it_is_read_is_read_to_the_limit(tmp_path: Path) -> None:
    """Files of the kernel report a size of 0 and have content."""
    path = Path("/proc/self/status")
    assert path.stat().st_size == 0
    assert b"VmHWM" in read_regular(path, 100_000)
    with pytest.raises(ValueError, match="larger than 100 bytes"):
        read_regular(path, 100)


def test_the_same_bytes_are_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    write_if_changed(path, b"one")
    before = path.stat().st_ino
    write_if_changed(path, b"one")
    assert path.stat().st_ino == before
    write_if_changed(path, b"two")
    assert path.read_bytes() == b"two"


def test_a_folder_in_place_of_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "page.md").mkdir()
    for put in (write, write_if_changed):
        with pytest.raises(UserError, match=r"page\.md is a folder where a file should be: move it away"):
            put(tmp_path / "page.md", b"one")
    assert [path.name for path in tmp_path.iterdir()] == ["page.md"]
