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

    All coins of a model form one line, batch after batch and record after record, and what is drawn are the gaps
    between the coins that fall: geometric numbers, so one number for each record in a batch in place of one for each
    record (Fan, Muller and Rezucha 1962), for all steps at once.
    """

    def __init__(self, rates: Sequence[float], sizes: Sequence[int], generators: Sequence[np.random.Generator]) -> None:
        self._models = [_Coins(*model) for model in zip(rates, sizes, generators, strict=True)]

    def rows(self, steps: int) -> NDArray[Any]:
        """Rows of the next `steps` batches (steps, models, width), ascending; -1 is padding, none is cut."""
        drawn = [model.next(steps) for model in self._models]
        counts = [np.bincount(step, minlength=steps) for step, _ in drawn]
        width = max(1, *(int(count.max(initial=0)) for count in counts))
        out = np.full((steps, len(drawn), width), -1, np.int32)
        for k, ((step, record), count) in enumerate(zip(drawn, counts, strict=True)):
            place = np.arange(len(step)) - np.repeat(np.cumsum(count) - count, count)
            out[step, k, place] = record
        return out


class _Coins:
    """The line of coins of one model, n for each step. ahead: places of those that fell, beyond the last step."""

    def __init__(self, rate: float, n: int, rng: np.random.Generator) -> None:
        self._rate, self._n, self._rng = rate, n, rng
        self._ahead = np.zeros(0, np.int64)
        self._last = -1  # the place of the last coin that fell, from the beginning of the next step

    def next(self, steps: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Of each coin that falls in the next steps, its step and its record."""
        coins = steps * self._n
        while self._last < coins and self._n:
            expected = (coins - self._last) * self._rate
            gaps = self._rng.geometric(self._rate, int(expected + 3 * expected**0.5) + 8)
            places = self._last + np.cumsum(np.minimum(gaps, 2**40))  # no overflow, and far beyond any line
            self._ahead, self._last = np.concatenate([self._ahead, places]), int(places[-1])
        now = int(np.searchsorted(self._ahead, coins))
        fallen, self._ahead = self._ahead[:now], self._ahead[now:] - coins
        self._last -= coins
        step, record = np.divmod(fallen, max(1, self._n))
        return step, record


def prefetched(chunks: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """The same chunks, each drawn while the one before it is trained on."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, chunks, None)
        while (chunk := waiting.result()) is not None:
            waiting = pool.submit(next, chunks, None)
            yield chunk
