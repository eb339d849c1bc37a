"""A damaged control or lint verdict is reported as damaged on the leaderboard, not as missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import components

from bench.core.component import Choice
from bench.core.files import write
from bench.lint import verdicts
from bench.runner import controls
from bench.runner.selection import choose
from bench.store.records import ControlResult, LintVerdict, place_of_label
from bench.store.store import Store


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 200_000, b"\xff"])
def test_damaged_is_not_called_not_run(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path)
    absent = controls.caveat(store, components(), "lira"), verdicts.caveat(store, components(), "dp_sgd")
    assert not any("damaged" in str(one) for one in absent)
    write(store.root.joinpath(*place_of_label(ControlResult, "lira")), content)
    [probed] = verdicts.stale(store, components(), [_choice("dp_sgd")])
    write(store.root.joinpath(*place_of_label(LintVerdict, probed.label)), content)
    damaged = controls.caveat(store, components(), "lira"), verdicts.caveat(store, components(), "dp_sgd")
    assert all("damaged" in str(one) for one in damaged), damaged


def _choice(name: str) -> Choice:

    [one] = choose(components(), "defense", name)
    return one
