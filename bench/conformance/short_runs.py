"""A defense put through short trainings on small splits; what only looks at a release shares one."""

from __future__ import annotations

import importlib
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.conformance.check import Broken, Skip, refusal
from bench.conformance.side_effects import Reach, reaching
from bench.core.component import Choice, Component
from bench.core.dataset import Data, Examples, Where
from bench.core.randomness import derive
from bench.core.release import Release
from bench.lint.release_outputs import outputs
from bench.lint.short_options import SIZES, short_options
from bench.runner import play
from bench.runner.registry import Registry


@cache
def small(name: str = "digits", seed: int = 0) -> Data:
    """A small split of a data set that is inside scikit-learn: of `digits`, or of two classes and plain features."""
    module = importlib.import_module(f"bench.data.sets.{name}")

    data: Data = getattr(module, name)(Where(), np.random.default_rng(seed), **SIZES)
    return data


class Tried:
    """One defense with options that make it quick, the releases that it gave, and what it did meanwhile.

    changed: whether any training changed records that it was handed; reached: what each of them reached for.
    """

    def __init__(self, choice: Choice, registry: Registry) -> None:
        self.registry = registry
        self.choice = Choice(choice.component, {**short_options(choice.component), **choice.options})
        self.changed = False
        self.reached: list[Reach] = []
        self._releases: dict[tuple[str, int | None], Release | BaseException] = {}
        self._seen: dict[tuple[str, int | None], dict[str, NDArray[Any]]] = {}

    @cached_property
    def ground(self) -> str:
        """The split on which it is tried: pictures, or plain features where it refuses those."""
        try:
            self.release("digits")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - raised again for whoever asks
            return "breast_cancer" if refusal(error) else "digits"
        return "digits"

    @property
    def component(self) -> Component:
        """The defense."""
        return self.choice.component

    def train(self, private: Examples, public: Examples, seed: int = 0, **changed: Any) -> Release:
        """A new release, with `changed` options where it has them. Raises Broken where that is no Release."""
        arrays = [array for part in (private, public) for array in (part.x, part.y)]
        before = [array.copy() for array in arrays]
        options = self.choice.settings | {name: changed[name] for name in changed if name in self.component.options}
        with reaching() as reach:
            self.reached.append(reach)
            release = self.component.function(private, public, seed=seed, **options)
        self.changed |= not all(map(np.array_equal, arrays, before))
        if not isinstance(release, Release):
            raise Broken(f"it returned a {type(release).__name__}: return a bench.core.release.Release.")
        return release

    def release(self, name: str | None = None, seed: int | None = None) -> Release:
        """The one release of a split (`ground`) and seed (that of `runner.release`)."""
        name = name or self.ground
        key = name, seed
        if key not in self._releases:
            data = small(name)
            sizes = (len(data.private), len(data.holdout), len(data.public))
            own = derive(0, "defense", self.choice.label, data.name, *sizes) if seed is None else seed
            try:
                self._releases[key] = self.train(data.private, data.public, own)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - raised again for whoever asks
                self._releases[key] = error
        found = self._releases[key]
        if isinstance(found, BaseException):
            raise found
        return found

    def again(self) -> Release:
        """The same once more, the way that the program goes. Raises Skip where that way is barred."""
        if self.release().published() != self.component.publishes:
            raise Skip("it does not publish what it declares.")
        found = play.release(small(self.ground), self.choice, 0)
        return found

    def outputs(self, name: str | None = None, seed: int | None = None) -> dict[str, NDArray[Any]]:
        """What can be seen of the one release of a split and seed."""
        name = name or self.ground
        if (name, seed) not in self._seen:
            self._seen[name, seed] = self.look(self.release(name, seed), name)
        return self._seen[name, seed]

    def look(self, release: Release, name: str | None = None) -> dict[str, NDArray[Any]]:
        """What can be seen of a release of a split (`ground`). Raises Skip where that is not of its kind."""
        if any(kinds(release)):
            raise Skip("what it lets out is not of its kind.")
        return outputs(release, small(name or self.ground).holdout.x)


def kinds(release: Release) -> list[str]:
    """A sentence for each access that is not what `bench.core.release.Release` says it is."""
    found = []
    for name in ("predict", "encode", "decode", "generate", "join", "updates"):
        given = getattr(release, name)
        if given is not None and not callable(given):
            found.append(f"{name} is a {type(given).__name__}: let out a function, as bench/core/release.py says.")
        elif given is not None and name in ("encode", "decode") and not hasattr(given, "model"):
            found.append(f"{name} is a plain function: let out a bench.dp.networks.Published, whose model can be seen.")
    if release.model is not None and not hasattr(release.model, "get_weights"):
        found.append(f"model is a {type(release.model).__name__}: let out the Keras model.")
    synthetic: object = release.synthetic
    if synthetic is not None and not isinstance(synthetic, Examples):
        found.append(f"synthetic is a {type(synthetic).__name__}: let out bench.core.dataset.Examples.")
    return found
