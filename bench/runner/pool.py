"""The workers of a run on a Dask cluster: each runs one job at a time, and is asked for one message after the other.

The client pins each call to a worker, so that it knows what is lost with one that vanishes. Dask moves calls, starts
and watches processes; what is run where, and again, is decided here.
"""

from __future__ import annotations

import contextlib
import json
import queue
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bench.core.errors import UserError, warn_user
from bench.runner import worker
from bench.runner.messages import Failed, Message, Name, done, unpack

if TYPE_CHECKING:
    from bench.runner.job import Job, Setup
    from bench.runner.meter import Meter

TRIES = 3  # of a job whose worker is killed
POLL = 0.25  # seconds between two looks at which workers are there
GATHER = 30.0  # seconds for one message to arrive


def _only(message: Message, job: Job) -> Message:
    """The message; of a failure only what was not reported before."""
    if not isinstance(message, Failed):
        return message
    return replace(message, names=tuple(name for name in message.names if name in job.names))


@dataclass
class _Task:
    """A job on a worker, or (job None) its preparation. future: of the message that is awaited."""

    job: Job | None
    key: str
    tries: int
    future: Any = None


class Pool:
    """Hands jobs to the workers of a cluster. local: they run on this machine and may use its folders."""

    def __init__(self, client: Any, setup: Setup, meter: Meter, *, local: bool) -> None:
        self._client, self._meter = client, meter
        self._run = secrets.token_hex(8)
        self._identity = worker.identity()
        self._plugins = {f"plugins/{i}/{path.name}": path.read_bytes() for i, path in enumerate(setup.plugins)}
        self._files = dict(setup.files)
        folder = setup.where.data_dir
        self._settings = json.dumps(
            {
                "machine": setup.machine,
                "code": setup.code,
                "offline": setup.where.offline,
                "weights": str(setup.weights.folder.resolve()) if local else None,
                "data": str(folder.resolve()) if folder and local else None,
            }
        )
        self._tasks: dict[str, _Task] = {}  # by the address of the worker
        self._ready: set[str] = set()
        self._refused: dict[str, str] = {}
        self._events: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._again: deque[tuple[Job, int]] = deque()

    def results(self, jobs: Iterable[Job], may_start: Callable[[Name], bool]) -> Iterator[Message]:
        """The messages of all jobs, as they come.

        A job whose worker is lost is tried again with what is left of it. Raises UserError where the scheduler is
        lost, or every worker runs other code.
        """
        topic = f"{worker.PROGRESS}-{self._run}"
        self._client.subscribe_topic(topic, lambda event: self._meter.worker(event[1]["worker"], event[1]["what"]))
        source = iter(jobs)
        try:
            while True:
                yield from self._losses()
                exhausted = self._hand_out(source)
                if exhausted and not any(task.job for task in self._tasks.values()):
                    return
                self._meter.show(waiting=not self._ready)
                yield from self._arrivals(may_start)
        except OSError as error:  # distributed's errors of a lost connection are OSErrors
            raise UserError(
                f"the scheduler no longer answers ({type(error).__name__}): start it again and repeat the command, "
                "which goes on from what is stored."
            ) from error

    def _addresses(self) -> set[str]:
        try:
            return set(self._client.nthreads())
        except TimeoutError as error:
            raise OSError(str(error)) from error

    def _losses(self) -> Iterator[Failed]:
        """Take back the jobs of workers that are gone."""
        there = self._addresses()
        for address in [address for address in self._tasks if address not in there]:
            yield from self._lost(address)
        self._ready &= there
        for address in there - self._ready - self._refused.keys() - self._tasks.keys():
            self._prepare(address)

    def _lost(self, address: str) -> Iterator[Failed]:
        task = self._tasks.pop(address)
        self._ready.discard(address)
        self._meter.worker(address, None)
        if task.future:
            with contextlib.suppress(Exception):
                task.future.cancel()
        if task.job and task.tries < TRIES:
            self._again.append((task.job, task.tries))
        elif task.job:
            reason = f"its worker was killed {TRIES} times: run it with fewer workers, where each has more memory"
            yield Failed(task.job.names, reason)

    def _prepare(self, address: str) -> None:
        self._tasks[address] = _Task(None, secrets.token_hex(8), 0)
        self._call(address, worker.prepare, self._run, self._settings, self._plugins, self._files)

    def _call(self, address: str, function: Callable[..., Any], *arguments: Any) -> None:
        """Start a call on a worker; its end is an event."""
        future = self._client.submit(
            function, *arguments, workers=[address], pure=False, key=f"bench-{secrets.token_hex(8)}"
        )
        self._tasks[address].future = future
        future.add_done_callback(lambda _: self._events.put(address))

    def _hand_out(self, source: Iterator[Job]) -> bool:
        """Give each idle worker a job; whether there is none left to give."""
        idle = sorted(self._ready - self._tasks.keys())
        while idle:
            job, tries = self._again.popleft() if self._again else (next(source, None), 0)
            if job is None:
                return True
            address, key = idle.pop(0), secrets.token_hex(8)
            self._tasks[address] = _Task(job, key, tries + 1)
            spec = json.dumps({"kind": job.kind, "spec": job.spec(), "names": job.names}, allow_nan=False)
            self._meter.worker(address, job.label)
            self._call(address, worker.advance, self._run, key, spec, "[]")
        return False

    def _arrivals(self, may_start: Callable[[Name], bool]) -> Iterator[Message]:
        """The messages that have arrived, after waiting for one a little."""
        with contextlib.suppress(queue.Empty):
            address = self._events.get(timeout=POLL)
            while True:
                yield from self._arrived(address, may_start)
                address = self._events.get_nowait()

    def _arrived(self, address: str, may_start: Callable[[Name], bool]) -> Iterator[Message]:
        task = self._tasks.get(address)
        if task is None or task.future is None or not task.future.done():
            return  # of a worker that is gone
        try:
            wire = task.future.result(timeout=GATHER)
        except UserError as error:
            raise UserError(f"the worker {address} cannot start: {error}") from error
        except ModuleNotFoundError as error:
            self._refuse(address, f"it has no module {error.name}: install the same version there")
            return
        except Exception as error:  # noqa: BLE001 - Dask raises what it will for a worker that was killed
            if task.job is None and address in self._addresses():
                self._refuse(address, f"it failed to start ({type(error).__name__}: {error})")
            else:
                yield from self._lost(address)
            return
        if task.job is None:
            self._prepared(address, json.loads(wire))
        elif wire is None:
            del self._tasks[address]
            self._meter.worker(address, "")
        else:
            message = _only(unpack(wire), task.job)
            yield message
            self._go_on(address, task, message, may_start)

    def _go_on(self, address: str, task: _Task, message: Message, may_start: Callable[[Name], bool]) -> None:
        """Ask for the next message of a job. What has arrived is not measured again, whatever happens to the worker."""
        assert task.job
        left = task.job.without(frozenset(done(message)))
        if left is None:
            del self._tasks[address]
            self._meter.worker(address, "")
            return
        task.job = left
        out = [name for name in left.names if not may_start(name)]
        self._call(address, worker.advance, self._run, task.key, None, json.dumps(out))

    def _prepared(self, address: str, identity: dict[str, str]) -> None:
        del self._tasks[address]
        if why := worker.difference(self._identity, identity):
            self._refuse(address, f"{why}: install the same version there")
        else:
            self._ready.add(address)
            self._meter.worker(address, "")

    def _refuse(self, address: str, why: str) -> None:
        self._tasks.pop(address, None)
        self._refused[address] = why
        sentence = f"the worker {address} is refused, because {why}."
        if not self._ready and not self._tasks and self._addresses() <= self._refused.keys():
            raise UserError(sentence)
        warn_user(sentence)
