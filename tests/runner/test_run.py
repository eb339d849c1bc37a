"""A run: what is measured, stored, measured again or refused, and that numbers depend on the cell alone."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells import cell as made
from msgspec import structs

from bench.cli.main import main
from bench.core import files as disk
from bench.core.dataset import DataLocation
from bench.core.errors import UserError
from bench.core.progress import Progress
from bench.dp.weights_cache import WeightsCache
from bench.games import membership
from bench.models import classifier
from bench.report import cost_estimate
from bench.runner import play
from bench.runner import run as runner
from bench.runner.registry import discover
from bench.runner.request import Grid, Request
from bench.runner.selection import choose
from bench.store.freshness import freshness
from bench.store.records import CellResult
from bench.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
DATA = "digits,holdout=60,private=60,public=20"
PLUGIN = '''
import time
import warnings
from dataclasses import replace

import numpy as np

from bench.core.dataset import Examples, Split
from bench.core.errors import Caveat, UserError
from bench.games import MEMBERSHIP
from bench.core.component import attack, dataset, defense
from bench.core.release import Release


def guess(challenge, seed):
    return np.random.default_rng(seed).random(len(challenge.ground_truth))


QUICK = replace(MEMBERSHIP, baseline=guess)  # the real baseline takes seconds


def noise(seed):
    from dp_accounting import NonPrivateDpEvent

    weights = np.random.default_rng(seed).random((64, 10))

    def predict(x):
        scores = np.exp(x.reshape(len(x), -1) @ weights)
        return scores / scores.sum(1, keepdims=True)

    return Release(NonPrivateDpEvent(), predict=predict)


@defense("says", publishes={"predict"})
def says(private, public, *, seed, bias=0.0):
    """Says something."""
    return noise(seed)


@defense("mute", publishes={"synthetic"})
def mute(private, public, *, seed):
    """Must not be trained."""
    raise AssertionError("trained for nothing")


@defense("chatty", publishes={"predict"})
def chatty(private, public, *, seed):
    """Publishes more than it declares."""
    release = noise(seed)
    return Release(release.dp_event, predict=release.predict, encode=release.predict)


@defense("absent", publishes={"predict"})
def absent(private, public, *, seed):
    """Forgets to return its release."""


@defense("picky", publishes={"predict"})
def picky(private, public, *, seed):
    """Refuses its options."""
    raise UserError("picky needs more\\nrecords: give it some.")


def demand(data, rng):
    raise UserError("this game needs other records: leave it out.")


@attack("demanding", game=replace(QUICK, name="greedy", challenges={"private": demand}), needs={"predict"})
def demanding(release, targets, public, *, seed):
    """Must not be asked."""
    raise AssertionError("played without a challenge")


@attack("fussy", game=QUICK, needs={"predict"})
def fussy(release, targets, public, *, seed):
    """Refuses its options."""
    raise UserError("fussy takes no such option: leave it out.")


@attack("honest", game=QUICK, needs={"predict"})
def honest(release, targets, public, *, seed):
    """The largest probability, and a little of its own randomness."""
    return release.predict(targets.records.x).max(1) + 0.01 * np.random.default_rng(seed).random(len(targets.records))


@attack("slow", game=QUICK, needs={"predict"})
def slow(release, targets, public, *, seed):
    """The same, later."""
    time.sleep(0.3)
    return honest(release, targets, public, seed=seed)


@attack("broken", game=QUICK, needs={"predict"})
def broken(release, targets, public, *, seed):
    """Fails."""
    raise RuntimeError("out of\\nluck")


@attack("nan", game=QUICK, needs={"predict"})
def nan(release, targets, public, *, seed):
    """Answers what nobody can judge."""
    return np.full(len(targets.records), np.nan)


@attack("stopped", game=QUICK, needs={"predict"})
def stopped(release, targets, public, *, seed):
    """The user loses patience."""
    raise KeyboardInterrupt


@attack("doubtful", game=QUICK, needs={"predict"})
def doubtful(release, targets, public, *, seed):
    """Doubts itself aloud."""
    warnings.warn(Caveat("stopped after 1 of 2000 steps"))
    return honest(release, targets, public, seed=seed)


@dataset("made")
def made(where, rng, *, size=40):
    """Records of noise."""
    parts = [Examples(rng.random((size, 8, 8, 1)), np.arange(size) % 10, 10) for _ in range(3)]
    return Split("made", *parts)


@dataset("spoilt")
def spoilt(where, rng):
    """Fails."""
    raise KeyError("no such column")
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "plugin.py"
    path.write_text(PLUGIN)
    return path


Run = Callable[..., int]


@pytest.fixture
def run(results: Path, plugin: Path) -> Run:
    """`bench run` in this process; words without a dash are defenses before `against` and attacks after it."""

    def call(
        *words: str,
        data: str = DATA,
        seeds: str = "0",
        folder: Path = results,
        more: tuple[str, ...] = (),
        code: Path = plugin,
    ) -> int:
        return main(arguments(code, folder, *words, data=data, seeds=seeds, more=more))

    return call


def arguments(
    plugin: Path, folder: Path, *words: str, data: str = DATA, seeds: str = "0", more: tuple[str, ...] = ()
) -> list[str]:
    middle = words.index("against")
    chosen = [part for word in words[:middle] for part in ("--defense", word)]
    chosen += [part for word in words[middle + 1 :] for part in ("--attack", word)]
    return ["run", "--results", str(folder), "--plugin", str(plugin), "--data", data, "--seeds", seeds, *chosen, *more]


def cells(folder: Path) -> dict[tuple[str, str, str, int], CellResult]:
    return {(cell.data, cell.defense, cell.attack, cell.seed): cell for cell in Store(folder).results()}


def names(folder: Path) -> set[tuple[str, str, int]]:
    return {name[1:] for name in cells(folder)}


def numbers(folder: Path) -> dict[Any, Any]:
    """All that must be the same wherever, whenever and in whatever order a cell was measured."""
    return {
        name: (cell.metrics, cell.utility, cell.privacy, cell.caveats, cell.digest, cell.options)
        for name, cell in cells(folder).items()
    }


def files(folder: Path) -> dict[Path, bytes]:
    """Those of the cells, which are named by their seeds."""
    paths = (path for path in folder.rglob("*.json") if ".local" not in path.parts and path.stem.isdigit())
    return {path: path.read_bytes() for path in paths}


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The trainings that were run, by the keys under which their weights were saved."""
    save, trained = WeightsCache.save, []

    def saved(self: WeightsCache, key: str, arrays: Any) -> None:
        save(self, key, arrays)
        if "answer" not in arrays:  # a baseline answer is cached beside them
            trained.append(key)

    monkeypatch.setattr(WeightsCache, "save", saved)
    return trained


