"""`bench run` called in this process on toy components, and what it left in its results folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.cli.main import main
from bench.dp.weights_cache import WeightsCache
from bench.store.records import CellResult
from bench.store.store import Store

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
    """Random class scores."""
    return noise(seed)


@defense("mute", publishes={"synthetic"})
def mute(private, public, *, seed):
    """Fails when trained."""
    raise AssertionError("trained for nothing")


@defense("chatty", publishes={"predict"})
def chatty(private, public, *, seed):
    """Publishes more than it declares."""
    release = noise(seed)
    return Release(release.dp_event, predict=release.predict, encode=release.predict)


@defense("absent", publishes={"predict"})
def absent(private, public, *, seed):
    """Returns None instead of a release."""


@defense("picky", publishes={"predict"})
def picky(private, public, *, seed):
    """Refuses its options."""
    raise UserError("picky needs more\\nrecords: give it some.")


def demand(data, rng):
    raise UserError("this game needs other records: leave it out.")


@attack("demanding", game=replace(QUICK, name="greedy", challenges={"private": demand}), needs={"predict"})
def demanding(release, targets, public, *, seed):
    """Fails when called."""
    raise AssertionError("played without a challenge")


@attack("fussy", game=QUICK, needs={"predict"})
def fussy(release, targets, public, *, seed):
    """Refuses its options."""
    raise UserError("fussy takes no such option: leave it out.")


@attack("honest", game=QUICK, needs={"predict"})
def honest(release, targets, public, *, seed):
    """The largest probability, plus small noise from the attack's seed."""
    return release.predict(targets.records.x).max(1) + 0.01 * np.random.default_rng(seed).random(len(targets.records))


@attack("slow", game=QUICK, needs={"predict"})
def slow(release, targets, public, *, seed):
    """The scores of `honest`, after 0.3 seconds."""
    time.sleep(0.3)
    return honest(release, targets, public, seed=seed)


@attack("broken", game=QUICK, needs={"predict"})
def broken(release, targets, public, *, seed):
    """Fails."""
    raise RuntimeError("out of\\nluck")


@attack("nan", game=QUICK, needs={"predict"})
def nan(release, targets, public, *, seed):
    """Returns scores that are not finite."""
    return np.full(len(targets.records), np.nan)


@attack("stopped", game=QUICK, needs={"predict"})
def stopped(release, targets, public, *, seed):
    """Raises what Ctrl-C raises."""
    raise KeyboardInterrupt


@attack("doubtful", game=QUICK, needs={"predict"})
def doubtful(release, targets, public, *, seed):
    """The scores of `honest`, with a caveat."""
    warnings.warn(Caveat("stopped after 1 of 2000 steps"))
    return honest(release, targets, public, seed=seed)


@dataset("made")
def made(where, rng, *, size=40):
    """Records of uniform noise."""
    parts = [Examples(rng.random((size, 8, 8, 1)), np.arange(size) % 10, 10) for _ in range(3)]
    return Split("made", *parts)


@dataset("spoilt")
def spoilt(where, rng):
    """Fails."""
    raise KeyError("no such column")
'''


@pytest.fixture
def plugin(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The test module's `PLUGIN` as a file, else the components above."""
    path = tmp_path / "plugin.py"
    path.write_text(getattr(request.module, "PLUGIN", PLUGIN))
    return path


Run = Callable[..., int]


@pytest.fixture
def run(results: Path, plugin: Path) -> Run:
    """`bench run` in this process; the words before `against` are defenses, those after it attacks."""

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
    selected = [part for word in words[:middle] for part in ("--defense", word)]
    selected += [part for word in words[middle + 1 :] for part in ("--attack", word)]
    settings = ["--results", str(folder), "--plugin", str(plugin), "--data", data, "--seeds", seeds]
    return ["run", "--no-reference", *settings, *selected, *more]


def cells(folder: Path) -> dict[tuple[str, str, str, int], CellResult]:
    return {(cell.data, cell.defense, cell.attack, cell.seed): cell for cell in Store(folder).results()}


def names(folder: Path) -> set[tuple[str, str, int]]:
    return {name[1:] for name in cells(folder)}


def numbers(folder: Path) -> dict[Any, Any]:
    """Per cell, the stored values that may not depend on machine, time or order of measurement."""
    return {
        name: (cell.metrics, cell.utility, cell.privacy, cell.caveats, cell.digest, cell.options)
        for name, cell in cells(folder).items()
    }


def files(folder: Path) -> dict[Path, bytes]:
    """The bytes of each cell file; these files are named by their seeds."""
    paths = (path for path in folder.rglob("*.json") if ".local" not in path.parts and path.stem.isdigit())
    return {path: path.read_bytes() for path in paths}


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the weights that trainings saved, in order."""
    save, trained = WeightsCache.save, []

    def recorded(self: WeightsCache, key: str, arrays: Any) -> None:
        save(self, key, arrays)
        if "answer" not in arrays:  # a baseline answer is cached beside them
            trained.append(key)

    monkeypatch.setattr(WeightsCache, "save", recorded)
    return trained


def edited(plugin: Path, old: str, new: str) -> Path:
    """The plugin with changed code, at another path, because a process reads the code of a file once."""
    assert old in PLUGIN
    path = plugin.with_name("edited.py")
    path.write_text(PLUGIN.replace(old, new))
    return path
