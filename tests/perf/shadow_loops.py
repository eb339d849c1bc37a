"""LiRA with 16 shadows on location30 beside a plain PyTorch loop that trains the same 17 networks one after the other.

`python tests/perf/peers.py --shadows` runs both on one core, in turn, in processes of their own. As a script:
`python shadow_loops.py ours|torch FILE` prints the CPU seconds of one of them, without imports and preparation; `ours`
writes the records to FILE, from which the loop trains. Both train 446-128-30 on 1,200 records, 1,500 steps of 128 with
Adam. The loop only trains; ours trains, asks every shadow and scores the targets.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

NETWORKS, STEPS, BATCH, HIDDEN, CLASSES, LEARNING_RATE = 17, 1500, 128, 128, 30, 1e-3


def ours(file: str) -> float:
    """`none` and LiRA against it, as `bench run` computes them, with nothing cached."""
    from bench.core.component import Choice
    from bench.core.dataset import DataLocation
    from bench.dp.tensorflow_setup import tensorflow
    from bench.games import MEMBERSHIP
    from bench.runner import play
    from bench.runner.registry import discover

    found = discover()
    location = Choice(found.data["location30"])
    where = os.environ.get("BENCH_DATA_DIR")
    data, _ = play.split(location, DataLocation(Path(where) if where else None), 0)
    np.savez(file, x=data.private.x, y=data.private.y)
    none = Choice(found.defenses["none"], {"steps": STEPS, "batch_size": BATCH})
    tf = tensorflow()
    tf.matmul(tf.zeros((2, 2)), tf.zeros((2, 2)))
    challenge = MEMBERSHIP.challenge(data, np.random.default_rng(0))
    start = process_time()
    release = play.release(data, none, 0)
    found.attacks["lira"].function(release, challenge.targets, challenge.public, seed=0, shadows=NETWORKS - 1)
    return process_time() - start


def torch(file: str) -> float:
    """A plain loop."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    stored = np.load(file)
    x, y = torch.tensor(stored["x"]), torch.tensor(stored["y"])

    def trained(seed: int, steps: int) -> Any:
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Linear(x.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))
        optimizer, loss = torch.optim.Adam(network.parameters(), LEARNING_RATE), nn.CrossEntropyLoss()
        for _ in range(steps):
            rows = torch.randint(0, len(x), (BATCH,))
            optimizer.zero_grad()
            loss(network(x[rows]), y[rows]).backward()
            optimizer.step()
        return network

    trained(0, 20)
    start = process_time()
    for seed in range(NETWORKS):
        trained(seed, STEPS)
    return process_time() - start


def measured(pythons: Mapping[str, Path], settings: Mapping[str, str], rounds: int) -> list[tuple[float, float]]:
    """CPU seconds of ours and of the loop in each round; pythons: the interpreter of each."""
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            seconds = []
            for name, python in pythons.items():
                command = [str(python), __file__, name, str(Path(folder) / "records.npz")]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | settings)
                seconds.append(float(done.stdout.split()[-1]))
            pairs.append((seconds[0], seconds[1]))
    return pairs


if __name__ == "__main__":
    print({"ours": ours, "torch": torch}[sys.argv[1]](sys.argv[2]))
