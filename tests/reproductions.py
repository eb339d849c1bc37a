"""Four stored cells, `bench reproduce` called in this process, and its report as Python values."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.cli.main import main
from bench.core.digest import digest
from bench.report import reproduce
from bench.store import code_release, read_write
from bench.store.store import Store

WORDS = ("--data", "made", "--defense", "says", "--attack", "honest", "--attack", "moody")
Check = Callable[..., int]


@pytest.fixture
def kept(results: Path, plugin: Path) -> Store:
    """A store of four cells: two attacks, two seeds."""
    words = ["run", "--no-reference", "--results", str(results), "--plugin", str(plugin), "--seeds", "0-1", *WORDS]
    assert main(words) == 0
    return Store(results)


def words(plugin: Path, kept: Store, *more: str) -> list[str]:
    seeds = () if "--seeds" in more else ("--seeds", "0-1")
    selected = () if "--data" in more else WORDS
    return ["reproduce", "--results", str(kept.root), "--plugin", str(plugin), *seeds, *selected, *more]


@pytest.fixture
def check(kept: Store, plugin: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """`bench reproduce` in this process; the output of the run before it is discarded."""
    capsys.readouterr()
    return lambda *more: main(words(plugin, kept, *more))


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def edit(kept: Store, change: Callable[[dict[str, Any]], object], attack: str = "honest", seed: int = 0) -> None:
    path = kept.path("made", "says", attack, seed)
    values = json.loads(path.read_bytes())
    change(values)
    path.write_bytes(read_write.sealed(values))


def older_code(kept: Store, name: str) -> str:
    """Store this list of files with another version of one file that the cells import, and return its name."""
    files = dict(code_release.load(kept, name) or {})
    files["bench/games/membership.py"] = "0" * 32, files["bench/games/membership.py"][1]
    (kept.root / "code" / f"{digest(files)}.json").write_text(json.dumps(files))
    return digest(files)


def counts(text: str) -> Mapping[str, int]:
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return dict(zip(lines[0], map(int, lines[1]), strict=True))


def rows(text: str) -> list[dict[str, str]]:
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def only(**found: int) -> Mapping[str, int]:
    return {verdict: found.get(verdict, 0) for verdict in reproduce.VERDICTS}


def shifted(figure: dict[str, Any], by: float) -> None:
    figure.update({key: figure[key] + by for key in ("value", "low", "high")})
