"""What surrounds a call of `train`: the cache of weights, who hears of progress, who trains, and what is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

from bench.core.dataset import Examples
from bench.dp.recipe import PER_MODEL, Fit, Recipe
from bench.dp.weights_cache import WeightsCache

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TrainingRequest:
    """The arguments of one call of `train`: a recipe, a data set and a seed per model, and what it is called."""

    recipes: Sequence[Recipe]
    datasets: Sequence[Examples]
    seeds: Sequence[int]
    what: str

    @property
    def shape(self) -> Any:
        """Equal for requests that can be trained as one program."""
        return shared_settings(self.recipes[0]), self.what


def shared_settings(recipe: Recipe) -> tuple[Any, ...]:
    """What recipes of one program must have in common: all but the values of `PER_MODEL`."""
    per_model = dict.fromkeys(PER_MODEL) | {"privacy": recipe.privacy is None}
    return tuple({**vars(recipe), **per_model}.items())


@dataclass
class RecordedTrainings:
    """The trainings that a block requested: by key the seconds that each took when it ran, and the sum of cache hits.

    seconds_cached: of trainings that were found in the cache.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    seconds_cached: float = 0.0


@dataclass(frozen=True)
class TrainingContext:
    """What `train` finds around it.

    delegate: who answers the request in place of `train` itself, as within `train_jointly`.
    """

    cache: WeightsCache | None = None
    on_progress: OnProgress | None = None
    delegate: Callable[[TrainingRequest], list[Fit]] | None = None
    recorded: RecordedTrainings | None = None


_current: ContextVar[TrainingContext] = ContextVar("training_context", default=TrainingContext())  # noqa: B039 - frozen


def current() -> TrainingContext:
    """The context of this thread."""
    return _current.get()


@contextmanager
def within(**changes: Any) -> Iterator[None]:
    """Within this block the context has these fields changed."""
    before = _current.set(replace(_current.get(), **changes))
    try:
        yield
    finally:
        _current.reset(before)


def progress(what: str, done: int, total: int) -> None:
    """Report how far a long computation is."""
    if on_progress := current().on_progress:
        on_progress(what, done, total)
