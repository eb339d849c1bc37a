"""Lists of source files that no cell names are deleted, and never one that is needed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from cells import cell as made
from conftest import components

from bench.cli.main import main
from bench.core.digest import digest
from bench.store import code_release
from bench.store.records import CellResult
from bench.store.store import CODE, DAY, Store


def keep(store: Store, content: str, age: float = 2 * DAY) -> str:
    """A list of another release of the code, written `age` seconds ago."""
    files = {f"{content}.py": ("0" * 32, [])}
    name = digest(files)
    path = store.root / CODE / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(files))
    os.utime(path, (time.time() - age,) * 2)
    return name


def cell(code: str, seed: int = 0) -> CellResult:
    return made("none", seed=seed, code=code)


@pytest.fixture
def store(results: Path) -> Store:
    return Store(results)


def lists(store: Store) -> set[str]:
    return {path.stem for path in (store.root / CODE).iterdir()}


def test_only_old_lists_that_no_cell_names_are_deleted(store: Store) -> None:
    named, unnamed, young = keep(store, "named"), keep(store, "unnamed"), keep(store, "young", age=DAY / 2)
    store.save(cell(named))
    other = store.root / CODE / "notes.json"
    other.write_text("{}")
    os.utime(other, (0, 0))
    code_release.prune(store)
    assert lists(store) == {named, young, "notes"}
    assert unnamed not in lists(store)


def test_a_run_that_has_no_cell_yet_has_its_list(store: Store) -> None:
    """It may be of code that was measured and dropped before: the list is there, and old."""
    name = code_release.keep(store, components().components)
    for path in (store.root / CODE).iterdir():
        os.utime(path, (0, 0))
    assert code_release.keep(store, components().components) == name
    unnamed = keep(store, "unnamed")
    code_release.prune(store)
    assert lists(store) == {name}
    assert unnamed != name


def test_while_a_cell_cannot_be_read_every_list_stays(store: Store) -> None:
    """It may name one of them, and come back from a backup."""
    both = {keep(store, "named"), keep(store, "unnamed")}
    store.save(cell(min(both)))
    damaged = store.save(cell(max(both), seed=1))
    kept = damaged.read_bytes()
    damaged.write_text("{")
    code_release.prune(store)
    assert lists(store) == both
    damaged.write_bytes(kept)
    code_release.prune(store)
    assert lists(store) == both
    damaged.unlink()
    code_release.prune(store)
    assert lists(store) == {min(both)}


def test_the_table_deletes_them_and_why_still_knows_the_files(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    named = keep(store, "named")
    keep(store, "unnamed")
    store.save(cell(named))
    assert main(["table", "--results", str(store.root)]) == 0
    assert lists(store) == {named}
    assert code_release.load(store, named) is not None
    assert "Traceback" not in capsys.readouterr().err
