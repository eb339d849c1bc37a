"""What one DP-SGD step costs here and in its peers, beside each framework's own plain step, measured in turn.

Run `python tests/perf/peers.py [--batches 256,1024] [--rounds 9] [--envs DIR] [--markdown|--shadows]` on a quiet
machine. Every contestant trains the same autoencoder (784-400-128-400-784, float32, Adam) on 1 CPU core, as this
project does, in a process that stays alive, so that all share the same minutes and nobody's compilation is timed.
Before that, each must show that its DP step is what it claims: without noise the gradient is the mean of the clipped
ones, taken naively record by record, and with noise every weight gets its share. Peers get environments of their own.
On Linux PyPI's torch is CUDA's, some GB: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu avoids it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from operator import truediv
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

CLIP, LEARNING_RATE, STEPS, THREADS = 1.0, 1e-3, 20, 1
SLOW, SLOWEST = 2.0, 60.0  # seconds a step: measured in three rounds only, and not at all
SIZES = (784, 400, 128, 400, 784)
ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dp-generative-bench" / "peers"
TORCH = ("torch==2.13.0", "opacus==1.6.0", "numpy==2.4.6")  # in this order: opacus would choose a torch of its own
JAX = ("jax==0.10.2", "jaxlib==0.10.2", "optax==0.2.8", "numpy==2.4.6", "jax-privacy==2.0.0")
# No GPU. Freed memory is kept, or steps that allocate much would measure page faults. OpenMP's threads sleep while they
# wait, unless OMP_WAIT_POLICY says otherwise: where they spin, PyTorch on a busy machine was 30 times slower.
SETTINGS = {
    **dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), str(THREADS)),
    **{"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
    **{"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**28)},
    "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
}
Loop = tuple[Callable[[int], object], Callable[[], list[Any]]]  # run k steps and wait for them; the weights


class Trouble(Exception):
    """One sentence for the person who ran this."""


@dataclass(frozen=True)
class Task:
    """What to train: batches of `size` out of records `x`, with Adam, or with SGD at rate 1 where steps are checked."""

    x: Any
    size: int
    private: bool
    noise: float = 1.0
    adam: bool = True

    @property
    def rows(self) -> Any:
        """Fixed batches (STEPS, size), none with a record twice."""
        import numpy as np

        rng = np.random.default_rng(2)
        return np.stack([rng.permutation(len(self.x))[: self.size] for _ in range(STEPS)])


def records() -> Any:
    """10,000 records between 0 and 1, mostly dark, as pictures of digits are."""
    import numpy as np

    return np.random.default_rng(0).random((10_000, SIZES[0]), np.float32) ** 6


def initial() -> list[Any]:
    """The weights that everybody starts from: kernel (in, out) and bias of each layer."""
    import numpy as np

    rng = np.random.default_rng(1)
    kernels = [rng.uniform(-1, 1, (i, o)) * (6 / (i + o)) ** 0.5 for i, o in pairwise(SIZES)]
    return [w.astype(np.float32) for kernel in kernels for w in (kernel, np.zeros(kernel.shape[1]))]


def clipped_mean(weights: list[Any], x: Any) -> list[Any]:
    """The truth, slowly: the mean over records of their clipped gradients, each written out."""
    import numpy as np

    total = [np.zeros(w.shape) for w in weights]
    for record in x.astype(np.float64):
        a = [record]
        for i, act in enumerate((lambda z: np.maximum(z, 0), np.tanh, lambda z: np.maximum(z, 0), lambda z: z)):
            a.append(act(a[-1] @ weights[2 * i] + weights[2 * i + 1]))
        d, gradients = 1 / (1 + np.exp(-a[4])) - record, []
        for i in (3, 2, 1, 0):
            gradients[:0] = [np.outer(a[i], d), d]
            d = (weights[2 * i] @ d) * (1 - a[i] ** 2 if i == 2 else a[i] > 0)
        factor = min(1.0, CLIP / np.sqrt(sum((g**2).sum() for g in gradients)))
        total = [t + factor * g / len(x) for t, g in zip(total, gradients, strict=True)]
    return total


def keras_loop(task: Task, private_optimizer: Any = None) -> Loop:
    """Ordinary Keras in a traced loop, with a DP optimizer of TensorFlow Privacy where one is given."""
    import tensorflow as tf
    from tensorflow import keras

    layers = zip(SIZES[1:], ("relu", "tanh", "relu", None), strict=True)
    model = keras.Sequential([keras.Input(SIZES[:1]), *(keras.layers.Dense(n, act) for n, act in layers)])
    model.set_weights(initial())
    x, rows, variables = tf.constant(task.x), tf.constant(task.rows), model.trainable_variables
    optimizer = private_optimizer or keras.optimizers.Adam(LEARNING_RATE)

    @tf.function(input_signature=[tf.TensorSpec([None, task.size], rows.dtype)])
    def run(batches: Any) -> None:
        for t in tf.range(tf.shape(batches)[0]):
            batch = tf.gather(x, batches[t])
            with tf.GradientTape(persistent=bool(private_optimizer)) as tape:
                cross = tf.nn.sigmoid_cross_entropy_with_logits(labels=batch, logits=model(batch, training=True))
                losses = tf.reduce_sum(cross, 1)
                loss = losses if private_optimizer else tf.reduce_mean(losses)
            if private_optimizer:
                optimizer.minimize(loss, variables, tape=tape)
            else:
                optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    return lambda k: (run(rows[:k]), optimizer.iterations.numpy()), model.get_weights


def ours(task: Task) -> Loop:
    """This project's step on Poisson batches."""
    import numpy as np
    import steps

    from bench.core.dataset import Examples
    from bench.dp import networks
    from bench.dp.recipe import Privacy, Recipe

    if not task.private:
        return keras_loop(task)
    net = networks.Autoencoder(SIZES[:1], SIZES[1:2], SIZES[2])
    privacy = Privacy(CLIP, task.noise)
    how = (LEARNING_RATE, "adam") if task.adam else (1.0, "sgd")
    recipe = Recipe(net, STEPS, task.size / len(task.x), task.size, *how, privacy=privacy, engine="onepass")
    run, training = steps.ours(recipe, [Examples(task.x, np.zeros(len(task.x), np.int64), 10)], initial())
    return run, lambda: [w[0] for w in training.weights]


