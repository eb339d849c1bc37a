"""Poisson batches and the random streams of a model, which share nothing with those of any other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEW = 50  # batches of less than one record in so many are drawn by their size


@dataclass(frozen=True)
class Streams:
    """The randomness of one model.

    Generators of initial weights and of batches; keys of the noise of DP-SGD, of the network's noise inputs, and of
    those of its unclipped layers.
    """

    start: np.random.Generator
    batches: np.random.Generator
    noise: int
    noise_inputs: int
    unclipped: int


def streams(seed: int) -> Streams:
    """Streams that share nothing, from one seed."""
    start, batches, *rest = np.random.SeedSequence(seed).spawn(5)
    noise, noise_inputs, unclipped = (int(sequence.generate_state(1, np.uint64)[0]) for sequence in rest)
    return Streams(np.random.default_rng(start), np.random.default_rng(batches), noise, noise_inputs, unclipped)


def poisson_rows(
    rates: Sequence[float], sizes: Sequence[int], generators: Sequence[np.random.Generator], steps: int
) -> NDArray[Any]:
    """Rows of `steps` batches (steps, models, width), each row of a model with its rate; -1 is padding, none is cut."""
    rows = [[_sample(*model) for model in zip(rates, sizes, generators, strict=True)] for _ in range(steps)]
    width = max(1, max(len(r) for step in rows for r in step))
    out = np.full((steps, len(sizes), width), -1, np.int32)
    for t, step in enumerate(rows):
        for k, r in enumerate(step):
            out[t, k, : len(r)] = r
    return out


def _sample(rate: float, n: int, rng: np.random.Generator) -> NDArray[Any]:
    """The records of one Poisson batch, each in it with chance `rate`, independently of all others."""
    if rate * FEW > 1:
        return np.flatnonzero(rng.random(n) < rate)
    # The same law with one draw per record of the batch in place of one per record: how many, then which.
    return np.sort(rng.choice(n, rng.binomial(n, rate), replace=False, shuffle=False))


def prefetched(chunks: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """The same chunks, each drawn while the one before it is trained on."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, chunks, None)
        while (chunk := waiting.result()) is not None:
            waiting = pool.submit(next, chunks, None)
            yield chunk
