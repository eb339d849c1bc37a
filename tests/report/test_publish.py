"""Writing all pages: obstacles, read-only folders, and a cost linear in the number of cells."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest
from cells import cell

from bench.cli.main import main
from bench.report import aggregate, csv, epsilon_column, markdown, publish, ranking
from bench.report.comparisons import Comparisons
from bench.runner.registry import Registry
from bench.store.store import Store

REGISTRY = Registry({}, {}, {}, [])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "results")
    for name in ("none", "dp_sgd"):
        store.save(cell(name))
    return store


def table(store: Store) -> int:
    return main(["table", "--results", str(store.root)])


@pytest.mark.parametrize("name", ["leaderboard.md", "leaderboard.csv", "digits/details.md", "comparisons.csv"])
def test_a_folder_in_place_of_a_page_is_one_sentence_after_the_leaderboard(
    store: Store, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(publish, "freshness", lambda find: lambda result: True)
    (store.root / name).mkdir(parents=True)
    assert table(store) == 2
    out, err = capsys.readouterr()
    assert "dp_sgd" in out
    assert f"{name} is a folder where a file should be" in err.splitlines()[-1]
    assert all(line.startswith("bench: ") for line in err.splitlines())


def test_bytes_that_are_no_text_are_one_sentence(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    (store.root / "audits").mkdir()
    page, planted = store.root / "audit.md", store.root / "audits" / "planted.md"
    page.write_bytes(b"# Audits \xff\xfe")
    assert table(store) == 0
    assert capsys.readouterr().err == f"bench: note: {page} was not UTF-8 text and is written anew.\n"
    assert page.read_text().startswith("# Audits\n")
    planted.write_bytes(b"\xff")
    assert table(store) == 2
    out, err = capsys.readouterr()
    assert "dp_sgd" in out
    assert err == f"bench: {planted} is not UTF-8 text: save it as UTF-8, then run the same command again.\n"


def test_a_read_only_folder_still_prints_its_leaderboard(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a read-only mount; making one needs a privilege, and root ignores file modes."""
    before = {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}
    really, made = os.open, Path.mkdir

    def refuse(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR) and str(path).startswith(str(store.root)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return really(path, flags, *rest, **more)

    def refuse_folder(self: Path, *rest: Any, **more: Any) -> None:
        if not self.is_dir() and self.is_relative_to(store.root):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))
        made(self, *rest, **more)

    def refuse_file(path: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if set(mode) & set("wax+") and str(path).startswith(str(store.root)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return open_file(path, mode, *rest, **more)

    open_file = open
    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse_folder)
    monkeypatch.setattr("builtins.open", refuse_file)
    assert table(store) == 0
    out, err = capsys.readouterr()
    assert "dp_sgd" in out
    assert (
        err == f"bench: note: the leaderboard is printed and not stored, for nothing can be written to {store.root}.\n"
    )
    assert {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()} == before


def test_a_full_disk_is_an_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("bench.core.files.os.fsync", full)
    assert table(store) == 2


def test_a_refuted_claim_is_reported(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    violated = epsilon_column.Claim("9.00", violated=True)
    monkeypatch.setattr(epsilon_column, "known", lambda *_: lambda data, defense: violated)
    never = publish.publish(store, REGISTRY, {}, lambda attack: None, lambda defense: None, ())
    assert (never, publish.publish(store, REGISTRY, {}, lambda attack: None, lambda defense: None)) == (False, True)
    assert "**VIOLATION** 9.00" in (store.root / "leaderboard.md").read_text()


class Many(Store):
    """Cells in memory: `rows` defenses against four attacks, three seeds each."""

    rows = 0

    def results(self, data: Any = None) -> list[Any]:
        names = ["none", *(f"dp_sgd,epsilon={i}" for i in range(1, self.rows))]
        return [
            cell(name, f"attack{j}", seed, epsilon=float(i + 1), auc=0.5 + i % 40 / 100)
            for i, name in enumerate(names)
            for j in range(4)
            for seed in range(3)
        ]


def seconds(folder: Path, rows: int) -> float:
    store = Many(folder)
    object.__setattr__(store, "rows", rows)
    cells = store.results()
    object.__setattr__(store, "results", lambda data=None: cells)
    start = time.process_time()
    leaderboard = ranking.compared(aggregate.build(store, None), Comparisons(store))
    markdown.write(leaderboard, store)
    csv.write(leaderboard, store)
    return time.process_time() - start


def test_time_grows_no_faster_than_the_cells(tmp_path: Path) -> None:
    """Time is linear in the rows of a section: four times as many take about four times as long."""
    few = min(seconds(tmp_path / f"few{i}", 30) for i in range(3))
    assert min(seconds(tmp_path / f"many{i}", 120) for i in range(2)) < 8 * few