def tf_privacy(task: Task) -> Loop:
    """TensorFlow Privacy's vectorized optimizer, on TensorFlow as it comes."""
    import tensorflow as tf
    import tensorflow_privacy as tfp

    tf.random.set_seed(0)
    kind = tfp.VectorizedDPKerasAdamOptimizer if task.adam else tfp.VectorizedDPKerasSGDOptimizer
    rate = LEARNING_RATE if task.adam else 1.0
    return keras_loop(task, kind(CLIP, task.noise, task.size, learning_rate=rate) if task.private else None)


def opacus(task: Task, mode: str = "ghost") -> Loop:
    """Opacus on eager PyTorch; make_private gets fixed batches, so its loader is not used."""
    import torch
    from opacus import PrivacyEngine
    from torch import nn

    class CrossEntropy(nn.Module):
        reduction = "mean"

        def forward(self, logits: Any, x: Any) -> Any:
            losses = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
            return losses.mean() if self.reduction == "mean" else losses

    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    dense = [nn.Linear(i, o) for i, o in pairwise(SIZES)]
    inner = model = nn.Sequential(dense[0], nn.ReLU(), dense[1], nn.Tanh(), dense[2], nn.ReLU(), dense[3])
    for parameter, w in zip(inner.parameters(), initial(), strict=True):
        parameter.data = torch.tensor(w.T).contiguous()  # PyTorch keeps kernels as (out, in)
    x, rows, criterion = torch.tensor(task.x), torch.tensor(task.rows), CrossEntropy()
    sgd = torch.optim.SGD(model.parameters(), 1.0)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE) if task.adam else sgd
    if task.private:
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x[: task.size]), task.size)
        made = PrivacyEngine().make_private(
            module=model, optimizer=optimizer, criterion=criterion, data_loader=loader, noise_multiplier=task.noise,
            max_grad_norm=CLIP, poisson_sampling=False, grad_sample_mode=mode,
        )  # fmt: skip
        model, optimizer, criterion = made[0], made[1], made[2] if mode == "ghost" else criterion

    def run(k: int) -> None:
        for batch in rows[:k]:
            optimizer.zero_grad()
            records = x[batch]
            criterion(model(records), records).backward()
            optimizer.step()

    return run, lambda: [p.detach().numpy().T.copy() for p in inner.parameters()]


