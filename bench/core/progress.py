"""Progress on stderr: one moving line on a terminal, elsewhere a plain line every few seconds."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from bench.core.text import one_line

INTERVAL = 5.0  # seconds between two plain lines


class Progress:
    """Prints lines (`print`) and the step that is running (`step`); a context manager that removes its moving line."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._printed_at = float("-inf")
        self.bar: Bar | None = None
        self.interrupted = False

    def __enter__(self) -> Self:
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._interrupt)
        return self

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-C. TensorFlow sometimes turns it into a failed training: then the next step stops, or the exit."""
        self.interrupted = True
        signal.default_int_handler(number, frame)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if signal.getsignal(signal.SIGINT) == self._interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
        if self.interrupted and (kind is None or issubclass(kind, Exception)):
            raise KeyboardInterrupt from error

    def print(self, line: str) -> None:
        """Print a line above the moving one."""
        self.console.print(one_line(line), markup=False)

    def step(self, what: str, done: int, total: int, left: float | None = None, workers: Sequence[str] = ()) -> None:
        """Show that `done` of `total` steps are finished and what is next; off a terminal every 5 s, first and last.

        left: seconds until the end by estimate; workers: what each of them does, a line each. Raises KeyboardInterrupt
        where the user pressed Ctrl-C and the program went on.
        """
        if self.interrupted:
            self.interrupted = False
            raise KeyboardInterrupt
        what = ", ".join(filter(None, (f"{duration(left)} left" if left is not None and done < total else "", what)))
        if self.console.is_terminal:
            self._move(one_line(what), done, total, workers)
        elif done >= total or time.monotonic() - self._printed_at >= INTERVAL:
            self._printed_at = time.monotonic()
            self.print(f"[{done}/{total}] {what}".rstrip())
            for line in workers if done < total else ():
                self.console.print(f"  {one_line(line)}", markup=False)

    def _move(self, what: str, done: int, total: int, workers: Sequence[str]) -> None:
        if self.bar is None:
            columns = SpinnerColumn(), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn()
            self.bar = Bar(
                *columns, TextColumn("{task.description}", markup=False), console=self.console, transient=True
            )
            self.bar.add_task(what, total=total)
            self.bar.start()
        lines = "".join(f"\n  {one_line(line)}" for line in workers)
        self.bar.update(self.bar.task_ids[0], description=what + lines, completed=done, total=total)


def duration(seconds: float) -> str:
    """An estimated time in words: "about 40 s", "about 12 min" or "about 3.5 h"."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
