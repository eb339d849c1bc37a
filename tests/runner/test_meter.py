"""How far a run is: records that are done, and the time that is left by the estimates."""

from __future__ import annotations

import io

import pytest
from cells import cell
from rich.console import Console

from bench.core.progress import Progress, duration
from bench.runner.messages import Failed, Finished
from bench.runner.meter import Meter

NAMES = [("digits", "none", "lira", seed) for seed in range(4)]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def lines(terminal: io.StringIO) -> list[str]:
    return terminal.getvalue().splitlines()


@pytest.fixture
def terminal() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def progress(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> Progress:
    monkeypatch.setattr("bench.core.progress.INTERVAL", 0.0)
    return Progress(Console(file=terminal, soft_wrap=True, highlight=False))


def test_the_time_left_follows_from_the_estimates_of_what_is_done(progress: Progress) -> None:
    clock = Clock()
    meter = Meter(progress, 4, dict(zip(NAMES, (30.0, 10.0, 10.0, 10.0), strict=True)), clock)
    assert meter.left is None, "nothing is known before something is done"
    list(meter.counted([Finished(NAMES[0], cell())]))
    clock.now = 60.0  # twice the estimate
    assert meter.left == pytest.approx(60.0)
    list(meter.counted([Failed((NAMES[1], NAMES[2]), "it failed")]))
    assert meter.left == pytest.approx(60.0 * 10 / 50)
    assert meter.done == 3


def test_a_record_without_an_estimate_counts_as_an_average_one(progress: Progress) -> None:
    clock = Clock()
    meter = Meter(progress, 4, {NAMES[0]: 30.0, NAMES[1]: 10.0}, clock)
    list(meter.counted([Finished(NAMES[2], cell())]))
    clock.now = 20.0
    assert meter.left == pytest.approx(30.0 + 10.0 + 20.0)


def test_a_line_for_the_whole_and_one_for_each_worker(progress: Progress, terminal: io.StringIO) -> None:
    clock = Clock()
    meter = Meter(progress, 4, dict.fromkeys(NAMES, 10.0), clock)
    meter.show(waiting=True)
    meter.worker("tcp://127.0.0.1:4001", "none on digits, seed 0")
    meter.worker("tcp://127.0.0.1:4002", "")
    list(meter.counted([Finished(NAMES[0], cell())]))
    clock.now = 20.0
    meter.show()
    meter.worker("tcp://127.0.0.1:4002", None)
    meter.show()
    assert lines(terminal) == [
        "[0/4] waiting for workers",
        "[1/4] about 60 s left",
        "  127.0.0.1:4001: none on digits, seed 0",
        "  127.0.0.1:4002: idle",
        "[1/4] about 60 s left",
        "  127.0.0.1:4001: none on digits, seed 0",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "about 1 s"), (89, "about 89 s"), (600, "about 10 min"), (5399, "about 90 min"), (9000, "about 2.5 h")],
)
def test_a_duration_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
