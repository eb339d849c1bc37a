"""Starts the processes that measure, or finds those that run already; ends what it started, whatever happens."""

from __future__ import annotations

import logging
import multiprocessing
import os
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.core.errors import UserError, warn_user
from bench.runner import gpus, job_clusters, signals

if TYPE_CHECKING:
    from distributed import Client
    from distributed.deploy import SpecCluster

    from bench.runner.request import Workers

PRELOAD = "bench.runner.worker_setup"
CONNECTING = 10.0  # seconds
ENDING = 4.0  # seconds: then the process that waits goes on, and what it leaves ends with it
LOST = 60.0  # seconds after which a worker that ended, and was not started again, is given up
REPLACING = 15.0  # seconds between two looks whether another must take its place
SILENT = ("distributed", "tornado", "tornado.application", "asyncio", "dask_jobqueue")


def check(workers: Workers) -> None:
    """Raise UserError where the flags contradict each other or name what is not there. Starts nothing."""
    if workers.count is not None and workers.count < 1:
        raise UserError(f"--workers is a whole number from 1, not {workers.count}.")
    if workers.scheduler is not None:
        if workers.cluster is not None:
            raise UserError("give --scheduler or --cluster, not both: a scheduler has its workers already.")
        if workers.count is not None:
            raise UserError("give --scheduler or --workers, not both: a scheduler has its workers already.")
        kind, _, rest = workers.scheduler.partition("://")
        host, _, port = rest.rpartition(":")
        if kind not in ("tcp", "tls") or not host or not port.isdecimal():
            raise UserError(f"--scheduler is an address as in tcp://HOST:8786, not {workers.scheduler!r}.")
    if workers.cluster is not None:
        job_clusters.options(workers)
    elif workers.cluster_options:
        raise UserError("--cluster-option needs --cluster, the kind of cluster that takes it.")
    elif workers.count is not None and (devices := gpus.available()) and workers.count > len(devices):
        raise UserError(
            f"each worker takes one GPU, and {len(devices)} are visible: lower --workers, or set CUDA_VISIBLE_DEVICES "
            "to nothing, which leaves the work to the cores."
        )


def job_script(workers: Workers, preload: str | None = PRELOAD) -> str:
    """The script of a job that starts workers. Raises UserError where they are none of a cluster."""
    if workers.cluster is None:
        raise UserError("--dry-run prints the script of a job: say with --cluster of which kind of cluster.")
    return job_clusters.job_script(workers, preload)


def count(workers: Workers, jobs: int) -> int:
    """The number of processes to start for so many jobs: by default one per GPU, or else per core that we may use."""
    ours = 1 if workers.cluster else _stated() or len(gpus.available()) or len(os.sched_getaffinity(0))
    return max(1, min(workers.count or ours, jobs))


def _stated() -> int | None:
    """The number in $BENCH_WORKERS, if there is one. Raises UserError where that is no number from 1."""
    stated = os.environ.get("BENCH_WORKERS", "")
    if stated and (not stated.isdecimal() or int(stated) < 1):
        raise UserError(f"BENCH_WORKERS is a whole number from 1, not {stated!r}: correct the variable or unset it.")
    return int(stated) if stated else None


@contextmanager
def connected(workers: Workers, jobs: int, preload: str | None = PRELOAD) -> Iterator[Client]:
    """A client of as many workers as there are jobs for; all that was started ends with the block, killed if it must.

    preload: the module whose `dask_setup` each new worker runs first. Jobs of a cluster may start late: the client then
    has no worker yet. Raises UserError where a scheduler cannot be reached or no worker can be started.
    """
    check(workers)
    with _silent():
        if workers.scheduler is not None:
            client = _reached(workers.scheduler)
            try:
                yield client
            finally:
                with suppress(Exception):
                    client.close(timeout=1)
        else:
            with signals.ending_by_signal(), _started(workers, count(workers, jobs), preload) as client:
                yield client


