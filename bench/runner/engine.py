"""Runs jobs one after the other in this process, or side by side on the workers of a Dask cluster.

A job trains once and measures one or more records. Whatever runs it gives the same messages, because a job's numbers
depend on its specification alone, and the client alone writes them down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from bench.runner import clusters
from bench.runner.group import Tools
from bench.runner.job import Job, Setup
from bench.runner.messages import Message, Name
from bench.runner.meter import Meter
from bench.runner.request import Workers
from bench.store.store import uncollected

STARTING = 8.0  # seconds that a worker takes to start, TensorFlow included


def results(
    jobs: Iterable[Job],
    setup: Setup,
    workers: Workers,
    meter: Meter,
    *,
    count: int,
    seconds: float | None = None,
    may_start: Callable[[Name], bool] = lambda name: True,
) -> Iterator[Message]:
    """The messages of all jobs, as they come.

    count: of the jobs, at most. seconds: what all take by estimate, None where nobody knows. may_start: whether there
    is time left for a record. Raises UserError where there is no worker to be had.
    """
    if inline(workers, count, seconds):
        tools = Tools(setup.where, setup.weights, setup.machine, setup.code, meter.inline, may_start)
        with uncollected():
            for job in jobs:
                yield from meter.counted(job.messages(tools))
        return
    from bench.runner.pool import Pool

    with clusters.connected(workers, count) as client:
        yield from meter.counted(Pool(client, setup, meter, local=workers.local).results(jobs, may_start))


def inline(workers: Workers, count: int, seconds: float | None) -> bool:
    """Whether jobs run in this process: where more workers would not end them sooner."""
    if not workers.local:
        return False
    return clusters.count(workers, count) < 2 or (seconds is not None and seconds < STARTING)


def longest_first(jobs: Sequence[Job], seconds: Callable[[Job], float | None]) -> list[Job]:
    """The order that ends soonest on several workers, nearly: the longest job first.

    Before them those of unknown length, the ones with the most records first.
    """
    known = {id(job): seconds(job) for job in jobs}
    return sorted(jobs, key=lambda job: (known[id(job)] is not None, -(known[id(job)] or 0.0), -len(job.names)))