def jax_privacy(task: Task, microbatch: int | None = None) -> Loop:
    """jax_privacy's clipped_grad and gaussian_privatizer with optax, one compiled step."""
    import jax
    import numpy as np
    import optax
    from jax import numpy as jnp
    from jax_privacy import clipped_grad
    from jax_privacy.noise_addition import gaussian_privatizer

    def loss(w: Any, batch: Any) -> Any:
        h = jnp.tanh(jax.nn.relu(batch @ w[0] + w[1]) @ w[2] + w[3])
        logits = jax.nn.relu(h @ w[4] + w[5]) @ w[6] + w[7]
        return optax.sigmoid_binary_cross_entropy(logits, batch).sum(-1).mean()

    optimizer, gradient = optax.adam(LEARNING_RATE) if task.adam else optax.sgd(1.0), jax.grad(loss)
    if task.private:
        gradient = clipped_grad(
            loss, l2_clip_norm=CLIP, normalize_by=task.size, keep_batch_dim=False, microbatch_size=microbatch
        )
        noise = gaussian_privatizer(stddev=task.noise * CLIP / task.size, prng_key=0)
        optimizer = optax.chain(noise, optimizer)
    x, rows = jnp.asarray(task.x), [jnp.asarray(r) for r in task.rows]
    weights = [jnp.asarray(w) for w in initial()]
    at = [weights, optimizer.init(weights)]

    @jax.jit
    def step(weights: Any, state: Any, x: Any, batch: Any) -> Any:
        updates, state = optimizer.update(gradient(weights, x[batch]), state)
        return optax.apply_updates(weights, updates), state

    def run(k: int) -> None:
        for batch in rows[:k]:
            at[:] = step(*at, x, batch)
        jax.block_until_ready(at)

    return run, lambda: [np.array(w) for w in at[0]]


@dataclass(frozen=True)
class Contestant:
    """A row: what makes its loops, the packages that it shows and its environment's pins (none: this environment)."""

    title: str
    make: Callable[[Task], Loop]
    packages: tuple[str, ...]
    pins: tuple[str, ...] = ()
    copies: int = 0  # of the model that a record takes in memory


CONTESTANTS = {
    "ours": Contestant("this project, onepass", ours, ("dp-generative-bench", "tensorflow")),
    "ghost": Contestant("Opacus, ghost", opacus, ("opacus", "torch"), TORCH),
    "hooks": Contestant("Opacus, hooks", lambda task: opacus(task, "hooks"), ("opacus", "torch"), TORCH, 3),
    "jax1": Contestant("jax_privacy, microbatch 1", lambda task: jax_privacy(task, 1), ("jax-privacy", "jax"), JAX),
    "jax": Contestant("jax_privacy", jax_privacy, ("jax-privacy", "jax"), JAX, 3),
    "tfp": Contestant("TF-Privacy, vectorized", tf_privacy, ("tensorflow-privacy", "tensorflow"), (), 5),
}


def check(make: Callable[[Task], Loop]) -> None:
    """Stop a contestant whose step clips or noises otherwise than it says, or leaves a weight without noise."""
    import numpy as np

    x, start, moves = records()[:64], initial(), []
    for noise in (0.0, 1.0):
        run, weights = make(Task(x, len(x), private=True, noise=noise, adam=False))
        run(1)
        moves.append([before - after for before, after in zip(start, weights(), strict=True)])
    for truth, quiet, noised in zip(clipped_mean(start, x), *moves, strict=True):
        if not np.allclose(quiet, truth, rtol=1e-3, atol=1e-6):
            raise SystemExit("its step without noise is not the mean of clipped gradients")
        if not 0.75 < (noised - quiet).std() * len(x) / CLIP < 1.25 or (noised == quiet).mean() > 1e-3:
            raise SystemExit("its noise is not what was asked for")


def serve(name: str, size: int) -> None:
    """A worker: says its versions once it is checked and warm, then answers "dp 20" with the seconds of a step."""
    import numpy as np

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a framework prints
    contestant = CONTESTANTS[name]
    check(contestant.make)
    loops = {kind: contestant.make(Task(records(), size, kind == "dp")) for kind in ("plain", "dp")}
    for run, weights in loops.values():
        before = weights()
        run(1)
        moved = np.concatenate([np.ravel(a - b) for a, b in zip(weights(), before, strict=True)])
        if not 0.9 < np.median(abs(moved)) / LEARNING_RATE < 1.1:  # as far as Adam's first step goes
            raise SystemExit("its optimizer is not the Adam that was asked for")
    input()  # "start"
    print(json.dumps(", ".join(f"{p} {version(p)}" for p in contestant.packages)), file=answers, flush=True)
    for line in sys.stdin:
        (run, _), k = loops[line.split()[0]], int(line.split()[1])
        if k > 1:
            run(1)  # the caches are somebody else's
        start = perf_counter()
        run(k)
        print(json.dumps((perf_counter() - start) / k), file=answers, flush=True)


