"""What a run is to measure, read from flags and a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.core.component import Choice
from bench.core.dataset import DataLocation


@dataclass(frozen=True)
class Grid:
    """Each of these defenses against each of these attacks, on each data set and seed."""

    defenses: tuple[Choice, ...]
    attacks: tuple[Choice, ...]
    data: tuple[Choice, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Workers:
    """The processes that measure: on this machine, of a Dask scheduler that runs already, or as jobs of a cluster.

    count: None for one per core, or per GPU, and at most one per job. scheduler: its address. cluster: the kind of
    job queue, a key of `bench.runner.job_clusters.OPTIONS`; cluster_options: names of its options with their values.
    """

    count: int | None = None
    scheduler: str | None = None
    cluster: str | None = None
    cluster_options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Request:
    """What `bench run` is to measure. reuse_committed: cells that another machine measured count as done.

    budget: seconds, None for no limit.
    """

    grids: tuple[Grid, ...]
    results: Path
    where: DataLocation
    reuse_committed: bool = False
    budget: float | None = None
    workers: Workers = Workers()
