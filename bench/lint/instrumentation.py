"""What private records may leave by: DP training, the Gaussian mechanism, the noised sum of a server; watched.

The doors are replaced for as long as somebody watches, and know nothing of it, so what is tried is the code that runs.
TensorFlow is imported inside the functions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples

if TYPE_CHECKING:
    from bench.dp.networks import Weights
    from bench.dp.train import Recipe
    from bench.models.federated.server import Policy

BLANKS = 50  # drawn records of a part that a blindfolded training meets
# And what it is trained with in place of what may follow from the number of records.
BLIND: dict[str, float] = {"rate": 0.5, "batch_size": 25.0}
BLIND_NOISE = 1.0


@dataclass(frozen=True, eq=False)
class Trained:
    """A private training as it was asked for, of one model a part, and how many steps have run so far (`steps()`)."""

    recipes: Sequence[Recipe]
    parts: Sequence[Examples]
    seeds: Sequence[int]
    steps: Callable[[], int]


@dataclass(frozen=True, eq=False)
class Summed:
    """One use of the Gaussian mechanism: the numbers before and after its noise, and what it was told of them."""

    values: NDArray[Any]
    l2_sensitivity: float
    noise_multiplier: float
    noised: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Averaged:
    """One round of a server that noises: the updates that it took, and its parameters before and after."""

    policy: Policy
    clients: int
    updates: Sequence[Weights]
    before: Weights
    after: Weights


@dataclass
class Seen:
    """What went through the doors, in order; plain trainings and servers without noise are not among it."""

    trained: list[Trained] = field(default_factory=list)
    summed: list[Summed] = field(default_factory=list)
    averaged: list[Averaged] = field(default_factory=list)


@contextmanager
def watching(*, blindfold: bool = False, like: Seen | None = None) -> Iterator[Seen]:
    """Watch the doors within this block.

    blindfold: let nothing private through. Training meets the same drawn records a part whatever it is handed, a server
    adds up no update, and the Gaussian mechanism gives its noise alone; so whatever else differs between two sets of
    private records left beside the doors. like: where the mechanism is used as it was there, it gives what it gave
    there, so that sets of another size, whose noise is another, differ in nothing else. Raises RuntimeError where
    somebody watches already.
    """
    from bench.dp import gaussian_mechanism, training_loop
    from bench.models.federated import server as aggregation

    if not _alone.acquire(blocking=False):
        raise RuntimeError("the doors are watched already: end the other watch first")
    seen = Seen()
    plain, close, gaussian = training_loop.Training, aggregation.Server.close, gaussian_mechanism.gaussian

    def training(recipes: Any, parts: Any, seeds: Any) -> Any:
        if recipes[0].privacy is None:
            return plain(recipes, parts, seeds)
        if blindfold:
            made = plain([_blind(one) for one in recipes], [_blank(part) for part in parts], seeds)
        else:
            made = plain(recipes, parts, seeds)
        seen.trained.append(Trained(recipes, parts, seeds, lambda: made.steps))
        return made

    def closed(server: Any) -> None:
        before, noisy = server.parameters, server.policy.noise_multiplier
        updates = [update for update, _ in server._taken]
        if blindfold and noisy:
            server._taken = []
        close(server)
        if noisy:
            clients = len(server.clients)
            seen.averaged.append(Averaged(server.policy, clients, updates, before, server.parameters))

    def summed(values: Any, l2_sensitivity: float, noise_multiplier: float, rng: np.random.Generator) -> NDArray[Any]:
        hidden = np.zeros_like(values) if blindfold else values
        noised = gaussian(hidden, l2_sensitivity, noise_multiplier, rng)
        before = like.summed[len(seen.summed)] if like and len(like.summed) > len(seen.summed) else None
        if before and before.noised.shape == noised.shape:
            noised = before.noised
        seen.summed.append(Summed(np.array(values), l2_sensitivity, noise_multiplier, noised))
        return noised

    try:
        with (
            patch.object(training_loop, "Training", training),
            patch.object(aggregation.Server, "close", closed),
            patch.object(gaussian_mechanism, "gaussian", summed),
        ):
            yield seen
    finally:
        _alone.release()


_alone = threading.Lock()


def _blind(recipe: Recipe) -> Recipe:
    """Public numbers that may follow from how many records there are are the same for all."""
    assert recipe.privacy
    return replace(recipe, **BLIND, privacy=replace(recipe.privacy, noise_multiplier=BLIND_NOISE))  # type: ignore[arg-type]


def _blank(part: Examples) -> Examples:
    # Of all labels, so that what was trained tells records apart, and a choice among trainings by private ones shows.
    rng = np.random.default_rng(0)
    return Examples(rng.random((BLANKS, *part.shape)), rng.integers(0, part.classes, BLANKS), part.classes)
