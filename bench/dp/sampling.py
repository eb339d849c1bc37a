"""Poisson batches and the random streams of a model, which share nothing with those of any other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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


class PoissonBatches:
    """The Poisson batches of several models, each record of a model in each of its batches with the model's rate.

    The inclusions of a model are Bernoulli trials, batch after batch and record after record. What is drawn are the
    gaps between successes, which are geometric: one number for each record in a batch in place of one for each record
    (Fan, Muller and Rezucha 1962), for all steps at once.
    """

    def __init__(self, rates: Sequence[float], sizes: Sequence[int], generators: Sequence[np.random.Generator]) -> None:
        self._models = [_Trials(*model) for model in zip(rates, sizes, generators, strict=True)]

    def rows(self, steps: int) -> NDArray[Any]:
        """Rows of the next `steps` batches (steps, models, width), ascending; -1 is padding, none is truncated."""
        drawn = [model.next(steps) for model in self._models]
        counts = [np.bincount(step, minlength=steps) for step, _ in drawn]
        width = max(1, *(int(count.max(initial=0)) for count in counts))
        out = np.full((steps, len(drawn), width), -1, np.int32)
        for k, ((step, record), count) in enumerate(zip(drawn, counts, strict=True)):
            place = np.arange(len(step)) - np.repeat(np.cumsum(count) - count, count)
            out[step, k, place] = record
        return out


class _Trials:
    """The Bernoulli trials of one model, n for each step, counted from the beginning of the next step.

    _ahead: successes that are drawn already; _last: the last of them.
    """

    def __init__(self, rate: float, n: int, rng: np.random.Generator) -> None:
        self._rate, self._n, self._rng = rate, n, rng
        self._ahead = np.zeros(0, np.int64)
        self._last = -1

    def next(self, steps: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Of each success in the next steps, its step and its record."""
        trials = steps * self._n
        while self._last < trials and self._n:
            expected = (trials - self._last) * self._rate
            gaps = self._rng.geometric(self._rate, int(expected + 3 * expected**0.5) + 8)
            found = self._last + np.cumsum(np.minimum(gaps, 2**40))  # no overflow, and beyond any training
            self._ahead, self._last = np.concatenate([self._ahead, found]), int(found[-1])
        now = int(np.searchsorted(self._ahead, trials))
        successes, self._ahead = self._ahead[:now], self._ahead[now:] - trials
        self._last -= trials
        step, record = np.divmod(successes, max(1, self._n))
        return step, record


def prefetched(chunks: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """The same chunks, each drawn while the one before it is trained on."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, chunks, None)
        while (chunk := waiting.result()) is not None:
            waiting = pool.submit(next, chunks, None)
            yield chunk
