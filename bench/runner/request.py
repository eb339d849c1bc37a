"""What a run is asked for, after every word of it was read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.core.component import Choice
from bench.core.dataset import Where


@dataclass(frozen=True)
class Grid:
    """Every one of these defenses against every one of these attacks, on each data set and seed."""

    defenses: tuple[Choice, ...]
    attacks: tuple[Choice, ...]
    data: tuple[Choice, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Request:
    """What `bench run` was asked for."""

    grids: tuple[Grid, ...]
    results: Path
    where: Where
    accept_published: bool = False
    budget: float | None = None  # seconds