def edited(plugin: Path, old: str, new: str) -> Path:
    """The plugin with other code, at another path: the code of a file is read once per process."""
    assert old in PLUGIN
    path = plugin.with_name("edited.py")
    path.write_text(PLUGIN.replace(old, new))
    return path


# What fails


def test_a_failing_attack_is_reported_and_never_kept_and_the_rest_goes_on(
    run: Run, results: Path, plugin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("says", "constant", "against", "broken", "nan", "honest")
    assert run(*asked) == 1
    assert names(results) == {("says", "honest", 0), ("constant", "honest", 0)}
    out, err = capsys.readouterr()
    failed = [line for line in err.splitlines() if line.startswith("bench: failed:")]
    assert any(f"{DATA}/says/broken/0" in line and "RuntimeError: out of luck" in line for line in failed)
    assert any(f"{DATA}/says/nan/0" in line and "not finite" in line for line in failed)
    assert "Traceback" not in err
    assert "failed" in out
    before = files(results)
    assert run(*asked) == 1, "a failure must not be remembered as done"
    assert files(results) == before
    mended = edited(plugin, 'raise RuntimeError("out of\\nluck")', "return targets.records.x.mean((1, 2, 3))")
    assert run("says", "against", "broken", code=mended) == 0
    assert ("says", "broken", 0) in names(results)


def test_a_cell_is_on_disk_before_the_next_begins(run: Run, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("says", "against", "honest", "stopped", "slow") == 130
    assert names(results) == {("says", "honest", 0)}
    assert "repeat the command to go on from there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("defense", "why"),
    [
        ("chatty", "chatty declares that it publishes predict, but published encode, predict"),
        ("absent", "absent returned a NoneType, not a Release"),
    ],
)
def test_a_defense_that_does_not_keep_its_word_fails_with_a_sentence(
    run: Run, results: Path, capsys: pytest.CaptureFixture[str], defense: str, why: str
) -> None:
    assert run(defense, "says", "against", "honest") == 1
    assert f"training failed, ValueError: {why}" in capsys.readouterr().err
    assert names(results) == {("says", "honest", 0)}


def test_a_failing_data_set_fails_its_cells_alone(run: Run, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("says", "against", "honest", data="spoilt", more=("--data", DATA)) == 1
    err = capsys.readouterr().err
    assert "failed: spoilt/says/honest/0: the data set failed, KeyError: 'no such column'" in err
    assert names(results) == {("says", "honest", 0)}


def test_what_cannot_be_stored_fails_its_cell_alone(
    run: Run, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A judge of somebody else's may return what JSON does not hold."""
    plain = Store.save

    def save(self: Store, record: Any) -> Path:
        if isinstance(record, CellResult) and record.attack == "honest":
            record = structs.replace(record, metrics={**record.metrics, "auc": float("nan")})
        return plain(self, record)

    monkeypatch.setattr(Store, "save", save)
    assert run("says", "against", "honest", "doubtful") == 1
    assert names(results) == {("says", "doubtful", 0)}
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "failed", "sentence"),
    [
        (("picky", "says", "against", "honest"), "picky/honest", "picky needs more records: give it some."),
        (("says", "against", "fussy", "honest"), "says/fussy", "fussy takes no such option: leave it out."),
        (("says", "against", "demanding", "honest"), "says/demanding", "this game needs other records: leave it out."),
    ],
)
def test_a_mistake_in_one_component_fails_its_cells_alone(
    run: Run, results: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], failed: str, sentence: str
) -> None:
    assert run(*words) == 1
    out, err = capsys.readouterr()
    assert f"bench: failed: {DATA}/{failed}/0: {sentence}\n" in err
    assert "failed" in out
    assert names(results) == {("says", "honest", 0)}


