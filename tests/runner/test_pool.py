"""What a pool of workers does when they vanish, refuse or run out of time, with workers that this process plays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cells import cell
from rich.console import Console

from bench.core.dataset import DataLocation
from bench.core.errors import UserError
from bench.core.progress import Progress
from bench.dp.weights_cache import WeightsCache
from bench.runner import pool, worker
from bench.runner.group import Tools
from bench.runner.job import Setup
from bench.runner.messages import Failed, Finished, Message, Name
from bench.runner.meter import Meter
from bench.runner.pool import Pool
from bench.runner.registry import Registry


@dataclass(frozen=True)
class Counting:
    """A job that measures records by number; `dies`: the numbers at which its worker is killed."""

    label: str
    numbers: tuple[int, ...]
    kind = "counting"

    @property
    def names(self) -> tuple[Name, ...]:
        return tuple((self.label, number) for number in self.numbers)

    def without(self, done: frozenset[Name]) -> Counting | None:
        left = tuple(number for number in self.numbers if (self.label, number) not in done)
        return Counting(self.label, left) if left else None

    def spec(self) -> dict[str, Any]:
        return {"label": self.label, "numbers": self.numbers}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], registry: Registry, folder: Path) -> Counting:
        return cls(spec["label"], tuple(spec["numbers"]))

    def messages(self, tools: Tools) -> Iterator[Message]:
        for name in self.names:
            MEASURED.append(name)
            if name in RAISES:
                raise LookupError("nothing there")
            if tools.may_start(name):
                yield Finished(name, cell(attack=f"{self.label} {name[1]}"))


MEASURED: list[Name] = []
RAISES: set[Name] = set()


class OneWorker:
    """A client whose only worker is this process.

    dies_at: before which calls of `advance` the worker is killed; another one, which knows nothing, takes its place.
    """

    def __init__(self, dies_at: tuple[int, ...] = (), change: Callable[[dict[str, str]], None] | None = None) -> None:
        self.calls, self.address, self.dies_at, self.change = 0, 0, dies_at, change

    def nthreads(self) -> dict[str, int]:
        return {f"tcp://here:{self.address}": 1}

    def subscribe_topic(self, topic: str, handler: Any) -> None:
        pass

    def submit(self, function: Any, *arguments: Any, workers: list[str], **options: Any) -> Future[Any]:
        assert workers == list(self.nthreads()), "only workers that are there are given work"
        future: Future[Any] = Future()
        if function is worker.advance:
            self.calls += 1
            if self.calls in self.dies_at:
                self.address += 1
                worker._runs.clear()
                return future  # which is never done
        try:
            found = function(*arguments)
        except Exception as error:  # noqa: BLE001
            future.set_exception(error)
            return future
        if function is worker.prepare and self.change:
            identity = json.loads(found)
            self.change(identity)
            found = json.dumps(identity)
        future.set_result(found)
        return future


@pytest.fixture(autouse=True)
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(worker.JOBS, "counting", f"{__name__}:Counting")
    monkeypatch.setattr(pool, "POLL", 0.01)
    MEASURED.clear()
    RAISES.clear()


def results(
    client: OneWorker, tmp_path: Path, *jobs: Counting, may_start: Callable[[Name], bool] = lambda name: True
) -> list[Message]:
    meter = Meter(Progress(Console(quiet=True)), sum(len(job.names) for job in jobs))
    setup = Setup(DataLocation(), WeightsCache(tmp_path))
    return list(Pool(client, setup, meter, local=True).results(jobs, may_start))


def finished(messages: list[Message]) -> list[Name]:
    return [message.name for message in messages if isinstance(message, Finished)]


JOBS = Counting("a", (1, 2, 3)), Counting("b", (4, 5))
NAMES = [name for job in JOBS for name in job.names]


def test_every_record_of_every_job_arrives_once(tmp_path: Path) -> None:
    messages = results(OneWorker(), tmp_path, *JOBS)
    assert finished(messages) == NAMES
    assert MEASURED == NAMES


@pytest.mark.parametrize("dies_at", [(1,), (2,), (3,), (2, 4), (1, 2), (5, 6)])
def test_a_killed_worker_costs_what_it_had_not_sent_and_nothing_else(tmp_path: Path, dies_at: tuple[int, ...]) -> None:
    assert finished(results(OneWorker(dies_at), tmp_path, *JOBS)) == NAMES
    assert MEASURED == NAMES, "what had arrived is not measured again"


def test_a_job_that_kills_three_workers_has_failed_and_the_others_go_on(tmp_path: Path) -> None:
    messages = results(OneWorker((2, 3, 4)), tmp_path, *JOBS)
    [failed] = [message for message in messages if isinstance(message, Failed)]
    assert failed.names == tuple(NAMES[1:3])
    assert "killed 3 times" in failed.reason
    assert finished(messages) == [NAMES[0], *NAMES[3:]]


def test_an_error_of_the_worker_fails_the_rest_of_its_job_and_says_where(tmp_path: Path) -> None:
    RAISES.add(("a", 2))
    messages = results(OneWorker(), tmp_path, *JOBS)
    [failed] = [message for message in messages if isinstance(message, Failed)]
    assert failed.names == tuple(NAMES[1:3]), "what had arrived has not failed"
    assert "LookupError: nothing there" in failed.reason
    assert finished(messages) == [NAMES[0], *NAMES[3:]]


def test_records_for_which_there_is_no_time_are_left_out(tmp_path: Path) -> None:
    messages = results(OneWorker(), tmp_path, *JOBS, may_start=lambda name: name[1] != 3)
    assert finished(messages) == [name for name in NAMES if name[1] != 3]


def test_a_worker_of_other_code_is_refused_by_the_name_of_the_difference(tmp_path: Path) -> None:
    def change(identity: dict[str, str]) -> None:
        identity["bench/dp/clipping.py"] = "another"

    with pytest.raises(UserError, match=r"here:0 is refused, because its bench/dp/clipping.py is another one"):
        results(OneWorker(change=change), tmp_path, *JOBS)
    assert not MEASURED


@pytest.mark.parametrize(
    ("worker_has", "words"),
    [
        ({"numpy": "1.0", "a.py": "x"}, "it has numpy 1.0, the client 1.26"),
        ({"numpy": "1.26"}, "only one of the two has a.py"),
        ({"numpy": "1.26", "a.py": "x", "b.py": "y"}, "only one of the two has b.py"),
        ({"numpy": "1.26", "a.py": "y"}, "its a.py is another one"),
        ({"numpy": "1.26", "a.py": "x"}, None),
    ],
)
def test_a_difference_has_a_name(worker_has: dict[str, str], words: str | None) -> None:
    assert worker.difference({"numpy": "1.26", "a.py": "x"}, worker_has) == words


def test_the_identity_holds_every_file_of_code_and_the_versions_that_decide_numbers() -> None:
    found = worker.identity()
    assert {"bench/runner/worker.py", "defenses/dp_vaegm.py", "attacks/lira.py", "numpy", "Python"} <= found.keys()


def test_a_lost_scheduler_is_one_sentence(tmp_path: Path) -> None:
    class Lost(OneWorker):
        def nthreads(self) -> dict[str, int]:
            if self.calls > 1:
                raise OSError("Timed out")
            return super().nthreads()

    with pytest.raises(UserError, match=r"the scheduler no longer answers.*repeat the command"):
        results(Lost(), tmp_path, *JOBS)