def last_line(text: str) -> str:
    """What a program that failed said last."""
    return ([line.strip() for line in text.splitlines() if line.strip()] or ["it gave no reason"])[-1]


def python_for(contestant: Contestant, envs: Path) -> Path:
    """The interpreter of a contestant's environment, which is made where it is missing or has other pins."""
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
                said = last_line(done.stderr or done.stdout)
                raise Trouble(f"{home} could not be made, see to the network and to --envs: {said}")
        pins.write_text(repr(contestant.pins))
    return python


class Worker:
    """One contestant at one batch size, in a process of its own; `lost` says why it is out, if it is."""

    def __init__(self, name: str, size: int, envs: Path) -> None:
        self.of, self.size, self.versions, self.lost = CONTESTANTS[name], size, "", ""
        self.steps, self.slow = {"plain": 1, "dp": 1}, False
        self.seconds: dict[str, list[float]] = {"plain": [], "dp": []}
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        command = [str(python_for(self.of, envs)), __file__, "--worker", name, "--batches", str(size)]
        pipe, env = subprocess.PIPE, os.environ | SETTINGS
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.log, text=True, env=env)

    def start(self) -> None:
        """Let it check and warm itself, and choose how many steps make about a third of a second."""
        need, free = self.of.copies * self.size * sum((i + 1) * o for i, o in pairwise(SIZES)) * 4e-9, free_memory()
        if need > free:
            self.lost = f"would need {need:.0f} GB of memory, {free:.0f} are free"
            return
        self.versions = self.ask("start") or ""
        for kind in self.steps:
            seconds = self.ask(f"{kind} 1") or 0.0
            if seconds > SLOWEST:
                self.lost = f"one {kind} step takes {seconds:.0f} s"
            self.slow |= seconds > SLOW
            self.steps[kind] = max(1, min(STEPS, int(0.3 / max(seconds, 1e-6))))

    def ask(self, question: str) -> Any:
        """Its answer; None from one that is out, or dies, whose last words are kept."""
        if self.lost:
            return None
        with contextlib.suppress(BrokenPipeError):
            print(question, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            self.log.seek(0)
            killed = self.process.wait() < 0
            self.lost = "it was killed, perhaps for want of memory" if killed else last_line(self.log.read())
        return json.loads(line) if line else None

    def row(self, ours: Worker) -> list[str]:
        """Its line in the table."""
        if self.lost:
            return [self.of.title, self.versions, f"skipped: {self.lost}", "", "", ""]
        plain, dp = self.seconds["plain"], self.seconds["dp"]
        milliseconds = [[1e3 * s for s in kind] for kind in (plain, dp)]
        ratios = [map(truediv, dp, plain), map(truediv, dp, ours.seconds["dp"])]
        return [self.of.title, self.versions, *map(spread, [*milliseconds, *ratios])]


def free_memory() -> float:
    """GB that can be had; without end where the system does not tell."""
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
    """The rows of one batch size: in every round every contestant's plain and DP steps, one after the other."""
    workers: list[Worker] = []
    try:
        for name in CONTESTANTS:
            workers.append(Worker(name, size, envs))
            workers[-1].start()
            if workers[0].lost:
                raise Trouble(f"this project's own step does not run here: {workers[0].lost}")
        for turn in range(rounds):
            for worker in workers:
                for kind, steps in worker.steps.items() if turn < 3 or not worker.slow else ():
                    worker.seconds[kind].append(worker.ask(f"{kind} {steps}"))
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
    """Read the options, measure, print; exit code 2 after one sentence where a person can help."""
    parser = argparse.ArgumentParser(description="One DP-SGD step of this project and of its peers, measured in turn.")
    parser.add_argument("--batches", type=sizes, default=[256, 1024], help="batch sizes up to 10,000 (256,1024)")
    parser.add_argument("--rounds", type=int, default=9, help="how often everybody is measured (9)")
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
    if hasattr(os, "sched_setaffinity"):  # not every framework takes a number of threads
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
    except Trouble as trouble:
        sys.exit(print(f"peers.py: {trouble}", file=sys.stderr) or 2)
