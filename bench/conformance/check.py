"""A check: one thing that a component owes, as a small function, whose failures are sentences that say what to do."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

from bench.core import dataset
from bench.core.component import Component
from bench.core.errors import UserError

T = TypeVar("T")
Unless = Callable[[Component], str]


class Broken(Exception):
    """What is wrong with a component, in one sentence that says what to do."""


class Skip(Exception):
    """Why a check has nothing to say of a component, in a few words."""


@dataclass(frozen=True)
class Check(Generic[T]):
    """`function` takes what is tried and gives a sentence a failure; `unless` says why not to ask, "" to ask."""

    says: str
    function: Callable[[T], Iterable[str]]
    unless: Unless

    def __call__(self, tried: T) -> list[str]:
        """What is wrong; empty where nothing is. Raises Broken, Skip, and whatever the component itself raises."""
        return list(self.function(tried))

    def __repr__(self) -> str:
        return self.function.__name__


def check(says: str, unless: Unless = lambda component: "") -> Callable[[Callable[[T], Iterable[str]]], Check[T]]:
    """Make a function a check, which `says` in a few words what a component owes."""
    return lambda function: Check(says, function, unless)


@dataclass(frozen=True)
class Verdict:
    """What came of one check of one component; `why` is a sentence, and empty where it passed."""

    component: str
    check: str
    outcome: Literal["passed", "FAILED", "skipped"]
    why: str = ""

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.component, self.check, self.outcome, self.why)))


def judge(one: Check[T], tried: T, component: Component) -> Iterator[Verdict]:
    """Run one check on `tried`; a verdict, or one a failure. Whatever the component raises is one too."""
    if why := one.unless(component):
        yield Verdict(component.name, one.says, "skipped", why)
        return
    failures: list[str] = []
    try:
        with redirect_stdout(sys.stderr):  # what foreign code prints is none of our lines
            for failure in one.function(tried):
                failures.append(failure)  # those before a crash count too
    except Skip as reason:
        if not failures:
            yield Verdict(component.name, one.says, "skipped", str(reason))
            return
    except Broken as error:
        failures.append(str(error))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code fails in any way
        failures.append(crash(error, component))
    for failure in failures:
        yield Verdict(component.name, one.says, "FAILED", " ".join(failure.split()))
    if not failures:
        yield Verdict(component.name, one.says, "passed")


def crash(error: BaseException, component: Component) -> str:
    """An exception as a sentence: where in the component's file it came up, and what to do."""
    lines = lines_of(error, component)
    at = f" at line {lines[-1]} of {component.source.name}" if lines else ""
    said = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, ValueError) and "read-only" in said:
        return f"it writes into the records that it was handed{at}: work on a copy of them."
    if isinstance(error, UserError):
        return f"it stopped{at}: {said}."
    return f"it stopped{at} with {type(error).__name__}{': ' * bool(said)}{said}: mend that and test again."


def lines_of(error: BaseException, component: Component) -> list[int | None]:
    """Where in the component's file an exception came through; nowhere, if it is none of its own."""
    return [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if _same(frame.filename, component)]


def _same(file: str, component: Component) -> bool:
    return Path(file).name == component.source.name and Path(file).resolve() == component.source.resolve()


def refusal(error: BaseException) -> bool:
    """Whether a component says that such records are not for it; that its own records are no records says nothing."""
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    return isinstance(error, UserError) and last != dataset.__file__


@contextmanager
def refusable() -> Iterator[None]:
    """Within, a component may refuse records in a UserError; then there is nothing to check."""
    try:
        yield
    except UserError as error:
        if not refusal(error):
            raise
        raise Skip(f"it refuses such records: {error}") from error
