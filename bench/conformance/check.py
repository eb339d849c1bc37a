"""A check: one requirement of a component as a small function, whose failures are sentences that say what to do."""

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


class Violation(Exception):
    """What is wrong with a component, in one sentence that says what to do."""


class Skip(Exception):
    """Why a check does not apply to a component, in a few words."""


@dataclass(frozen=True)
class Check(Generic[T]):
    """`function` takes the runs of a component and yields one sentence per failure.

    title: the requirement in a few words. unless: why the check does not apply to a component, "" if it does.
    """

    title: str
    function: Callable[[T], Iterable[str]]
    unless: Unless

    def __call__(self, runs: T) -> list[str]:
        """The failures; empty if it passes. Raises Violation, Skip, and whatever the component itself raises."""
        return list(self.function(runs))

    def __repr__(self) -> str:
        return self.function.__name__


def check(title: str, unless: Unless = lambda component: "") -> Callable[[Callable[[T], Iterable[str]]], Check[T]]:
    """Make a function a check with this title."""
    return lambda function: Check(title, function, unless)


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check of one component; `why` is a sentence, and empty where it passed."""

    component: str
    check: str
    outcome: Literal["passed", "FAILED", "skipped"]
    why: str = ""

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.component, self.check, self.outcome, self.why)))


def run_check(one: Check[T], runs: T, component: Component) -> Iterator[Verdict]:
    """Run one check; yield one verdict, or one per failure. Whatever the component raises is a failure."""
    if why := one.unless(component):
        yield Verdict(component.name, one.title, "skipped", why)
        return
    failures: list[str] = []
    try:
        with redirect_stdout(sys.stderr):  # what the component prints is no verdict
            for failure in one.function(runs):
                failures.append(failure)  # those before an exception count too
    except Skip as reason:
        if not failures:
            yield Verdict(component.name, one.title, "skipped", str(reason))
            return
    except Violation as error:
        failures.append(str(error))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
        failures.append(exception_sentence(error, component))
    for failure in failures:
        yield Verdict(component.name, one.title, "FAILED", " ".join(failure.split()))
    if not failures:
        yield Verdict(component.name, one.title, "passed")


def exception_sentence(error: BaseException, component: Component) -> str:
    """An exception as a sentence: where in the component's file it was raised, and what to do."""
    lines = component_lines(error, component)
    at = f" at line {lines[-1]} of {component.source.name}" if lines else ""
    message = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, ValueError) and "read-only" in message:
        return f"it modifies its input records{at}: work on a copy of them."
    if isinstance(error, UserError):
        return f"it stopped{at}: {message}."
    return f"it stopped{at} with {type(error).__name__}{': ' * bool(message)}{message}: fix that and test again."


def component_lines(error: BaseException, component: Component) -> list[int | None]:
    """The lines of the component's file in the traceback of an exception."""
    return [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if _same(frame.filename, component)]


def _same(file: str, component: Component) -> bool:
    return Path(file).name == component.source.name and Path(file).resolve() == component.source.resolve()


def is_refusal(error: BaseException) -> bool:
    """Whether a component refuses its records with a UserError; invalid Examples that it made itself do not count."""
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    return isinstance(error, UserError) and last != dataset.__file__


@contextmanager
def skip_refusals() -> Iterator[None]:
    """In this block a component may refuse records with a UserError; then the check is skipped."""
    try:
        yield
    except UserError as error:
        if not is_refusal(error):
            raise
        raise Skip(f"it refuses such records: {error}") from error
