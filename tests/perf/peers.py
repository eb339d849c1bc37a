"""Times one DP-SGD step of this project and of its peers, and the plain step of each framework, alternately.

Run `python tests/perf/peers.py [--batches 256,1024] [--rounds 9] [--envs DIR] [--markdown|--shadows]` on a quiet
machine. Every contestant trains the same autoencoder (784-400-128-400-784, float32, Adam) on 1 CPU core, as this
project does, in a process that stays alive, so that all are measured in the same period and no compilation is timed.
Each DP step is checked first: without noise it must be the mean of the clipped gradients, computed naively, and with
noise all weights must have noise of the stated scale. Peers have separate environments. On Linux PyPI's torch is
CUDA's, some GB: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu avoids it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from itertools import pairwise
from operator import truediv
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from contestants import CONTESTANTS, LEARNING_RATE, SIZES, STEPS, THREADS, Contestant, Task, check, records

SLOW, SLOWEST = 2.0, 60.0  # seconds per step: above, measured in three rounds only, and not at all
ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dp-generative-bench" / "peers"
# No GPU. Freed memory is kept, or steps that allocate much would measure page faults. OpenMP's threads sleep while they
# wait, unless OMP_WAIT_POLICY is set: with spinning threads, PyTorch on a busy machine was 30 times slower.
SETTINGS = {
    **dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), str(THREADS)),
    **{"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
    **{"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**28)},
    "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
}


class UsageError(Exception):
    """One sentence for the user."""


def serve(name: str, size: int) -> None:
    """Runs a worker: checks and warms up, prints its versions, then answers "dp 20" with the seconds per step."""
    import numpy as np

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the output of frameworks
    contestant = CONTESTANTS[name]
    check(contestant.make)
    loops = {kind: contestant.make(Task(records(), size, kind == "dp")) for kind in ("plain", "dp")}
    for run, weights in loops.values():
        before = weights()
        run(1)
        moved = np.concatenate([np.ravel(a - b) for a, b in zip(weights(), before, strict=True)])
        if not 0.9 < np.median(abs(moved)) / LEARNING_RATE < 1.1:  # the length of the first step of Adam
            raise SystemExit("its optimizer is not Adam with the requested learning rate")
    input()  # "start"
    print(json.dumps(", ".join(f"{p} {version(p)}" for p in contestant.packages)), file=answers, flush=True)
    for line in sys.stdin:
        (run, _), k = loops[line.split()[0]], int(line.split()[1])
        if k > 1:
            run(1)  # the caches have the data of other workers
        start = perf_counter()
        run(k)
        print(json.dumps((perf_counter() - start) / k), file=answers, flush=True)


def last_line(text: str) -> str:
    """Returns the last line of the output of a failed program."""
    return ([line.strip() for line in text.splitlines() if line.strip()] or ["it gave no reason"])[-1]


def python_for(contestant: Contestant, envs: Path) -> Path:
    """Returns the interpreter of the environment of a contestant; makes it if it is missing or has other pins."""
    if not contestant.pins:
        return Path(sys.executable)
    home = envs / contestant.packages[0]
    python, pins = home / "bin" / "python", home / "pins.txt"
    if not pins.is_file() or pins.read_text() != repr(contestant.pins):
        print(f"making {home} ...", file=sys.stderr)
        pip = [python, "-m", "pip", "install", *contestant.pins]
        for command in ([sys.executable, "-m", "venv", "--clear", home], pip):
            done = subprocess.run([*map(str, command)], capture_output=True, text=True)
            if done.returncode:
                message = last_line(done.stderr or done.stdout)
                raise UsageError(f"{home} could not be made, see to the network and to --envs: {message}")
        pins.write_text(repr(contestant.pins))
    return python


class Worker:
    """One contestant at one batch size, in a new process; `failure` is the reason if it cannot run."""

    def __init__(self, name: str, size: int, envs: Path) -> None:
        self.contestant, self.size, self.versions, self.failure = CONTESTANTS[name], size, "", ""
        self.steps, self.slow = {"plain": 1, "dp": 1}, False
        self.seconds: dict[str, list[float]] = {"plain": [], "dp": []}
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        command = [str(python_for(self.contestant, envs)), __file__, "--worker", name, "--batches", str(size)]
        pipe, env = subprocess.PIPE, os.environ | SETTINGS
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.log, text=True, env=env)

    def start(self) -> None:
        """Waits until it is checked and warmed up, and sets the steps that take about a third of a second."""
        gigabytes, free = sum((i + 1) * o for i, o in pairwise(SIZES)) * 4e-9, free_memory()
        need = self.contestant.copies * self.size * gigabytes
        if need > free:
            self.failure = f"would need {need:.0f} GB of memory, {free:.0f} are free"
            return
        self.versions = self.request("start") or ""
        for kind in self.steps:
            seconds = self.request(f"{kind} 1") or 0.0
            if seconds > SLOWEST:
                self.failure = f"one {kind} step takes {seconds:.0f} s"
            self.slow |= seconds > SLOW
            self.steps[kind] = max(1, min(STEPS, int(0.3 / max(seconds, 1e-6))))

    def request(self, command: str) -> Any:
        """Returns its answer, or None if it cannot run or dies; then `failure` is its last line."""
        if self.failure:
            return None
        with contextlib.suppress(BrokenPipeError):
            print(command, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            self.log.seek(0)
            killed = self.process.wait() < 0
            self.failure = "it was killed, perhaps out of memory" if killed else last_line(self.log.read())
        return json.loads(line) if line else None

    def row(self, ours: Worker) -> list[str]:
        """Returns its row of the table."""
        if self.failure:
            return [self.contestant.title, self.versions, f"skipped: {self.failure}", "", "", ""]
        plain, dp = self.seconds["plain"], self.seconds["dp"]
        milliseconds = [[1e3 * s for s in kind] for kind in (plain, dp)]
        ratios = [map(truediv, dp, plain), map(truediv, dp, ours.seconds["dp"])]
        return [self.contestant.title, self.versions, *map(spread, [*milliseconds, *ratios])]


def free_memory() -> float:
    """Returns the available memory in GB; infinity if the system does not report it."""
    try:
        return int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]) / 1e6
    except (OSError, IndexError):
        return float("inf")


def spread(values: Iterable[float]) -> str:
    """Median (min..max)."""
    found = sorted(values)
    shown = [f"{v:,.{2 if v < 10 else 1 if v < 100 else 0}f}" for v in (median(found), found[0], found[-1])]
    return f"{shown[0]} ({shown[1]}..{shown[2]})"


def compare(size: int, rounds: int, envs: Path) -> list[list[str]]:
    """Returns the rows of one batch size; every round times the plain and DP steps of all contestants."""
    workers: list[Worker] = []
    try:
        for name in CONTESTANTS:
            workers.append(Worker(name, size, envs))
            workers[-1].start()
            if workers[0].failure:
                raise UsageError(f"the step of this project does not run here: {workers[0].failure}")
        for round_ in range(rounds):
            for worker in workers:
                for kind, steps in worker.steps.items() if round_ < 3 or not worker.slow else ():
                    worker.seconds[kind].append(worker.request(f"{kind} {steps}"))
        return [worker.row(workers[0]) for worker in workers]
    finally:
        for worker in workers:
            worker.process.kill()


def shadows(rounds: int, envs: Path) -> float:
    """Print what LiRA with its 17 networks costs, and a PyTorch loop over them; the median ratio."""
    import shadow_loops

    pythons = {"ours": python_for(CONTESTANTS["ours"], envs), "torch": python_for(CONTESTANTS["ghost"], envs)}
    pairs = shadow_loops.measured(pythons, SETTINGS, rounds)
    ours, loop = zip(*pairs, strict=True)
    found = [a / b for a, b in pairs]
    print(
        f"\nLiRA on location30, 17 networks: {spread(ours)} s of CPU; PyTorch, one after the other: {spread(loop)} s;"
    )
    print(f"ratio {spread(found)}; {THREADS} core, {rounds} rounds.")
    return float(median(found))


def show(rows: list[list[str]], markdown: bool) -> None:
    """One table, for a terminal or for Markdown."""
    rows = [["contestant", "versions", "plain step, ms", "DP step, ms", "DP ÷ plain", "DP ÷ ours"], *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    if markdown:
        rows.insert(1, ["-" * width for width in widths])
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print(f"| {' | '.join(cells)} |" if markdown else "  ".join(cells).rstrip())


def sizes(text: str) -> list[int]:
    """Batch sizes such as 256,1024."""
    found = [int(part) if part.strip().isdecimal() else 0 for part in text.split(",")]
    if not all(1 <= n <= 10_000 for n in found):
        raise argparse.ArgumentTypeError(f"write batch sizes from 1 to 10,000 as 256,1024, not {text!r}")
    return found


def main() -> None:
    """Parses the options, measures and prints; exit code 2 after an error that the user can fix."""
    parser = argparse.ArgumentParser(
        description="One DP-SGD step of this project and of its peers, measured alternately."
    )
    parser.add_argument("--batches", type=sizes, default=[256, 1024], help="batch sizes up to 10,000 (256,1024)")
    parser.add_argument("--rounds", type=int, default=9, help="number of rounds (9)")
    parser.add_argument("--envs", type=Path, default=CACHE, help=f"folder of the peers' environments ({CACHE})")
    parser.add_argument("--markdown", action="store_true", help="print tables in Markdown")
    parser.add_argument("--shadows", action="store_true", help="LiRA on location30 beside a PyTorch loop, and no steps")
    parser.add_argument("--worker", choices=CONTESTANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(options.worker, options.batches[0])
        return
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if hasattr(os, "sched_setaffinity"):  # not every framework has an option for the number of threads
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    if options.shadows:
        shadows(options.rounds, options.envs.resolve())
        return
    for size in options.batches:
        before, rows = os.getloadavg()[0], compare(size, options.rounds, options.envs.resolve())
        print(f"\nBatch {size}, {THREADS} core, median (min..max) of {options.rounds} rounds (3 above {SLOW:g} s);")
        print(f"load average {before:.1f} before, {os.getloadavg()[0]:.1f} after.\n")
        show(rows, options.markdown)


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(print(f"peers.py: {error}", file=sys.stderr) or 2)
