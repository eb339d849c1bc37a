"""Pages that are up to date are not written again, and whatever changes them makes them be written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cells import cell

from bench.core.component import defense
from bench.core.errors import UserError
from bench.report import page_state, publish
from bench.runner.registry import Registry
from bench.store.store import Store

WANTED = {("digits", "membership")}
KEY = ("digits", "none", "confidence", 0)


@pytest.fixture(autouse=True)
def everything_is_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "freshness", lambda find: lambda result: True)


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in place of all code."""
    path = tmp_path / "bench" / "report.py"
    path.parent.mkdir()
    path.write_text("WIDTH = 1\n")
    monkeypatch.setattr(page_state, "CODE", (path.parent,))
    return path


@pytest.fixture
def store(tmp_path: Path, code: Path) -> Store:
    """Two data sets whose pages are written."""
    store = Store(tmp_path / "results")
    for name in ("none", "dp_sgd"):
        store.save(cell(name))
        store.save(cell(name, data="mnist"))
    assert written(store)
    return store


def registry(*defenses: Any, broken: tuple[str, ...] = ()) -> Registry:
    return Registry({one.component.name: one.component for one in defenses}, {}, {}, list(broken))


def run(store: Store, known: Registry | None = None, failed: Any = (), wanted: Any = WANTED) -> None:
    publish.publish(store, known or registry(), dict(failed), lambda attack: None, lambda one: None, wanted)


def written(store: Store, *arguments: Any, **named: Any) -> bool:
    """Whether a run writes the pages."""
    calls: list[Any] = []
    really = publish._written
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "_written", lambda *given: calls.append(given) or really(*given))
        run(Store(store.root), *arguments, **named)
    return bool(calls)


def test_what_is_up_to_date_is_not_written_again(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    pages = {path: path.stat().st_mtime_ns for path in store.root.rglob("*.*")}
    assert not written(store)
    assert pages == {path: path.stat().st_mtime_ns for path in store.root.rglob("*.*")}
    assert "digits: membership" in capsys.readouterr().out


def test_the_same_is_printed_of_new_and_of_present_pages(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    other = {("mnist", "membership")}
    store.save(cell("pate"))
    assert written(store, wanted=other)
    first = capsys.readouterr().out
    assert not written(store, wanted=other)
    assert capsys.readouterr().out == first
    assert "mnist: membership" in first
    assert "digits" not in first


def changed_cell(store: Store, code: Path) -> None:
    path = store.path(*KEY)
    with open(path, "r+b") as file:  # in place, as an editor may
        text = file.read()
        file.seek(0)
        file.write(text)


CHANGES: dict[str, Callable[[Store, Path], object]] = {
    "a new cell": lambda store, code: store.save(cell("pate")),
    "a cell that is gone": lambda store, code: store.path(*KEY).unlink(),
    "a cell that is written in place": changed_cell,
    "a page that is gone": lambda store, code: (store.root / "leaderboard.md").unlink(),
    "a page that is changed": lambda store, code: (store.root / "leaderboard.csv").write_text("data\n"),
    "code": lambda store, code: code.write_text("WIDTH = 2\n"),
    "more code": lambda store, code: (code.parent / "more.py").write_text("WIDTH = 2\n"),
    "a damaged note": lambda store, code: (store.root / ".local" / "pages").write_bytes(b"\xff"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_makes_pages_be_written(name: str, store: Store, code: Path) -> None:
    CHANGES[name](store, code)
    assert written(store)
    assert not written(store)


def test_new_versions_and_broken_files_make_pages_be_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(store, registry(broken=("defenses/mine.py: it has no docstring",)))
    monkeypatch.setattr(page_state, "versions", lambda: {"numpy": "0"})
    assert written(store)


def test_a_failure_is_shown_until_the_next_run(store: Store) -> None:
    assert written(store, failed={KEY: "it stopped"})
    assert "it stopped" in (store.root / "leaderboard.md").read_text()
    assert written(store)
    assert "it stopped" not in (store.root / "leaderboard.md").read_text()
    assert not written(store)


def test_a_table_is_always_written(store: Store) -> None:
    assert written(store, wanted=None)


def test_a_note_that_cannot_be_written_costs_nothing_else(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise UserError("cannot write")

    store.save(cell("pate"))
    with monkeypatch.context() as patch:
        patch.setattr(Store, "save_pages", refused)
        assert written(store)
    assert written(store)
    assert not written(store)


def test_nobody_knows_what_code_a_plugin_runs(store: Store) -> None:
    @defense("mine", publishes={"predict"})
    def mine(private: Any, public: Any, *, seed: int) -> Any:
        """A defense of somebody else's."""

    assert all(written(store, registry(mine)) for _ in range(2))


def test_pages_that_lack_what_another_process_stored_are_not_up_to_date(store: Store) -> None:
    really = publish._written

    def slow(*given: Any) -> Any:
        store.save(cell("pate"))
        return really(*given)

    store.save(cell("top1"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "_written", slow)
        run(Store(store.root))
    assert written(store)
    assert not written(store)
