"""Short trainings of a defense on small data sets; checks that only inspect a release share one."""

from __future__ import annotations

import importlib
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.conformance.check import Skip, Violation, is_refusal
from bench.conformance.side_effects import SideEffects, recording_side_effects
from bench.core.component import Choice, Component
from bench.core.dataset import DataLocation, Examples, Split
from bench.core.randomness import derive
from bench.core.release import Release
from bench.lint.release_outputs import outputs
from bench.lint.short_options import SIZES, short_options
from bench.runner import play
from bench.runner.registry import Registry


@cache
def small_data(name: str = "digits", seed: int = 0) -> Split:
    """A small split of a data set of scikit-learn: `digits`, or `breast_cancer` (two classes, plain features)."""
    module = importlib.import_module(f"bench.data.sets.{name}")

    data: Split = getattr(module, name)(DataLocation(), np.random.default_rng(seed), **SIZES)
    return data


class ShortRuns:
    """One defense with options that make it quick, and its releases.

    changed_inputs: whether a training modified its input records. side_effects: those of each training.
    """

    def __init__(self, choice: Choice, registry: Registry) -> None:
        self.registry = registry
        self.choice = Choice(choice.component, {**short_options(choice.component), **choice.options})
        self.changed_inputs = False
        self.side_effects: list[SideEffects] = []
        self._releases: dict[tuple[str, int | None], Release | BaseException] = {}
        self._outputs: dict[tuple[str, int | None], dict[str, NDArray[Any]]] = {}

    @cached_property
    def data_name(self) -> str:
        """The data set of the checks: images, or plain features where the defense refuses images."""
        try:
            self.release("digits")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - raised again by `release`
            return "breast_cancer" if is_refusal(error) else "digits"
        return "digits"

    @property
    def component(self) -> Component:
        """The defense."""
        return self.choice.component

    def train(self, private: Examples, public: Examples, seed: int = 0, **changed: Any) -> Release:
        """A new release, with `changed` options where it has them. Raises Violation where it returns no Release."""
        arrays = [array for part in (private, public) for array in (part.x, part.y)]
        before = [array.copy() for array in arrays]
        options = self.choice.settings | {name: changed[name] for name in changed if name in self.component.options}
        with recording_side_effects() as effects:
            self.side_effects.append(effects)
            release = self.component.function(private, public, seed=seed, **options)
        self.changed_inputs |= not all(map(np.array_equal, arrays, before))
        if not isinstance(release, Release):
            raise Violation(f"it returned a {type(release).__name__}: return a bench.Release.")
        return release

    def release(self, name: str | None = None, seed: int | None = None) -> Release:
        """The one release for a data set (`data_name`) and a seed (that of `runner.play.release`)."""
        name = name or self.data_name
        key = name, seed
        if key not in self._releases:
            data = small_data(name)
            sizes = (len(data.private), len(data.holdout), len(data.public))
            given = derive(0, "defense", self.choice.label, data.name, *sizes) if seed is None else seed
            try:
                self._releases[key] = self.train(data.private, data.public, given)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - raised again on each request
                self._releases[key] = error
        found = self._releases[key]
        if isinstance(found, BaseException):
            raise found
        return found

    def repeated_release(self) -> Release:
        """The same release again, as `bench run` trains it. Raises Skip where that would refuse it."""
        if self.release().published() != self.component.publishes:
            raise Skip("it does not publish what it declares.")
        found = play.release(small_data(self.data_name), self.choice, 0)
        return found

    def outputs(self, name: str | None = None, seed: int | None = None) -> dict[str, NDArray[Any]]:
        """The outputs of the one release for a data set and a seed."""
        name = name or self.data_name
        if (name, seed) not in self._outputs:
            self._outputs[name, seed] = self.outputs_of(self.release(name, seed), name)
        return self._outputs[name, seed]

    def outputs_of(self, release: Release, name: str | None = None) -> dict[str, NDArray[Any]]:
        """The outputs of a release on a data set (`data_name`). Raises Skip where an access has a wrong type."""
        if any(type_errors(release)):
            raise Skip("an access that it publishes has a wrong type.")
        return outputs(release, small_data(name or self.data_name).holdout.x)


def type_errors(release: Release) -> list[str]:
    """A sentence for each access whose type is not that of `bench.Release`."""
    found = []
    for name in ("predict", "encode", "decode", "generate", "join", "updates"):
        given = getattr(release, name)
        if given is not None and not callable(given):
            found.append(f"{name} is a {type(given).__name__}: publish a function, as bench/core/release.py says.")
        elif given is not None and name in ("encode", "decode") and not hasattr(given, "model"):
            found.append(f"{name} is a plain function: publish a bench.dp.networks.Published, which has its model.")
    if release.model is not None and not hasattr(release.model, "get_weights"):
        found.append(f"model is a {type(release.model).__name__}: publish the Keras model.")
    synthetic: object = release.synthetic
    if synthetic is not None and not isinstance(synthetic, Examples):
        found.append(f"synthetic is a {type(synthetic).__name__}: publish bench.Examples.")
    return found
