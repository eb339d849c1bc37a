"""Signals to a process that has started others: who hears of them, and when."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType


@contextmanager
def ending_by_signal() -> Iterator[None]:
    """SIGTERM ends the block as an error does, where it would end this process at once: jobs would run on."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _start_resource_tracker() -> None:
    """Start Python's process that clears up after killed ones, and keep it from telling the user that it did."""
    stated = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(
        filter(None, (stated, "ignore::UserWarning:multiprocessing.resource_tracker"))
    )
    try:
        resource_tracker.ensure_running()
    finally:
        if stated is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = stated


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Threads that start within, and all processes that these start, never see Ctrl-C."""
    _start_resource_tracker()  # it would undo this where the first process starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def interrupts_delayed() -> Iterator[None]:
    """A second Ctrl-C waits for the end of the block, which is near."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen = list[tuple[int, FrameType | None]]()
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if seen and callable(before):
            before(*seen[-1])
