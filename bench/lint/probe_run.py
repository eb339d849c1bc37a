"""Runs a defense on records of the linter's choice, records what passes through DP, and collects all outputs."""

from __future__ import annotations

import copy
import inspect
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Choice
from bench.core.dataset import Examples, Split
from bench.core.randomness import derive
from bench.core.release import ACCESS, GIVEN, Release
from bench.lint import neighbouring_datasets
from bench.lint.instrumentation import Seen, watching
from bench.lint.release_contents import reachable_objects
from bench.lint.release_outputs import Arrays, outputs
from bench.lint.short_options import SIZES

TIME_LIMIT = 900.0  # seconds of one run, which usually takes a few
PROTOCOLS = ("join", "updates")  # accesses of which `dp_event` covers one run, of either
Train = Callable[[Examples, Examples, int], Release]


@dataclass(frozen=True, eq=False)
class ProbeRun:
    """One run: its private records, what passed through DP in training (`seen`) and when outputs were requested.

    reachable: the objects reachable from its accesses. later: by request, each of the PROTOCOLS that it publishes or
    "rest" for all other accesses.
    """

    private: Examples
    seen: Seen
    release: Release
    reachable: Arrays
    outputs: Arrays
    later: dict[str, Seen]


@dataclass(frozen=True, eq=False)
class ProbeSetup:
    """A defense, and what all of its runs share. queries: the records (n, *shape) that releases are queried with.

    reset: restores the module state of the defense before each run.
    """

    train: Train
    base: Examples
    public: Examples
    queries: NDArray[np.float32]
    seed: int
    reset: Callable[[], None] = lambda: None

    @classmethod
    def of(cls, choice: Choice, data: Split, seed: int) -> ProbeSetup:
        """A defense with its options, on at most `SIZES` records."""
        base, public = (
            neighbouring_datasets.base_records(data.private, SIZES["private"]),
            data.public[: SIZES["public"]],
        )
        some = [neighbouring_datasets.extreme_record(base, kind, seed).x for kind in neighbouring_datasets.EXTREMES[:3]]
        queries = np.concatenate(
            [base.x, neighbouring_datasets.disjoint_records(base).x, data.holdout.x[: SIZES["holdout"]], *some]
        )

        def train(private: Examples, public: Examples, seed: int) -> Release:
            found: Release = choice.component.function(private, public, seed=seed, **choice.settings)
            return found

        return cls(train, base, public, queries, derive(seed, "probes"), module_reset(choice.component.function))

    def run(
        self, private: Examples, *, blank_inputs: bool = True, seed_name: str = "", noise_of: ProbeRun | None = None
    ) -> ProbeRun:
        """Train on `private`, and request every output.

        blank_inputs: replace all private inputs of DP by constants. seed_name: derives another seed. noise_of: a run
        whose noise the Gaussian mechanism repeats.
        """
        self.reset()
        seed = derive(self.seed, seed_name) if seed_name else self.seed
        with _limited(), watching(blank_inputs=blank_inputs, noise_of=noise_of.seen if noise_of else None) as seen:
            release = self.train(private, self.public, seed)
        check_release(release)
        reachable = reachable_objects(release.only(sorted(ACCESS - GIVEN - set(PROTOCOLS))))
        found: Arrays = {}
        later: dict[str, Seen] = {}
        for request in ("rest", *sorted(set(PROTOCOLS) & release.published())):
            names: Sequence[str] = sorted(ACCESS - GIVEN - set(PROTOCOLS)) if request == "rest" else [request]
            with _limited(), watching(blank_inputs=blank_inputs) as then:
                found |= outputs(release.only(names), self.queries)
            later[request] = then
        return ProbeRun(private, seen, release, reachable, found, later)

    def adversarial_records(self, run: ProbeRun) -> list[Examples]:
        """Data sets of as many records that share nothing with those of `run`, chosen by its outputs.

        The first one holds records that it generates, if it does, with the labels that its predictor finds least
        likely: a defense that discards samples close to private records will discard all of these, and one that
        selects models by private records will select another model. The second one, if it generates or predicts,
        holds records unlike all generated ones with the labels that it predicts: a defense that trains until private
        records are classified correctly will stop at once.
        """
        other, made = neighbouring_datasets.disjoint_records(self.base), run.release.synthetic
        with watching(blank_inputs=True):
            if run.release.generate:
                made = run.release.generate(len(other), 5)
            sets = [other.x if made is None or not len(made) else np.resize(made.x, other.x.shape), other.x]
            if not run.release.predict:
                labels = [other.y, other.y]
            else:
                likely = [np.asarray(run.release.predict(x)) for x in sets]
                labels = [likely[0].argmin(1), likely[1].argmax(1)]
        found = [Examples(x, y, other.classes) for x, y in zip(sets, labels, strict=True)]
        return found if run.release.predict or sets[0] is not other.x else found[:1]


def module_reset(function: Callable[..., Any]) -> Callable[[], None]:
    """A function that restores the globals of the function's module to their present state.

    Without it a value that the module caches in one run would be reused for other private records.
    """
    module: dict[str, Any] = getattr(inspect.unwrap(function), "__globals__", {})  # not those of a wrapper
    then = {name: value for name, value in module.items() if not name.startswith("__")}
    content: dict[str, Any] = {k: copy.copy(v) for k, v in then.items() if type(v) in (dict, set, list)}

    def reset() -> None:
        for name in [name for name in module if not name.startswith("__") and name not in then]:
            del module[name]
        module.update(then)
        for name, value in then.items():
            if type(value) is list:
                value[:] = content[name]
            elif name in content:
                value.clear()
                value.update(content[name])
            elif hasattr(value, "cache_clear") and getattr(value, "__module__", None) == module["__name__"]:
                value.cache_clear()

    return reset


def check_release(release: object) -> None:
    """Raise TypeError where it is no Release, or its `dp_event` is no DpEvent."""
    from dp_accounting import DpEvent

    if not isinstance(release, Release):
        raise TypeError(f"it returned a {type(release).__name__}, where a bench.Release is required")
    dp_event: object = release.dp_event
    if not isinstance(dp_event, DpEvent):
        raise TypeError(f"dp_event is a {type(dp_event).__name__}, where a dp_accounting.DpEvent is required")


@contextmanager
def _limited() -> Iterator[None]:
    """Raise TimeoutError in a block that runs longer than TIME_LIMIT.

    Only in the main thread, where the system has an interval timer and nobody else has set it.
    """
    usable = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    if not usable or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return

    def late(*_: object) -> None:
        raise TimeoutError(f"it did not end within {TIME_LIMIT:g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, TIME_LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
