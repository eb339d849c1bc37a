"""A defense run on records of our choice, with the doors watched, and all that it let out looked at."""

from __future__ import annotations

import copy
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Choice
from bench.core.dataset import Data, Examples
from bench.core.randomness import derive
from bench.core.release import ACCESS, GIVEN, Release
from bench.lint import neighbouring_datasets
from bench.lint.instrumentation import Seen, watching
from bench.lint.release_contents import held
from bench.lint.release_outputs import Arrays, outputs
from bench.lint.short_options import SIZES

LIMIT = 900.0  # seconds of one run, which takes a few
PROTOCOLS = ("join", "updates")  # of which one run is covered, this or that
Defend = Callable[[Examples, Examples, int], Release]


@dataclass(frozen=True, eq=False)
class Run:
    """One run: what it was given, what went through the doors meanwhile and in what was asked of the release later.

    held: what its accesses are made of. later: by what was asked: each of the PROTOCOLS that it publishes, or "rest".
    """

    private: Examples
    seen: Seen
    release: Release
    held: Arrays
    let_out: Arrays
    later: dict[str, Seen]


@dataclass(frozen=True, eq=False)
class Trial:
    """A defense, and the records that all of its runs share; a run is blindfolded where nothing private may pass."""

    defend: Defend
    plain: Examples
    public: Examples
    probes: NDArray[np.float32]
    seed: int
    forget: Callable[[], None] = lambda: None

    @classmethod
    def of(cls, choice: Choice, data: Data, seed: int) -> Trial:
        """On at most as many records as a trial needs."""
        plain, public = neighbouring_datasets.plain(data.private, SIZES["private"]), data.public[: SIZES["public"]]
        some = [neighbouring_datasets.extreme(plain, kind, seed).x for kind in neighbouring_datasets.NEIGHBOURS[:3]]
        probes = np.concatenate(
            [plain.x, neighbouring_datasets.others(plain).x, data.holdout.x[: SIZES["holdout"]], *some]
        )

        def defend(private: Examples, public: Examples, seed: int) -> Release:
            found: Release = choice.component.function(private, public, seed=seed, **choice.settings)
            return found

        return cls(defend, plain, public, probes, derive(seed, "probes"), forgetting(choice.component.function))

    def run(self, private: Examples, *, blindfold: bool = True, again: str = "", like: Run | None = None) -> Run:
        """Train on `private`, and ask for everything. again: names another seed; like: see `watching`."""
        self.forget()
        seed = derive(self.seed, again) if again else self.seed
        with _limited(), watching(blindfold=blindfold, like=like.seen if like else None) as seen:
            release = self.defend(private, self.public, seed)
        check(release)
        kept = held(release.only(sorted(ACCESS - GIVEN - set(PROTOCOLS))))
        let_out: Arrays = {}
        later: dict[str, Seen] = {}
        for what in ("rest", *sorted(set(PROTOCOLS) & release.published())):
            names: Sequence[str] = sorted(ACCESS - GIVEN - set(PROTOCOLS)) if what == "rest" else [what]
            with _limited(), watching(blindfold=blindfold) as then:
                let_out |= outputs(release.only(names), self.probes)
            later[what] = then
        return Run(private, seen, release, kept, let_out, later)

    def against(self, run: Run) -> list[Examples]:
        """As many private records each that share nothing with those of `run`, chosen by what it let out.

        First the records that it generates, where it does: who drops what is near a private record drops them all.
        Their labels are the least likely ones to its predictor, so that another model looks better on them. Then, where
        it does either, records unlike all that it generates, with the labels that it predicts, so that it looks perfect
        to whoever trains until it does.
        """
        other, made = neighbouring_datasets.others(self.plain), run.release.synthetic
        with watching(blindfold=True):
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


def forgetting(function: Callable[..., Any]) -> Callable[[], None]:
    """What makes the module of a function as it is now: what it kept of one run would stand for the records of all."""
    module: dict[str, Any] = getattr(function, "__globals__", {})
    then = {name: value for name, value in module.items() if not name.startswith("__")}
    content: dict[str, Any] = {k: copy.copy(v) for k, v in then.items() if type(v) in (dict, set, list)}

    def forget() -> None:
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

    return forget


def check(release: object) -> None:
    """Raises TypeError where it is none, or says nothing that could be accounted."""
    from dp_accounting import DpEvent

    if not isinstance(release, Release):
        raise TypeError(f"it returned a {type(release).__name__}, where a bench.core.release.Release is asked for")
    dp_event: object = release.dp_event
    if not isinstance(dp_event, DpEvent):
        raise TypeError(f"spent is a {type(dp_event).__name__}, where a dp_accounting.DpEvent is asked for")


@contextmanager
def _limited() -> Iterator[None]:
    """Raise TimeoutError in a block that does not end; only where the system has a clock that nobody else uses."""
    alone = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    if not alone or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return

    def late(*_: object) -> None:
        raise TimeoutError(f"it did not end within {LIMIT:g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
