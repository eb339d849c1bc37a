"""How far a run is: what is done of all, what is left by estimate, and what each worker does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from bench.runner.messages import Message, Name, done

if TYPE_CHECKING:
    from bench.core.progress import Progress


class Meter:
    """Counts finished and failed records of `total` and shows them with what is being done.

    seconds: what each record takes by estimate, where one is known. A record without an estimate counts as an average
    one; the time left follows from the time that the estimates of what is done took.
    """

    def __init__(
        self,
        progress: Progress,
        total: int,
        seconds: Mapping[Name, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress, self._total, self._clock = progress, total, clock
        self._weights = dict(seconds or {})
        known = [weight for weight in self._weights.values() if weight > 0]
        self._average = sum(known) / len(known) if known else 1.0
        self._all = sum(self._weights.values()) + self._average * max(0, total - len(self._weights))
        self._begin = clock()
        self._workers: dict[str, str] = {}
        self._what = ""
        self.done = 0
        self._finished = 0.0

    def counted(self, messages: Iterable[Message]) -> Iterator[Message]:
        """The same messages; what they finish counts as done once the next one is asked for."""
        for message in messages:
            yield message
            names = done(message)
            self.done += len(names)
            self._finished += sum(self._weights.get(name, self._average) for name in names)

    def inline(self, what: str) -> None:
        """Show what this process does now."""
        self._what = what
        self.show()

    def worker(self, address: str, what: str | None) -> None:
        """Note what a worker does now: "" for nothing, None for one that is gone."""
        if what is None:
            self._workers.pop(address, None)
        else:
            self._workers[address] = what

    def show(self, *, waiting: bool = False) -> None:
        """Show how far the run is, without counting anything."""
        what = "waiting for workers" if waiting else self._what
        lines = [f"{address.rpartition('/')[2]}: {doing or 'idle'}" for address, doing in sorted(self._workers.items())]
        self._progress.step(what, min(self.done, self._total), self._total, self.left, lines)

    @property
    def left(self) -> float | None:
        """Seconds until the end by estimate, None where nothing is done yet."""
        if not self._finished or not self._total:
            return None
        return (self._clock() - self._begin) * max(0.0, self._all - self._finished) / self._finished
