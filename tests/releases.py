"""Defenses that can and cannot be released, and `bench release` called in this process without the linter."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.cli.main import main

PLUGIN = '''
import numpy as np

from bench.dp import accounting, gaussian_mechanism as mechanism
from bench.core.dataset import Examples, Split
from bench.core.component import dataset, defense
from bench.core.release import Release

N = "the number of private records"


@dataset("made")
def made(where, rng, *, private=60, holdout=30, public=20):
    """Records of uniform noise."""
    return Split("made", *(Examples(rng.random((n, 4)), np.arange(n) % 2, 2) for n in (private, holdout, public)))


def release(private, seed, noise_multiplier=2.0):
    sums = mechanism.gaussian(private.x.sum(0), 2.0, noise_multiplier, np.random.default_rng(seed))
    x = np.clip(sums / 60 + np.random.default_rng([seed, 1]).normal(size=(50, 4)) / 10, 0, 1)
    spent = accounting.training_event(rate=1.0, noise_multiplier=noise_multiplier, steps=1)
    return Release(spent, synthetic=Examples(x, np.arange(50) % 2, 2))


@defense("sums", publishes={"synthetic"}, private=True, public_knowledge=(N, "features between 0 and 1"))
def sums(private, public, *, seed, epsilon=8.0):
    """Noisy sums."""
    return release(private, seed)


@defense("secretive", publishes={"synthetic"}, private=True, public_knowledge=("features between 0 and 1",))
def secretive(private, public, *, seed):
    """The release of `sums`, without the number of private records as public knowledge."""
    return release(private, seed)


@defense("open", publishes={"synthetic"})
def open_(private, public, *, seed):
    """Claims no privacy."""
    return release(private, seed)


@defense("naked", publishes={"synthetic"}, private=True)
def naked(private, public, *, seed, noise_multiplier=0.0):
    """Claims privacy and adds no noise."""
    return release(private, seed, noise_multiplier)


@defense("answers", publishes={"predict"}, private=True)
def answers(private, public, *, seed):
    """Publishes an access that cannot be written to a file."""


@defense("chatty", publishes={"synthetic"}, private=True, public_knowledge=(N,))
def chatty(private, public, *, seed):
    """Fails with its seed in the message."""
    raise ValueError(f"bad seed {seed}")


@defense("starts", publishes={"model"}, private=True, public_knowledge=(N,))
def starts(private, public, *, seed):
    """A network whose layers store the seed of their initialisation."""
    from tensorflow import keras

    start = keras.initializers.GlorotUniform(seed=seed % 2**31)
    layers = [keras.Input((4,)), keras.layers.Dense(3, kernel_initializer=start)]
    return Release(accounting.training_event(1.0, 2.0, 1), model=keras.Sequential(layers))
'''
Release = Callable[..., int]


@pytest.fixture
def findings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The findings of a stub of the linter, which is tested elsewhere."""
    found: list[Any] = []
    lint = types.ModuleType("bench.lint.linter")
    lint.lint = lambda choice, data, seed: tuple(found)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bench.lint.linter", lint)
    return found


@pytest.fixture
def release(findings: list[Any], plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Release:
    """`bench release` in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str, folder: str = "out", data: str = "made") -> int:
        return main(["release", "--plugin", str(plugin), "--data", data, "--into", folder, *words])

    return call


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
