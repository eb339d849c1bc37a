"""A run stores what it measures and reuses what is stored; numbers depend on the cell alone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from toy_runs import DATA, Run, arguments, cells, files, numbers

from bench.cli.main import main
from bench.core.dataset import DataLocation
from bench.core.progress import Progress
from bench.games import membership
from bench.models import classifier
from bench.runner import run as runner
from bench.runner.registry import discover
from bench.runner.request import Grid, Request
from bench.runner.selection import choose
from bench.store.store import Store

ROOT = Path(__file__).resolve().parents[2]


def test_a_repeated_run_trains_nothing_and_does_not_import_tensorflow(
    run: Run, results: Path, plugin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    selection = ("none,steps=4", "mute", "against", "confidence", "art_membership")
    assert run(*selection) == 0
    before, leaderboard = files(results), capsys.readouterr().out
    code = f"""
import sys
from bench.cli.main import main
code = main({arguments(plugin, results, *selection)!r})
slow = {{"tensorflow", "keras", "tensorflow_privacy", "tensorflow_datasets", "art", "sklearn", "dp_accounting"}}
assert not slow & set(sys.modules), slow & set(sys.modules)
sys.exit(code)
"""
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert again.returncode == 0, again.stderr
    assert files(results) == before
    assert again.stdout == leaderboard


def test_an_added_attack_retrains_nothing(run: Run, results: Path, trainings: list[str]) -> None:
    assert run("none,steps=4", "against", "confidence") == 0
    assert len(trainings) == 1
    assert run("none,steps=4", "against", "confidence", "honest") == 0
    assert len(trainings) == 1
    assert len(cells(results)) == 2


@pytest.mark.parametrize(
    ("defenses", "attacks"),
    [
        (("none,steps=4", "constant"), ("honest", "doubtful", "slow")),
        pytest.param(
            ("none,steps=4", "dp_sgd,steps=4"), ("confidence", "art_membership", "honest"), marks=pytest.mark.slow
        ),
    ],
    ids=["quick", "real"],
)
def test_numbers_do_not_depend_on_the_order_or_the_other_cells_of_a_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defenses: tuple[str, ...], attacks: tuple[str, ...]
) -> None:
    monkeypatch.setattr(membership, "FOLDS", 2)
    one, other = tmp_path / "one", tmp_path / "other"
    assert run(*defenses, "against", *attacks, folder=one) == 0
    assert run(*defenses[::-1], "against", *attacks[:0:-1], folder=other) == 0
    assert run(defenses[1], "says", "against", attacks[0], folder=other, seeds="1,0") == 0
    assert run(defenses[0], "against", attacks[0], folder=other) == 0
    first, second = numbers(one), numbers(other)
    assert len(first) == 6
    assert {name: second[name] for name in first} == first
    metrics = [json.dumps(cell[0]) for cell in second.values()]
    assert len(set(metrics)) == len(metrics), (
        "cells of different seeds, defenses and attacks must differ, or nothing was compared"
    )


def test_a_killed_run_continues_where_it_stopped(run: Run, results: Path, plugin: Path, tmp_path: Path) -> None:
    selection = ("none,steps=4", "says", "against", "honest", "slow")
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", *arguments(plugin, results, *selection, seeds="0,1")],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 90
        while not files(results) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    killed = {path: path.stat().st_mtime_ns for path in files(results)}
    assert 1 <= len(cells(results)) == len(killed) < 8, "every stored cell is complete"
    assert run(*selection, seeds="0,1") == 0
    uninterrupted = tmp_path / "uninterrupted"
    assert run(*selection, seeds="0,1", folder=uninterrupted) == 0
    assert len(cells(results)) == 8
    assert numbers(results) == numbers(uninterrupted)
    assert {path: path.stat().st_mtime_ns for path in killed} == killed, "stored cells are not measured again"


def test_two_runs_at_once_lose_nothing(run: Run, results: Path, plugin: Path, tmp_path: Path) -> None:
    selection = ("none,steps=4", "says", "against", "honest", "slow")
    reversed_selection = ("says", "none,steps=4", "against", "slow", "honest")
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", *arguments(plugin, results, *selection)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    local = results / ".local"
    deadline = time.monotonic() + 60
    while not local.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)  # the other run has started up, so the two overlap
    assert run(*reversed_selection) == 0
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 0, output
    alone = tmp_path / "alone"
    assert run(*selection, folder=alone) == 0
    assert numbers(results) == numbers(alone)
    assert len({cell.machine for cell in cells(results).values()}) == 1
    assert not list(results.rglob("*.tmp"))
    assert len((results / "leaderboard.csv").read_text().splitlines()) == 1 + 4


def test_the_outcome_counts_measured_stored_and_failed_cells(
    results: Path, plugin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench.cli.options import SETTINGS, request

    registry = discover([plugin])
    settings: dict[str, Any] = {
        **dict.fromkeys(SETTINGS), "defense": ["says", "mute"], "attack": ["honest", "broken"], "data": [DATA],
        "seeds": "0", "results": str(results),
    }  # fmt: skip
    requested = request(registry, settings, [settings])
    with Progress() as progress:
        first, second = (runner.run(requested, registry, Store(results), progress) for _ in range(2))
    assert (first.measured, first.stored, len(first.failed)) == (1, 0, 1)
    assert (second.measured, second.stored, len(second.failed)) == (0, 1, 1)


def test_the_leaderboard_is_built_and_written_under_the_lock(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two runs that end together, the first to read the cells must not be the last to write the leaderboard."""
    from contextlib import contextmanager

    from bench.report import aggregate, markdown

    inside: list[bool] = []
    written: list[bool] = []

    @contextmanager
    def lock(self: Store) -> Any:
        inside.append(True)
        yield
        inside.pop()

    build, write = aggregate.build, markdown.write
    monkeypatch.setattr(Store, "lock", lock)
    monkeypatch.setattr(aggregate, "build", lambda *given: (written.append(bool(inside)), build(*given))[1])
    monkeypatch.setattr(markdown, "write", lambda *given: (written.append(bool(inside)), write(*given))[1])
    results.mkdir()
    assert main(["table", "--results", str(results)]) == 0
    assert written == [True, True]


def test_no_two_rows_share_a_training_seed(results: Path, plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows of a sweep, or of a data set in two sizes, with equal noise: an adversary could cancel it."""
    seeds: list[int] = []
    train = classifier.train

    def recorded(recipe: Any, datasets: Any, given: Any, *rest: Any, **more: Any) -> Any:
        seeds.extend(given)
        return train(recipe, datasets, given, *rest, **more)

    monkeypatch.setattr(classifier, "train", recorded)
    registry = discover([plugin])
    defenses = [one for epsilon in (1, 8) for one in choose(registry, "defense", f"dp_sgd,steps=2,epsilon={epsilon}")]
    sizes = (DATA, "digits,holdout=60,private=61,public=20")
    data = [one for name in sizes for one in choose(registry, "data", name)]
    grid = Grid(tuple(defenses), tuple(choose(registry, "attack", "honest")), tuple(data), (0, 1))
    with Progress() as progress:
        outcome = runner.run(Request((grid,), results, DataLocation()), registry, Store(results), progress)
    assert (outcome.measured, outcome.failed) == (8, {})
    assert len(seeds) == len(set(seeds)) == 8
