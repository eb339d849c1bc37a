"""Observes the three mechanisms that may release private records: DP training, Gaussian mechanism, noised server sums.

It observes through `bench.dp.instrumentation`, so what is tested is the code that ships.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples
from bench.dp.instrumentation import observing

if TYPE_CHECKING:
    from bench.dp.networks import Weights
    from bench.dp.recipe import Recipe
    from bench.models.federated.server import Policy

BLANK_RECORDS = 50  # random records of a data set that replace the private ones
# And what replaces the numbers of a recipe that may follow from the number of records.
BLANK_RECIPE: dict[str, float] = {"rate": 0.5, "batch_size": 25.0}
BLANK_NOISE = 1.0


@dataclass(frozen=True, eq=False)
class Trained:
    """A private training as it was requested, of one model per data set, and how many steps have run (`steps()`)."""

    recipes: Sequence[Recipe]
    parts: Sequence[Examples]
    seeds: Sequence[int]
    steps: Callable[[], int]


@dataclass(frozen=True, eq=False)
class Summed:
    """One use of the Gaussian mechanism: the numbers before and after its noise, and its stated parameters."""

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
    """What the mechanisms released, in order; plain trainings and servers without noise are not among it."""

    trained: list[Trained] = field(default_factory=list)
    summed: list[Summed] = field(default_factory=list)
    averaged: list[Averaged] = field(default_factory=list)


@contextmanager
def watching(*, blank_inputs: bool = False, noise_of: Seen | None = None) -> Iterator[Seen]:
    """Observe the mechanisms within this block.

    blank_inputs: replace all private inputs. Training gets the same random records whatever its data set, a server adds
    up no update, and the Gaussian mechanism returns its noise alone; so whatever else differs between two sets of
    private records was released by other means. noise_of: where the mechanism is used as it was in this run, it returns
    what it returned then, so that sets of another size, whose noise differs, differ in nothing else. Raises
    RuntimeError where another observer is active.
    """
    seen = Seen()
    with observing(_Watch(seen, blank_inputs, noise_of)):
        yield seen


@dataclass(frozen=True, eq=False)
class _Watch:
    """The observer of `watching`."""

    seen: Seen
    blank_inputs: bool
    noise_of: Seen | None

    def training_inputs(
        self, recipes: Sequence[Recipe], datasets: Sequence[Examples]
    ) -> tuple[Sequence[Recipe], Sequence[Examples]]:
        if recipes[0].privacy is None or not self.blank_inputs:
            return recipes, datasets
        return [_blank_recipe(one) for one in recipes], [_blank_records(dataset) for dataset in datasets]

    def training_started(
        self, training: Any, recipes: Sequence[Recipe], datasets: Sequence[Examples], seeds: Sequence[int]
    ) -> None:
        if recipes[0].privacy is not None:
            self.seen.trained.append(Trained(recipes, datasets, seeds, lambda: training.steps))

    def gaussian(
        self,
        add_noise: Callable[..., NDArray[np.float64]],
        values: NDArray[Any],
        l2_sensitivity: float,
        noise_multiplier: float,
        rng: np.random.Generator,
    ) -> NDArray[np.float64]:
        summed, noise_of = self.seen.summed, self.noise_of
        hidden = np.zeros_like(values) if self.blank_inputs else values
        noised = add_noise(hidden, l2_sensitivity, noise_multiplier, rng)
        before = noise_of.summed[len(summed)] if noise_of and len(noise_of.summed) > len(summed) else None
        if before and before.noised.shape == noised.shape:
            noised = before.noised
        summed.append(Summed(np.array(values), l2_sensitivity, noise_multiplier, noised))
        return noised

    def server_round(self, server: Any, average: Callable[[], None]) -> None:
        before, noisy = server.parameters, server.policy.noise_multiplier
        updates = [update for update, _ in server.taken]
        if self.blank_inputs and noisy:
            server.taken = []
        average()
        if noisy:
            clients = len(server.clients)
            self.seen.averaged.append(Averaged(server.policy, clients, updates, before, server.parameters))


def _blank_recipe(recipe: Recipe) -> Recipe:
    """The recipe with public numbers that may follow from how many records there are replaced by constants."""
    assert recipe.privacy
    return replace(recipe, **BLANK_RECIPE, privacy=replace(recipe.privacy, noise_multiplier=BLANK_NOISE))  # type: ignore[arg-type]


def _blank_records(dataset: Examples) -> Examples:
    # Of all labels, so that what was trained tells records apart, and a choice among trainings by private ones shows.
    rng = np.random.default_rng(0)
    return Examples(
        rng.random((BLANK_RECORDS, *dataset.shape)), rng.integers(0, dataset.classes, BLANK_RECORDS), dataset.classes
    )
