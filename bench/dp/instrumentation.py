"""The seam through which a linter or an auditor observes DP training, the Gaussian mechanism and noised server sums.

`Training`, `gaussian` and the server of federated learning consult the current observer; without one they run as they
are. The observer is one for the whole process, because a defense may train in threads that it starts itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples

if TYPE_CHECKING:
    from bench.dp.recipe import Recipe


class Observer(Protocol):
    """Is called on each use of the three mechanisms, and may replace its inputs or outputs."""

    def training_inputs(
        self, recipes: Sequence[Recipe], datasets: Sequence[Examples]
    ) -> tuple[Sequence[Recipe], Sequence[Examples]]:
        """The recipes and data sets with which a training is really set up."""

    def training_started(
        self, training: Any, recipes: Sequence[Recipe], datasets: Sequence[Examples], seeds: Sequence[int]
    ) -> None:
        """A `bench.dp.training_loop.Training` was set up for these requested recipes and data sets."""

    def gaussian(
        self,
        add_noise: Callable[..., NDArray[np.float64]],
        values: NDArray[Any],
        l2_sensitivity: float,
        noise_multiplier: float,
        rng: np.random.Generator,
    ) -> NDArray[np.float64]:
        """What the Gaussian mechanism returns; `add_noise` takes the four other arguments."""

    def server_round(self, server: Any, average: Callable[[], None]) -> None:
        """End a round of a server of federated learning, which `average` does."""


_observer: Observer | None = None
_lock = threading.Lock()


def current_observer() -> Observer | None:
    """Who observes now, if anybody."""
    return _observer


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """Within this block `observer` is consulted. Raises RuntimeError where another one is active."""
    global _observer
    if not _lock.acquire(blocking=False):
        raise RuntimeError("another observer is active: end its block first")
    try:
        _observer = observer
        yield
    finally:
        _observer = None
        _lock.release()
