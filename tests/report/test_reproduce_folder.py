"""The folder of `bench reproduce --into`: continued after a kill, never mixed with stored or foreign cells."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from quick_components import PLUGIN  # noqa: F401 - the fixture `plugin` writes PLUGIN
from reproductions import Check, counts, edit, files, only, shifted, words

from bench.cli.main import main
from bench.core.dataset import DataLocation
from bench.core.errors import UserError
from bench.report import reproduce
from bench.runner.registry import discover
from bench.runner.request import Grid, Request
from bench.runner.selection import choose
from bench.store.store import Store

ROOT = Path(__file__).resolve().parents[2]


def test_a_killed_check_continues_where_it_stopped(
    kept: Store, plugin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into, trained = tmp_path / "into", tmp_path / "trained"
    (tmp_path / "mood").write_text("killed")
    argv = words(plugin, kept, "--into", str(into))
    start = [sys.executable, "-c", f"import sys; from bench.cli.main import main; sys.exit(main({argv!r}))"]
    killed = subprocess.run(start, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert [cell.attack for cell in Store(into).results()] == ["honest"]
    (tmp_path / "mood").unlink()
    before = trained.stat().st_size
    assert main(argv) == 0
    assert counts(capsys.readouterr().out) == only(equal=4)
    assert trained.stat().st_size == before + 2
    assert main(argv) == 0
    assert trained.stat().st_size == before + 2, "all cells are stored"


def test_a_cell_of_another_machine_in_the_folder_is_measured_again(
    check: Check, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even if a configuration of `run` accepts such cells."""
    (tmp_path / "board.yaml").write_text("reuse-committed: true")
    argv = ("--into", str(tmp_path / "into"), "--config", str(tmp_path / "board.yaml"))
    assert check(*argv) == 0

    def foreign(values: dict[str, Any]) -> None:
        shifted(values["metrics"]["auc"], 0.3)
        values["machine"] = "f" * 32

    edit(Store(tmp_path / "into"), foreign)
    capsys.readouterr()
    assert check(*argv) == 0
    assert counts(capsys.readouterr().out) == only(equal=4)


@pytest.mark.parametrize("into", [True, False])
def test_an_interrupt_states_what_was_stored(
    check: Check, tmp_path: Path, capsys: pytest.CaptureFixture[str], into: bool
) -> None:
    (tmp_path / "mood").write_text("stopped")
    assert check(*(["--into", str(tmp_path / "into")] if into else [])) == 130
    sentence = "what was measured is stored" if into else "nothing was kept: with --into DIR"
    assert sentence in capsys.readouterr().err


def test_a_folder_that_would_be_compared_with_itself_is_refused(
    check: Check, kept: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(kept.root, tmp_path / "copy")
    before = files(kept.root)
    for into, why in ((".", "share files"), ("in", "share files"), ("..", "share files"), ("../copy", "is a copy of")):
        assert check("--into", str(kept.root / into)) == 2
        assert why in capsys.readouterr().err
    assert files(kept.root) == before


def test_a_cell_of_older_code_in_a_resumed_folder_is_ignored(kept: Store, plugin: Path, tmp_path: Path) -> None:
    registry = discover([plugin])
    defenses, attacks = choose(registry, "defense", "says"), choose(registry, "attack", "honest")
    one = Grid(tuple(defenses), tuple(attacks), tuple(choose(registry, "data", "made")), (0,))
    request = Request((one,), kept.root, DataLocation())
    selected = reproduce.choose(request, kept, None, None)
    [cell] = selected.cells
    into = Store(tmp_path / "into")
    into.save(structs.replace(selected.results[cell.name], digest="0" * 32))
    with pytest.raises(UserError, match="not one of 1 cells was measured again"):
        reproduce.compare(selected, into, {}, registry, kept)
    into.save(selected.results[cell.name])
    assert [one.verdict for one in reproduce.compare(selected, into, {}, registry, kept).compared] == ["equal"]


def test_comparing_needs_neither_tensorflow_nor_a_network(
    check: Check, kept: Store, plugin: Path, tmp_path: Path
) -> None:
    into = tmp_path / "into"
    assert check("--into", str(into)) == 0
    code = f"""
import socket, sys
def refuse(*_):
    raise AssertionError("the network was asked")
socket.socket.connect = refuse
from bench.cli.main import main
assert main({words(plugin, kept, "--into", str(into))!r}) == 0
slow = {{"tensorflow", "keras", "tensorflow_privacy", "tensorflow_datasets", "art", "sklearn", "dp_accounting"}}
print(sorted(slow & set(sys.modules)))
"""
    ours = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=ours, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
