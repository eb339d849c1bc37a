"""Progress with and without a terminal, and interrupts that a library swallowed."""

from __future__ import annotations

import contextlib
import io
import signal
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from rich.console import Console

from bench.core import progress
from bench.core.progress import Progress


@pytest.fixture
def _stoppable() -> Iterator[None]:
    """Handle Ctrl-C as in a terminal; a Python started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_stoppable")
def test_a_stop_that_was_swallowed_stops_at_the_next_step() -> None:
    """TensorFlow's C code turns it into a SystemError, which the runner treats as a failed training."""
    with Progress(Console(file=io.StringIO())) as progress:
        progress.step("first", 0, 2)
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            progress.step("second", 1, 2)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("_stoppable")
@pytest.mark.parametrize("made_of_it", [None, SystemError("returned a result with an exception set")])
def test_a_stop_that_was_swallowed_stops_at_the_end(made_of_it: Exception | None) -> None:
    def swallow() -> None:
        with Progress(Console(file=io.StringIO())):
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            if made_of_it:
                raise made_of_it

    with pytest.raises(KeyboardInterrupt):
        swallow()


def test_progress_off_a_terminal_is_the_first_the_last_and_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 1.0, 4.9, 5.0, 5.0, 6.0, 7.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    out = io.StringIO()
    with Progress(Console(file=out, soft_wrap=True, width=10)) as shown:
        for done in range(6):
            shown.step("cell [a]", done, 5)
        shown.print("a line of [any] length stays one line")
    assert out.getvalue().splitlines() == [
        "[0/5] cell [a]", "[3/5] cell [a]", "[5/5] cell [a]", "a line of [any] length stays one line",
    ]  # fmt: skip


def test_progress_on_a_terminal_clears_its_line() -> None:
    out = io.StringIO()
    with Progress(Console(file=out, force_terminal=True, width=80)) as shown:
        shown.step("cell [a]", 0, 2)
        shown.print("kept")
        shown.step("cell b", 1, 2)
    assert "cell [a]" in out.getvalue()
    assert "kept" in out.getvalue()
    assert shown.bar is None
