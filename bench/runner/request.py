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
    """The processes that measure.

    count: how many, by default one for each core that the process may use. scheduler: the address of a Dask cluster
    that runs already; cluster: the kind of batch system that starts them as jobs, with its options.
    """

    count: int | None = None
    scheduler: str | None = None
    cluster: str | None = None
    cluster_options: tuple[tuple[str, str], ...] = ()

    @property
    def local(self) -> bool:
        """Whether they are processes of this machine, started for this run."""
        return self.scheduler is None and self.cluster is None


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
