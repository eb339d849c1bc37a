"""What the engine runs: jobs, and what all jobs of a run share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench.runner.group import Tools
from bench.runner.messages import Message, Name

if TYPE_CHECKING:
    from bench.core.dataset import DataLocation
    from bench.dp.weights_cache import WeightsCache


class Job(Protocol):
    """A unit of work. kind: its name among `bench.runner.worker.JOBS`; label: what readers of the progress see."""

    kind: str

    @property
    def label(self) -> str: ...

    @property
    def names(self) -> tuple[Name, ...]:
        """Of the records that it measures."""
        ...

    def messages(self, tools: Tools, /) -> Iterator[Message]:
        """Do the work; each record as soon as it is measured."""
        ...

    def spec(self) -> dict[str, Any]:
        """What it works on, in values that JSON holds; its class makes it again by `from_spec`."""
        ...

    def without(self, done: frozenset[Name], /) -> Job | None:
        """What is left of it, None where that is nothing."""
        ...


@dataclass(frozen=True)
class Setup:
    """What all jobs of a run share.

    machine, code: of the records; plugins: files with more components; files: of the user's records, by name.
    """

    where: DataLocation
    weights: WeightsCache
    machine: str = ""
    code: str = ""
    plugins: Sequence[Path] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
