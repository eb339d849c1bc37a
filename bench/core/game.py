"""What a game is: the question, the best answer without any release, and who is right. Larger always means more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Data, Examples

if TYPE_CHECKING:
    from bench.core.release import Release


@dataclass(frozen=True)
class Challenge:
    """One question: the attack gets `targets`, the judge alone `ground_truth`, and anybody has `public`."""

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
    bad = int((~((answer >= 0) & (answer <= 1))).sum())  # not a number counts too
    if bad:
        raise ValueError(f"{bad} of {answer.size} pixels are not between 0 and 1")
    return answer.astype(np.float32)


def of_others(data: Data, rng: np.random.Generator) -> tuple[Data, Examples]:
    """Other records of the same kind, out of the public ones, which are then no longer public."""
    rows = rng.permutation(len(data.public))
    spare, rest = rows[: len(data.private)], rows[len(data.private) :]
    return replace(data, public=data.public[rest]), data.public[spare]


def mislabelled(data: Data, rng: np.random.Generator) -> tuple[Data, Examples]:
    """Private records whose labels are anybody's: what is learned from them, or shown of them, is of no class."""
    private = replace(data.private, y=rng.permutation(data.private.y))
    return replace(data, private=private), private


@dataclass(frozen=True)
class Game:
    """A question: how it is drawn, answered without any release, and judged.

    challenges: by whose records they ask about ("private" first, which is the default of the option `of`):
        (data, rng) -> Challenge.
    blind: (challenge, seed) -> answer, the best without any release; it may use what the judge knows only where it is
        cross-fitted, so that nothing is answered by what saw its secret.
    judge: (answer, blind answer, challenge, rng) -> metrics for one cell: `headline` names the figure that the board
        shows, `chance` what it is by luck; then that figure, `baseline` the same of the blind answer, `gain` their
        difference, and any others, each {"value", "low", "high", "se"} or {"not_measurable": why}; and `answers`, what
        the headline figure is made of (`bench.games.metrics.paired`), which the runner keeps apart.
    targets_visible: (challenge, release of the accesses that the attack needs) -> targets, with what the release lets
        one see of the records in question (say their codes).
    contact_sheet: (answer, blind answer, challenge) -> rows of pictures by name, uint8 (n, height, width, colours).
    asks: what the data must have, see `bench.core.component.dataset`.
    unrelated: (data, rng) -> (data to ask about, records to train on that know nothing of what is asked), for the null
        control; `nothing` names the metric that is then at a known value (by default the headline, at chance), or,
        with `bounded`, not above it.
    baseline: the attack that any other must be seen beside, for the strongest attack is never weaker than it.
    """

    name: str
    summary: str
    challenges: Mapping[str, Callable[[Data, np.random.Generator], Challenge]]
    baseline: Callable[[Challenge, int], NDArray[Any]]
    judge: Callable[[NDArray[Any], NDArray[Any], Challenge, np.random.Generator], Mapping[str, Any]]
    targets_visible: Callable[[Challenge, Release], Any] = _nothing_more
    contact_sheet: Callable[[NDArray[Any], NDArray[Any], Challenge], Mapping[str, NDArray[Any]]] | None = None
    requires: frozenset[str] = frozenset()
    null_data: Callable[[Data, np.random.Generator], tuple[Data, Examples]] | None = None
    nothing: tuple[str, float] | None = None
    bounded: bool = False
    reference_attack: str = ""

    @property
    def options(self) -> dict[str, str]:
        """What every attack of the game can be told besides its own options: whose records, where there is a choice."""
        return {"of": next(iter(self.challenges))} if len(self.challenges) > 1 else {}

    def challenge(self, data: Data, rng: np.random.Generator, of: str = "private") -> Challenge:
        """Draw a question about the records of `of`."""
        return self.challenges[of](data, rng)
