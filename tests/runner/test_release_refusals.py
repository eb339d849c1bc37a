"""What is not released is one sentence; nothing is overwritten, and a failed or killed release leaves no card."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from releases import PLUGIN, Release, files  # noqa: F401 - the fixture `plugin` writes PLUGIN

from bench.runner import play
from bench.runner import release as releasing

ROOT = Path(__file__).resolve().parents[2]


def test_an_unwritable_folder_is_reported_before_training(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(play, "release", lambda data, defense, seed: pytest.fail("trained"))
    (tmp_path / "out").write_text("a file")
    assert release("--defense", "sums") == 2
    assert "a file is in its place" in capsys.readouterr().err


def refused(err: str, why: str) -> None:
    assert err.startswith("bench: ")
    assert err.count("\n") == 1
    assert why in err


REFUSED: dict[str, tuple[list[str], str]] = {
    "no defense": ([], "select one with --defense"),
    "claims nothing": (["--defense", "open"], "open claims no differential privacy"),
    "ships and claims nothing": (["--defense", "none"], "none claims no differential privacy"),
    "epsilon is inf": (["--defense", "sums,epsilon=inf"], "trains without privacy"),
    "a sweep to inf": (["--defense", "sums", "--epsilon", "1,inf"], "trains without privacy"),
    "spends inf": (["--defense", "naked"], "spent an infinite epsilon"),
    "no file": (["--defense", "answers"], "publishes predict, of which nothing can be written"),
    "attack": (["--defense", "sums", "--attack", "confidence"], "`release` does not take '--attack'"),
    "seeds": (["--defense", "sums", "--seeds", "0"], "`release` does not take '--seeds'"),
    "committed": (["--defense", "sums", "--reuse-committed"], "`release` does not take '--reuse-committed'"),
    "budget": (["--defense", "sums", "--budget", "1h"], "`release` does not take '--budget'"),
    "results": (["--defense", "sums", "--results", "out"], "`release` does not take '--results'"),
}


@pytest.mark.parametrize(("argv", "why"), REFUSED.values(), ids=REFUSED)
def test_a_refused_release_is_one_sentence_and_writes_nothing(
    release: Release, tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], why: str
) -> None:
    assert release(*argv) == 2
    err = capsys.readouterr().err
    refused("".join(line for line in err.splitlines(keepends=True) if line.startswith("bench: ")), why)
    assert files(tmp_path / "out") == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [("attack", "confidence"), ("seeds", "0"), ("reuse-committed", "true"), ("budget", "1h"), ("results", "out")],
)
def test_settings_of_a_configuration_are_refused_alike(
    release: Release, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    where = "parts: [{defense: sums}, {defense: sums, %s}]" if name in ("attack", "seeds") else "defense: sums\n%s"
    (tmp_path / "board.yaml").write_text(where % f"{name}: {value}")
    assert release("--config", "board.yaml") == 2
    refused(capsys.readouterr().err, f"`bench release` does not take the setting '{name}'")
    assert files(tmp_path / "out") == {}


def test_nothing_is_overwritten(release: Release, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert release("--defense", "sums") == 0
    before = files(tmp_path / "out")
    capsys.readouterr()
    assert release("--defense", "sums") == 2
    assert "exists already and nothing is overwritten" in capsys.readouterr().err
    assert release("--defense", "secretive", "--defense", "sums") == 2, "before anything is trained"
    assert files(tmp_path / "out") == before


def test_a_folder_created_meanwhile_is_not_overwritten(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = play.release

    def slow(*arguments: Any) -> Any:
        other = tmp_path / "out" / "made" / "sums"
        other.mkdir(parents=True)
        (other / "card.md").write_text("somebody else's")
        return original(*arguments)

    monkeypatch.setattr(play, "release", slow)
    assert release("--defense", "sums") == 2
    assert files(tmp_path / "out") == {"made/sums/card.md": b"somebody else's"}


def test_a_finding_of_the_linter_is_reported_and_refuses_the_release(
    release: Release, tmp_path: Path, findings: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    found = types.SimpleNamespace(probe="sensitivity", what="one record moves the sum by 2.00, and 1.00 is accounted.")
    findings.append(found)
    assert release("--defense", "sums") == releasing.REFUSED == 3
    assert "sums is not released (sensitivity): one record moves the sum by 2.00" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", range(4))
def test_a_release_that_is_killed_half_way_leaves_no_card(tmp_path: Path, plugin: Path, file: int) -> None:
    code = f"""
import os, signal, sys, types
lint = types.ModuleType("bench.lint.linter")
lint.lint = lambda *_: ()
sys.modules["bench.lint.linter"] = lint
from bench.runner import release as releasing
from bench.cli.main import main
from bench.core.files import write
left = {file}
def killed(path, data):
    global left
    if not left:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path.parent / f"{{path.name}}.part", "wb") as half:
            half.write(data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    write(path, data)
releasing.write = killed
main(["release", "--plugin", {str(plugin)!r}, "--data", "made", "--into", "out", "--defense", "sums"])
"""
    ours = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=ours, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "out" / "made" / "sums").exists()
    assert not list((tmp_path / "out").rglob("card.md"))
    assert all("made/" in name and ".tmp/" in name for name in files(tmp_path / "out"))


def test_a_failed_release_leaves_no_file(release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    original = releasing.write

    def full(path: Path, data: bytes) -> None:
        written.append(path.name)
        if path.name == "card.md":
            raise OSError(28, "No space left on device")
        original(path, data)

    monkeypatch.setattr(releasing, "write", full)
    assert release("--defense", "sums") == 2
    assert written[-2:] == ["card.json", "card.md"], "the card comes last"
    assert files(tmp_path / "out") == {}
