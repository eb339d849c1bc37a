"""A board of trivial components, which tells what each process does; and the comparison of two folders of results."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PLUGIN = '''
"""Components of milliseconds, and of PAUSE seconds more where the environment says so; they log what they begin."""
import os
import time
from dataclasses import replace

import numpy as np

import bench.dp.train
from bench.core.component import attack, dataset, defense
from bench.core.dataset import Examples, Split
from bench.core.release import Release
from bench.games import MEMBERSHIP

bench.dp.train.device = lambda: "CPU"  # each worker would load TensorFlow to know
PAUSE = float(os.environ.get("PAUSE", 0))


def guess(challenge, seed):
    return np.random.default_rng(seed).random(len(challenge.ground_truth))


QUICK = replace(MEMBERSHIP, baseline=guess)


def begin(*words):
    line = " ".join(map(str, (os.getpid(), *words)))
    file = os.open("LOG", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, line.encode() + b"\\n")
    os.close(file)
    time.sleep(PAUSE)


@dataset("made")
def made(where, rng, *, private=60, holdout=60, public=20):
    """Records of noise."""
    return Split("made", *(Examples(rng.random((n, 4)), np.arange(n) % 2, 2) for n in (private, holdout, public)))


@defense("says", publishes={"predict"})
def says(private, public, *, seed, bias=0.0):
    """Random class scores."""
    from dp_accounting import NonPrivateDpEvent

    begin("says", seed)
    weights = np.random.default_rng(seed).random((4, 2)) + bias

    def predict(x):
        scores = np.exp(x @ weights)
        return scores / scores.sum(1, keepdims=True)

    return Release(NonPrivateDpEvent(), predict=predict)


@attack("largest", game=QUICK, needs={"predict"})
def largest(release, targets, public, *, seed):
    """The largest probability."""
    begin("largest", seed, release.predict(targets.records.x[:1])[0, 0])
    return release.predict(targets.records.x).max(1)


@attack("smallest", game=QUICK, needs={"predict"})
def smallest(release, targets, public, *, seed):
    """The smallest probability, and noise."""
    begin("smallest", seed, release.predict(targets.records.x[:1])[0, 0])
    return release.predict(targets.records.x).min(1) + np.random.default_rng(seed).random(len(targets.records))
'''
VARYING = ("machine", "seconds", "peak_memory_mib", "seal")  # the seal is a digest of all other fields
SCHEDULER = (sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--dashboard-address", ":0")
WORKER = (sys.executable, "-m", "distributed.cli.dask_worker", "--nthreads", "1", "--no-dashboard")
START = 60.0  # seconds


def write_plugin(folder: Path) -> tuple[Path, Path]:
    """The file of the components, and that in which they log: the process, what it begins, the seed and the release."""
    plugin, log = folder / "toys.py", folder / "log"
    plugin.write_text(PLUGIN.replace("LOG", str(log)))
    return plugin, log


def board(plugin: Path, results: Path, *words: str, seeds: str = "0-2") -> list[str]:
    """The command line of `bench run` on a board of 2 defenses and 2 attacks: 12 cells in 6 groups for 3 seeds."""
    cells = "--defense=says --defense=says,bias=1 --attack=largest --attack=smallest --data=made --no-reference"
    return ["run", f"--plugin={plugin}", *cells.split(), f"--seeds={seeds}", f"--results={results}", *words]


def cells(results: Path) -> dict[str, Any]:
    """What is stored of each cell, by its path, without what no two runs have in common; its answers as bytes."""
    found: dict[str, Any] = {}
    for path in sorted(results.glob("*/*/*/*.json")):
        if not path.is_relative_to(results / ".local"):
            record = json.loads(path.read_text())
            found[str(path.relative_to(results))] = {k: v for k, v in record.items() if k not in VARYING}
    for path in sorted((results / ".local" / "answers").rglob("*.npz")):
        found[str(path.relative_to(results))] = path.read_bytes()
    return found


def begun(log: Path) -> Counter[str]:
    """How often each training and each attack, by name and seed, was begun."""
    return Counter(line.partition(" ")[2] for line in log.read_text().splitlines()) if log.exists() else Counter()


@contextmanager
def dask_cluster(folder: Path, workers: int, port: int = 0) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address and the process of `dask scheduler`, with so many `dask worker`."""
    folder.mkdir(exist_ok=True)
    file = folder / "scheduler.json"
    file.unlink(missing_ok=True)
    commands = [[*SCHEDULER, "--port", str(port), "--scheduler-file", str(file)]]
    commands += [[*WORKER, "--scheduler-file", str(file), "--local-directory", str(folder)]] * workers
    with (folder / "log").open("ab") as log:
        processes = [subprocess.Popen(command, stdout=log, stderr=log, cwd=folder) for command in commands]
    try:
        end = time.monotonic() + START
        while not file.exists() and time.monotonic() < end:
            time.sleep(0.1)
        yield json.loads(file.read_text())["address"], processes[0]
    finally:
        for process in reversed(processes):  # a worker with a nanny ends its own process at SIGTERM
            process.send_signal(signal.SIGTERM)
        for process in processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def stored(results: Path) -> int:
    """The number of cells that are stored."""
    return len(list(results.glob("*/*/*/*.json")))