def test_a_run_of_mistakes_alone_is_one_of_the_user(
    run: Run, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("picky", "against", "honest", "fussy") == 2
    err = capsys.readouterr().err
    assert [line for line in err.splitlines() if line.startswith("bench: ")] == [
        "bench: picky needs more records: give it some."
    ]
    assert run("says", "against", "honest") == 0
    assert run("says", "picky", "against", "honest") == 1, "what is stored is played"
    assert run("picky", "against", "broken", "honest") == 2, "it fails before any attack"
    assert run("says", "against", "broken", "fussy") == 1, "a bug of a component is no mistake of the user"


def test_a_disk_that_fills_up_stops_the_run_at_once(
    run: Run, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unlike a mistake in a component: no later cell could be stored either, and hours would be spent on them."""
    plain = os.fsync

    def full(file: int) -> None:
        if cells(results):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain(file)

    monkeypatch.setattr(disk.os, "fsync", full)
    assert run("says", "against", "honest", "slow", "stopped") == 2, "130 where it went on to the next attack"
    assert names(results) == {("says", "honest", 0)}
    assert "free space" in capsys.readouterr().err


def test_what_cannot_be_played_is_not_trained(run: Run, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("mute", "says", "against", "honest") == 0
    assert names(results) == {("says", "honest", 0)}
    assert "n/a: predict" in capsys.readouterr().out
    assert run("mute", "against", "honest") == 2
    assert "no selected attack can be played against a selected defense" in capsys.readouterr().err


# What is kept


def test_the_second_run_trains_nothing_and_does_not_import_tensorflow(
    run: Run, results: Path, plugin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("none,steps=4", "mute", "against", "confidence", "art_membership")
    assert run(*asked) == 0
    before, board = files(results), capsys.readouterr().out
    code = f"""
import sys
from bench.cli.main import main
code = main({arguments(plugin, results, *asked)!r})
slow = {{"tensorflow", "keras", "tensorflow_privacy", "tensorflow_datasets", "art", "sklearn", "dp_accounting"}}
assert not slow & set(sys.modules), slow & set(sys.modules)
sys.exit(code)
"""
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert again.returncode == 0, again.stderr
    assert files(results) == before
    assert again.stdout == board


def test_a_new_attack_retrains_nothing(run: Run, results: Path, trainings: list[str]) -> None:
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
def test_numbers_do_not_depend_on_the_order_or_the_company(
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
    assert len(set(metrics)) == len(metrics), "other seeds, defenses and attacks must differ, or nothing was compared"


def test_kill_and_run_again(run: Run, results: Path, plugin: Path, tmp_path: Path) -> None:
    asked = ("none,steps=4", "says", "against", "honest", "slow")
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", *arguments(plugin, results, *asked, seeds="0,1")],
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
    assert 1 <= len(cells(results)) == len(killed) < 8, "every cell that is there is whole"
    assert run(*asked, seeds="0,1") == 0
    whole = tmp_path / "whole"
    assert run(*asked, seeds="0,1", folder=whole) == 0
    assert len(cells(results)) == 8
    assert numbers(results) == numbers(whole)
    assert {path: path.stat().st_mtime_ns for path in killed} == killed, "what was there was not measured again"


def test_two_runs_at_once_lose_nothing(run: Run, results: Path, plugin: Path, tmp_path: Path) -> None:
    asked = ("none,steps=4", "says", "against", "honest", "slow")
    turned = ("says", "none,steps=4", "against", "slow", "honest")
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", *arguments(plugin, results, *asked)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    local = results / ".local"
    deadline = time.monotonic() + 60
    while not local.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)  # its start-up is over, so the two really meet
    assert run(*turned) == 0
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 0, output
    alone = tmp_path / "alone"
    assert run(*asked, folder=alone) == 0
    assert numbers(results) == numbers(alone)
    assert len({cell.machine for cell in cells(results).values()}) == 1
    assert not list(results.rglob("*.tmp"))
    assert len((results / "leaderboard.csv").read_text().splitlines()) == 1 + 4


# What is measured again


def test_published_cells_are_measured_again_unless_accepted(run: Run, results: Path) -> None:
    asked = ("says", "against", "honest", "slow")
    assert run(*asked) == 0
    folder = Store(results)
    for cell in folder.results():
        folder.save(structs.replace(cell, machine="0" * 32))
    published = files(results)
    assert run(*asked, more=("--reuse-committed",)) == 0
    assert files(results) == published
    assert run(*asked) == 0
    assert {cell.machine for cell in folder.results()} == {folder.machine}


@pytest.mark.parametrize(
    ("old", "new", "stale"),
    [
        ("return noise(seed)", "return noise(seed + 1)", True),
        ("time.sleep(0.3)", "time.sleep(0)", True),
        ("bias=0.0", "bias=1.0", True),
        ('"""Says something."""', '"""Says something else."""', False),
        ("    return noise(seed)", "    # why not\n    return  noise(seed)", False),
    ],
)
def test_code_that_changed_makes_its_cells_stale(
    run: Run, results: Path, plugin: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, stale: bool
) -> None:
    assert run("says", "against", "honest") == 0
    [cell] = cells(results).values()
    before = files(results)
    code = edited(plugin, old, new)
    assert freshness(discover([code]).find)(cell) != stale
    capsys.readouterr()
    assert main(["table", "--results", str(results), "--plugin", str(code)]) == 0
    assert ("stale" in capsys.readouterr().out) == stale
    assert run("says", "against", "honest", code=code) == 0
    assert (files(results) != before) == stale


def test_a_data_set_that_changed_makes_its_cells_stale(run: Run, results: Path, plugin: Path) -> None:
    assert run("constant", "against", "confidence", data="made") == 0
    [cell] = cells(results).values()
    assert freshness(discover([plugin]).find)(cell)
    assert not freshness(discover([edited(plugin, "rng.random((size", "0.5 * rng.random((size")]).find)(cell)


def test_a_component_that_is_gone_makes_its_cells_stale(run: Run, results: Path) -> None:
    assert run("says", "against", "honest") == 0
    [cell] = cells(results).values()
    assert not freshness(discover().find)(cell)


def test_doubts_are_stored_with_the_number(run: Run, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("says", "against", "honest", "doubtful") == 0
    kept = {name[2]: cell.caveats for name, cell in cells(results).items()}
    assert "stopped after 1 of 2000 steps" in kept["doubtful"]
    assert "stopped after 1 of 2000 steps" not in kept["honest"]
    assert any("45 members and 45 non-members" in caveat for caveat in kept["honest"])
    assert "stopped after 1 of 2000 steps" in (results / "leaderboard.md").read_text()
    assert "note:" not in capsys.readouterr().err


def test_a_guarantee_that_was_overspent_is_doubted(run: Run, results: Path, plugin: Path) -> None:
    promise = 'publishes={"predict"}, private=True'
    plugin.write_text(PLUGIN.replace('publishes={"predict"}', promise, 1).replace("bias=0.0", "epsilon=2.0"))
    assert run("says", "says,epsilon=inf", "against", "honest") == 3, "the probes say it too"
    caveats = {name[1]: " ".join(cell.caveats) for name, cell in cells(results).items()}
    assert "spent epsilon inf, above the 2 asked for" in caveats["says"]
    assert "above" not in caveats["says,epsilon=inf"]


# The disk


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_refuses_is_one_sentence_and_old_files_stay(
    run: Run, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], call: str
) -> None:
    assert run("says", "against", "honest") == 0
    before = files(results)
    board = (results / "leaderboard.md").read_bytes()
    monkeypatch.setattr(Store, "machine", "f" * 32)  # so that what is there is written anew
    plain, wrote = getattr(os, call), []

    def full(*words: Any) -> Any:
        # the store tries the disk before it trains; it fills up after that
        wrote.append(words)
        if len(wrote) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return plain(*words)

    monkeypatch.setattr(disk.os, call, full)
    capsys.readouterr()
    assert run("says", "against", "honest", "slow") == 2
    err = capsys.readouterr().err
    said = [line for line in err.splitlines() if line.startswith("bench:")]
    assert len(said) == 1
    assert re.search(r"cannot write to .* \(No space left on device\): free space", said[0])
    assert "Traceback" not in err
    assert files(results) == before
    assert (results / "leaderboard.md").read_bytes() == board
    assert not list(results.rglob("*.tmp"))


def test_a_disk_that_refuses_is_noticed_before_anything_is_trained(
    run: Run, results: Path, monkeypatch: pytest.MonkeyPatch, trainings: list[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(disk.os, "fsync", full)
    assert run("none,steps=4", "against", "confidence") == 2
    assert trainings == []
    assert not files(results)


def test_a_run_that_finds_everything_stored_needs_no_disk(
    run: Run, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("says", "against", "honest") == 0

    def full(*_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(disk.os, "fsync", full)
    assert run("says", "against", "honest") == 0


def test_outcome_counts_what_happened(results: Path, plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bench.cli.options import request

    registry = discover([plugin])
    words = dict.fromkeys(("seeds", "epsilon", "data-dir", "offline", "reuse-committed", "config", "budget"))
    settings: dict[str, Any] = {
        **words, "defense": ["says", "mute"], "attack": ["honest", "broken"], "data": [DATA], "seeds": "0",
        "results": str(results),
    }  # fmt: skip
    asked = request(registry, settings, [settings])
    with Progress() as progress:
        first, second = (runner.run(asked, registry, Store(results), progress) for _ in range(2))
    assert (first.measured, first.stored, len(first.failed)) == (1, 0, 1)
    assert (second.measured, second.stored, len(second.failed)) == (0, 1, 1)


def test_the_board_is_read_and_written_under_the_lock(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two runs that end together, the first to read the cells must not be the last to write the board."""
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


def test_a_cached_training_counts_with_what_it_cost(run: Run, results: Path) -> None:
    assert run("none,steps=200", "against", "honest") == 0
    kept = Store(results)
    [first] = kept.results()
    kept.path(first.data, first.defense, first.attack, first.seed).unlink()
    assert run("none,steps=200", "against", "honest") == 0
    [again] = kept.results()
    assert again.metrics == first.metrics
    [fit] = (np.load(path) for path in (results / ".local" / "fits").glob("*.npz") if "seconds" in np.load(path))
    assert again.seconds["defense"] >= float(fit["seconds"]) - 0.001


def test_a_run_notes_the_fits_that_a_training_and_an_attack_asked_for(results: Path) -> None:
    words = ["--defense", "none,steps=4", "--attack", "confidence", "--attack", "lira,shadows=4", "--data", DATA]
    assert main(["run", *words, "--seeds", "0", "--results", str(results)]) == 0
    kept, registry = Store(results), discover()
    notes = {result.attack: kept.load_asked(result.digest) for result in kept.results()}
    assert notes["confidence"] == {}
    assert notes["lira,shadows=4"]
    [data], [defense] = choose(registry, "data", DATA), choose(registry, "defense", "none,steps=4")
    grid = Grid((defense,), tuple(choose(registry, "attack", "rmia")), (data,), (0,))
    [row] = cost_estimate.make(Request((grid,), results, DataLocation()), kept)
    assert row.groups[0].cached
    for path in (results / ".local" / "fits").glob("*.npz"):
        path.unlink()
    [row] = cost_estimate.make(Request((grid,), results, DataLocation()), kept)
    assert not row.groups[0].cached


def stale(folder: Path, data: str, defense: str, attack: str, seconds: tuple[float, float]) -> None:
    """A cell that cost so much once, under other code."""
    dp_event = dict(zip(("defense", "attack"), seconds, strict=True))
    Store(folder).save(made(defense, attack, 0, data=data, seconds=dp_event))


def test_a_budget_measures_what_ends_in_time_and_says_what_it_left(
    run: Run, results: Path, capsys: pytest.CaptureFixture[str], trainings: list[str]
) -> None:
    stale(results, DATA, "none,steps=4", "confidence", (1.0, 0.1))
    stale(results, DATA, "none,steps=4", "honest", (1.0, 0.1))
    stale(results, DATA, "none,steps=4", "slow", (1.0, 36_000.0))
    stale(results, DATA, "says", "honest", (36_000.0, 0.1))
    asked = ("none,steps=4", "says", "against", "slow", "honest", "confidence")
    more = ("--budget", "1h")
    before = cells(results)
    assert run(*asked, more=more) == 0
    changed = {name[1:] for name, cell in cells(results).items() if before.get(name) != cell}
    assert changed == {("none,steps=4", "confidence", 0), ("none,steps=4", "honest", 0)}
    assert "the budget left 4 to measure" in capsys.readouterr().err
    assert len(trainings) == 1, "what is cached is not trained again"


def test_a_budget_in_which_nothing_ends_measures_nothing(
    run: Run, results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(play, "split", lambda *given: pytest.fail("loaded for nothing"))
    stale(results, DATA, "says", "honest", (60.0, 1.0))
    before = files(results)
    assert run("says", "against", "honest", more=("--budget", "60s")) == 0
    assert files(results) == before
    out, err = capsys.readouterr()
    assert f"the budget left 1 to measure ({DATA}/says/honest/0)" in err
    assert "stale" in out


def test_what_is_too_small_to_ask_about_is_not_trained_for(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(play, "train", lambda *given: pytest.fail("trained for nothing"))
    words = ["run", "--defense", "none", "--attack", "confidence", "--data", "digits,private=3", "--seeds", "0"]
    assert main([*words, "--results", str(results)]) == 2
    assert capsys.readouterr().err.count("bench: ") == 1


def test_no_two_rows_share_their_noise(results: Path, plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of one sweep, or of one data set in two sizes: of equal noise one could subtract the other's."""
    seeds: list[int] = []
    train = classifier.train

    def listen(recipe: Any, datasets: Any, given: Any, *rest: Any, **more: Any) -> Any:
        seeds.extend(given)
        return train(recipe, datasets, given, *rest, **more)

    monkeypatch.setattr(classifier, "train", listen)
    registry = discover([plugin])
    defenses = [one for epsilon in (1, 8) for one in choose(registry, "defense", f"dp_sgd,steps=2,epsilon={epsilon}")]
    sizes = (DATA, "digits,holdout=60,private=61,public=20")
    data = [one for name in sizes for one in choose(registry, "data", name)]
    grid = Grid(tuple(defenses), tuple(choose(registry, "attack", "honest")), tuple(data), (0, 1))
    with Progress() as progress:
        outcome = runner.run(Request((grid,), results, DataLocation()), registry, Store(results), progress)
    assert (outcome.measured, outcome.failed) == (8, {})
    assert len(seeds) == len(set(seeds)) == 8


def test_a_record_twice_in_one_part_is_refused(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known and asked about at once, it would give the answer away."""
    [choice] = choose(discover(), "data", DATA)
    split = choice.component.function(DataLocation(), np.random.default_rng(0), **choice.settings)
    doubled = replace(split, private=split.private[np.r_[0 : len(split.private), 0]])
    component = replace(choice.component, function=lambda *given, **options: doubled)
    with pytest.raises(UserError, match="1 records more than once"):
        play.split(replace(choice, component=component), DataLocation(), 0)
