"""Whole procedures side by side, so that the networks of one shape that they train are trained as one program."""

from __future__ import annotations

import contextvars
import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from bench.dp import training_context
from bench.dp.recipe import Fit
from bench.dp.train import train
from bench.dp.training_context import TrainingRequest

T = TypeVar("T")


def train_jointly(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Results of calls that run in turn, where the networks of one shape that they train are trained as one.

    A call is a whole procedure, say a defense on records of its own. One runs at a time, until it trains; what all are
    waiting for by then is trained in as few programs as there are shapes, and they go on. So shadow models and seeds
    cost hardly more than one, through any defense. Each result equals, to float accuracy, what the call alone gives.
    Raises what the first failing call raised; two calls that train with equal seeds are refused as `train` does.
    """
    turns = [_Turn(call) for call in calls]
    try:
        while True:
            for turn in turns:
                turn.go_on()
            waiting = [turn for turn in turns if turn.request]
            if not waiting:
                return [turn.result for turn in turns]
            shapes: dict[Any, list[_Turn[T]]] = {}
            for turn in waiting:
                shapes.setdefault(turn.request.shape, []).append(turn)  # type: ignore[union-attr]
            for group in shapes.values():
                _answer(group)
    finally:
        for turn in turns:
            turn.leave()


class _Turn(Generic[T]):
    """A call in a thread of its own, of which only one ever runs: a thread, because it stops in the midst of the call.

    request: what it waits for, answer: what it gets.
    """

    def __init__(self, call: Callable[[], T]) -> None:
        self.result: Any = None
        self.request: TrainingRequest | None = None
        self.answer: list[Fit] | None = None
        self.error: BaseException | None = None
        self._may_run, self._has_stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._abandoned = False
        self._call = call
        self._thread = threading.Thread(target=contextvars.copy_context().run, args=(self._run,), daemon=True)

    def go_on(self) -> None:
        """Let it run until it trains or ends; raises what it raised."""
        if not self._thread.ident:
            self._thread.start()
        elif not self._thread.is_alive():
            return
        self._may_run.release()
        self._has_stopped.acquire()
        if not self.request:
            self._thread.join()
        if self.error:
            raise self.error

    def ask(self, request: TrainingRequest) -> list[Fit]:
        """Called within the call: wait until the request has been trained."""
        self.request = request
        self._has_stopped.release()
        self._may_run.acquire()
        self.request = None
        if self._abandoned or self.answer is None:
            raise _Abandoned
        return self.answer

    def leave(self) -> None:
        """End a call that still waits, because another one failed."""
        if self.request:
            self._abandoned = True
            self._may_run.release()
            self._thread.join()

    def _run(self) -> None:
        self._may_run.acquire()
        try:
            with training_context.within(delegate=self.ask):
                self.result = self._call()
        except _Abandoned:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by go_on, where somebody listens
            self.error = error
        self._has_stopped.release()


class _Abandoned(BaseException):
    """Unwinds a call whose result nobody waits for; not an Exception, which the call might handle."""


def _answer(group: Sequence[_Turn[Any]]) -> None:
    """Train what a group requests as one, and hand each turn the fits of its own request."""
    requests = [turn.request for turn in group if turn.request]
    recipes = [recipe for one in requests for recipe in one.recipes]
    datasets = [dataset for one in requests for dataset in one.datasets]
    seeds = [seed for one in requests for seed in one.seeds]
    fits = iter(train(recipes, datasets, seeds, requests[0].what))  # a call of many may itself be one of many
    for turn, one in zip(group, requests, strict=True):
        turn.answer = list(itertools.islice(fits, len(one.datasets)))