def _reached(scheduler: str) -> Client:
    """A client of a scheduler that runs already. Raises UserError where it does not answer."""
    from distributed import Client

    try:
        return Client(scheduler, timeout=CONNECTING, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(
            f"the scheduler {scheduler} cannot be reached: start it (`dask scheduler`) or correct --scheduler."
        ) from error


@contextmanager
def _started(workers: Workers, number: int, preload: str | None) -> Iterator[Client]:
    """A client of new workers, which end with the block."""
    import dask
    from distributed import Client
    from distributed.utils import LoopRunner

    environment, others = dict(os.environ), set(multiprocessing.active_children())
    runner = LoopRunner()
    with (
        tempfile.TemporaryDirectory(prefix="bench-workers-", ignore_cleanup_errors=True) as folder,
        dask.config.set({"temporary-directory": folder, "distributed.deploy.lost-worker-timeout": f"{LOST}s"}),
    ):
        ending: list[Callable[[], None]] = []
        try:
            with signals.interrupts_blocked():  # processes inherit this: Ctrl-C reaches us alone, and we end them
                runner.start()
            ending.append(runner.stop)
            cluster = _cluster(workers, runner.loop, number, preload)
            ending.insert(0, partial(_end, cluster, others))
            try:
                cluster.sync(_complete, cluster)
            except (OSError, RuntimeError, ValueError) as error:
                _go_on_with_others(cluster, error)
            client = Client(cluster, timeout=CONNECTING, set_as_default=False)
            ending.insert(0, partial(client.close, timeout=1))
            ending.insert(0, _replacing(cluster, number))
            yield client
        finally:
            with signals.interrupts_delayed():
                for end in ending:
                    with suppress(Exception):
                        end()
                os.environ.clear()  # distributed sets what its workers inherit in our own environment
                os.environ.update(environment)


async def _complete(cluster: SpecCluster) -> None:
    """Wait until all processes run, or all jobs are submitted. Raises what the first that failed raised."""
    await cluster


def _go_on_with_others(cluster: SpecCluster, error: Exception) -> None:
    """Say why a worker did not start, where others did. Raises UserError where none did."""
    from distributed.core import Status

    why = " ".join(str(error).split())
    up = [worker for worker in cluster.workers.values() if worker.status == Status.running]
    if not up:
        raise UserError(f"no worker could be started: {why}") from error
    warn_user(f"note: {len(cluster.worker_spec) - len(up)} of {len(cluster.worker_spec)} workers did not start: {why}")


def _cluster(workers: Workers, loop: Any, number: int, preload: str | None) -> SpecCluster:
    """A cluster, its scheduler in this process; its workers are specified, but not yet started."""
    from distributed import Nanny, Scheduler
    from distributed.deploy import SpecCluster

    quiet = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}  # it serves a page even so: to this machine alone
    if workers.cluster:
        jobs = job_clusters.cluster(workers, loop, preload, quiet)
        for _ in range(-(-number // job_clusters.settings(workers, preload)["processes"])):
            jobs.worker_spec.update(jobs.new_worker_spec())
        return jobs
    here = {"host": "127.0.0.1", "protocol": "tcp://", **quiet}
    cluster = SpecCluster(scheduler={"cls": Scheduler, "options": {"port": 0, **here}}, loop=loop)
    devices = gpus.available()
    for name in range(number):
        options = {
            "nthreads": 1,
            "memory_limit": 0,  # a worker near a limit would pause, and its group never end
            "preload": [preload] if preload else [],
            "silence_logs": logging.CRITICAL,
            **here,
        }
        if devices:
            options |= {"resources": {"GPU": 1}, "env": {"CUDA_VISIBLE_DEVICES": devices[name]}}
        cluster.worker_spec[name] = {"cls": Nanny, "options": options}
    return cluster


def _replacing(cluster: SpecCluster, number: int) -> Callable[[], None]:
    """Until what this returns, start another process or job in place of each that is lost: killed, or out of time."""
    from distributed.core import Status

    stopped = threading.Event()

    def replace() -> None:
        """In the loop of the cluster, which keeps what failed to start: there it would hold the place for good."""
        for name, process in [*cluster.workers.items()]:
            if process.status in (Status.failed, Status.closed):
                del cluster.workers[name]
        cluster.scale(number)

    def again() -> None:
        while not stopped.wait(REPLACING):
            cluster.loop.add_callback(replace)

    threading.Thread(target=again, daemon=True).start()
    return stopped.set


def _end(cluster: SpecCluster, others: set[Any]) -> None:
    """Cancel the jobs and kill the processes of a cluster: a step of TensorFlow does not listen to a polite request."""

    def close() -> None:
        with suppress(Exception):
            cluster.close(timeout=ENDING)

    cluster.shutdown_on_close = False  # or distributed tries again at our exit what fails here, for 10 s
    closing = threading.Thread(target=close, daemon=True)
    closing.start()
    end = time.monotonic() + ENDING
    while closing.is_alive() and time.monotonic() < end:
        _kill(others)
        closing.join(0.05)
    _kill(others)


def _kill(others: set[Any]) -> None:
    """Kill the processes that we started since `others` ran, those included that took the place of killed ones."""
    for process in set(multiprocessing.active_children()) - others:
        process.kill()
        process.join(1)


@contextmanager
def _silent() -> Iterator[None]:
    """Without the messages of distributed, whose tracebacks tell a user nothing: the engine says what happened."""
    import distributed  # noqa: F401 - it sets the levels of its loggers

    known = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "distributed"]
    loggers = [logging.getLogger(name) for name in dict.fromkeys((*SILENT, *known))]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(distributed|dask|dask_jobqueue|tornado)(\.|$)")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
