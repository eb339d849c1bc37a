"""Stubs of the runner and the leaderboard: tests of the command line measure nothing."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.core.errors import Caveat
from bench.runner.request import Request

COMPONENTS = """
from bench.games import MEMBERSHIP
from bench.core.component import attack, defense

@defense("shield", publishes={"predict"})
def shield(private, public, *, seed, epsilon=8.0, hidden=(64, 32)):
    '''A shield.'''

@attack("spear", game=MEMBERSHIP, needs={"predict"})
def spear(release, targets, public, *, seed, learner="lr"):
    '''A spear.'''
"""


class Fakes:
    """Stubs of the runner and the leaderboard that record their calls."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.calls: list[str] = []
        self.failed: dict[tuple[str, str, str, int], str] = {}
        self.raises: BaseException | None = None
        self.left: list[tuple[str, str, str, int]] = []

    def run(
        self, request: Request, registry: Any, store: Any, progress: Any, budget: Any = None, costs: Any = None
    ) -> Any:
        self.requests.append(request)
        progress.step("digits, shield", 1, 1)
        warnings.warn("only 3 non-members.", Caveat, stacklevel=1)
        if self.raises:
            raise self.raises
        return SimpleNamespace(failed=self.failed, measured=1, stored=0, left=self.left)

    def publish(self, *_: Any) -> bool:
        self.calls.append("publish")
        return False


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fakes:
    """Work in an empty folder, without `BENCH_DATA_DIR`, and with stubs of runner, linter and leaderboard."""
    made = Fakes()
    monkeypatch.setattr("bench.runner.run.run", made.run)
    monkeypatch.setattr("bench.cli.run.lint_claims", lambda request, registry: False)
    monkeypatch.setattr("bench.report.publish.publish", made.publish)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BENCH_DATA_DIR", raising=False)
    Path("mine.py").write_text(COMPONENTS)
    Path("broken.py").write_text("1 / 0")
    Path("empty.npz").touch()
    return made


def words(argv: list[str]) -> list[str]:
    """The same command with the components of these tests."""
    return [argv[0], "--plugin", "mine.py", *argv[1:]] if argv[:1] in (["run"], ["list"], ["table"]) else argv


def is_one_sentence(err: str) -> None:
    assert err.startswith("bench: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert "Traceback" not in err
