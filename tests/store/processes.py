"""Child processes that read and write a store, and the cell that they and the tests store."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cells import cell as made

from bench.store.records import CellResult

ROOT = Path(__file__).resolve().parents[2]
DEFENSE = "dp_vaegm,epsilon=1.0"
shares = pytest.mark.parametrize("share", [0.1, pytest.param(1.0, marks=pytest.mark.slow)])


def cell(seed: int = 0, attack: str = "lira", **changes: Any) -> CellResult:
    return made(DEFENSE, attack, seed, **changes)


def child(script: str, *args: object, within: Sequence[str] = ()) -> subprocess.Popen[str]:
    """A new Python process with `cell` and `Store` imported; `within`: the words of a command that starts it."""
    head = """
        import os, random, signal, sys, time
        from pathlib import Path
        sys.path.insert(0, "tests")
        from cells import cell as made
        from bench.core import files
        from bench.core.errors import UserError
        from bench.core.files import write
        from bench.store import audit_findings, read_write, store
        from bench.store.store import Store
        def cell(seed=0, attack="lira", **changes):
            return made("dp_vaegm,epsilon=1.0", attack, seed, **changes)
    """
    command = [*within, sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(script), *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def output(process: subprocess.Popen[str], seconds: float = 120) -> str:
    text, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0
    return text


def temporaries(root: Path) -> list[Path]:
    return list(root.rglob("*.tmp"))
