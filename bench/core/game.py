"""A game: the challenge, the baseline answer without a release, and the judge. Larger scores mean more leakage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples, Split

if TYPE_CHECKING:
    from bench.core.release import Release


@dataclass(frozen=True)
class Challenge:
    """One challenge: the attack gets `targets` and `public`, the judge alone gets `ground_truth`."""

    targets: Any
    ground_truth: Any
    public: Examples


def _nothing_more(challenge: Challenge, release: Release) -> Any:
    return challenge.targets


def pictures_in(answer: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """An answer of pictures of that shape, with pixels in [0, 1], as float32. Raises ValueError for any other."""
    answer = np.asarray(answer)
    if answer.shape != shape or answer.dtype.kind != "f":
        raise ValueError(f"expected pictures {shape} of floats, but got {answer.dtype} {answer.shape}")
    bad = int((~((answer >= 0) & (answer <= 1))).sum())  # NaN counts too
    if bad:
        raise ValueError(f"{bad} of {answer.size} pixels are not between 0 and 1")
    return answer.astype(np.float32)


def public_as_private(data: Split, rng: np.random.Generator) -> tuple[Split, Examples]:
    """Null data: trains on records that are no targets, taken from the public ones, which are then not public."""
    rows = rng.permutation(len(data.public))
    training, rest = rows[: len(data.private)], rows[len(data.private) :]
    return replace(data, public=data.public[rest]), data.public[training]


def shuffled_labels(data: Split, rng: np.random.Generator) -> tuple[Split, Examples]:
    """Null data: trains on private records with shuffled labels, so that a release holds nothing about a class."""
    private = replace(data.private, y=rng.permutation(data.private.y))
    return replace(data, private=private), private


@dataclass(frozen=True)
class Game:
    """One attack goal: how challenges are drawn, answered without a release, and judged.

    challenges: by the records that are targets ("private" first, the default of the option `of`):
        (data, rng) -> Challenge.
    baseline: (challenge, seed) -> answer, the best one without a release; it may use the ground truth only if it is
        cross-fitted, so that no target is answered by a model that was fitted on its ground truth.
    judge: (answer, baseline answer, challenge, rng) -> metrics for one cell: `headline` names the metric on the
        leaderboard, `chance` is its value by chance; then that metric, `baseline` the same of the baseline answer,
        `gain` their difference, and any others, each {"value", "low", "high", "se"} or {"not_measurable": why}; and
        `answers`, the units of the headline metric (`bench.games.paired.standard_error`), which are stored separately.
    targets_visible: (challenge, release of the accesses that the attack needs) -> targets, with what the release
        reveals of the target records (such as their embeddings).
    contact_sheet: (answer, baseline answer, challenge) -> rows of pictures by name, uint8 (n, height, width, colours).
    fewest: by the records that are targets, the least number of records of each part ("private", "holdout", "public")
        of which a challenge can be drawn, as far as it does not depend on what these records are.
    requires: what the data must have, see `bench.core.component.dataset`.
    null_data: (data, rng) -> (data of the challenge, records to train on that hold nothing about the targets), for the
        null control.
    null_metric: the metric that has a known value on null data, and that value (by default the headline, at chance).
    bounded: on null data the metric may lie below that value, and only one above it is a failure.
    reference_attack: the attack that every leaderboard of this game should include, as a lower bound on the strongest.
    """

    name: str
    summary: str
    challenges: Mapping[str, Callable[[Split, np.random.Generator], Challenge]]
    baseline: Callable[[Challenge, int], NDArray[Any]]
    judge: Callable[[NDArray[Any], NDArray[Any], Challenge, np.random.Generator], Mapping[str, Any]]
    targets_visible: Callable[[Challenge, Release], Any] = _nothing_more
    contact_sheet: Callable[[NDArray[Any], NDArray[Any], Challenge], Mapping[str, NDArray[Any]]] | None = None
    fewest: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    requires: frozenset[str] = frozenset()
    null_data: Callable[[Split, np.random.Generator], tuple[Split, Examples]] | None = None
    null_metric: tuple[str, float] | None = None
    bounded: bool = False
    reference_attack: str = ""

    @property
    def options(self) -> dict[str, str]:
        """The option that every attack of the game has: which records are targets, where there is a choice."""
        return {"of": next(iter(self.challenges))} if len(self.challenges) > 1 else {}

    def lacks(self, sizes: Mapping[str, int], of: str = "private") -> str:
        """What parts of these sizes, by name, lack for a challenge on records of `of`, in words; "" for nothing."""
        few = {part: n for part, n in self.fewest.get(of, {}).items() if sizes.get(part, n) < n}
        return " and ".join(f"{n} {part} records, not {sizes[part]}" for part, n in few.items())

    def challenge(self, data: Split, rng: np.random.Generator, of: str = "private") -> Challenge:
        """Draw a challenge whose targets are the records of `of`."""
        return self.challenges[of](data, rng)
