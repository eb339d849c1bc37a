"""The job of one audit, as the engine runs it (`bench.runner.job.Job`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.data import user_file
from bench.runner.messages import Finished, Message, Name, failed
from bench.runner.selection import choose, choose_data
from bench.store.records import AuditedRow

if TYPE_CHECKING:
    from pathlib import Path

    from bench.core.component import Choice
    from bench.runner.group import Tools
    from bench.runner.registry import Registry


@dataclass(frozen=True)
class Audit:
    """A row to audit. of: one of `bench.store.records.AUDIT_KINDS`."""

    defense: Choice
    data: Choice
    of: str
    trials: int
    kind = "audit"

    @property
    def label(self) -> str:
        """What readers of the progress see."""
        return f"audit of {self.defense.label} on {self.data.label}"

    @property
    def names(self) -> tuple[Name, ...]:
        """Of what it measures."""
        return ((self.defense.label, self.data.label),)

    def without(self, done: frozenset[Name]) -> Audit | None:
        """What is left of it, None where that is nothing."""
        return None if self.names[0] in done else self

    def spec(self) -> dict[str, Any]:
        """The audit, as `from_spec` reads it."""
        row = {"defense": self.defense.label, "data": self.data.label, "file": user_file.sent_name(self.data)}
        return {**row, "of": self.of, "trials": self.trials}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], registry: Registry, folder: Path) -> Audit:
        """The job of a specification; folder: where the files of the user's records were written."""
        [defense] = choose(registry, "defense", spec["defense"])
        return cls(defense, choose_data(registry, spec["data"], spec["file"], folder), spec["of"], spec["trials"])

    def messages(self, tools: Tools) -> Iterator[Message]:
        """Audit the row; an error is reported as such."""
        from bench.audit import audit

        def on_progress(what: str, done: int, total: int) -> None:
            tools.on_progress(f"{self.label}: {what}, {done} of {total}")

        try:
            finding = audit.audit(self.defense, self.data, self.of, self.trials, tools.where, on_progress)
            yield Finished(self.names[0], AuditedRow(self.defense.label, self.data.label, {self.of: finding}))
        except Exception as error:  # noqa: BLE001 - a defense that fails must not stop the other rows
            yield failed(self.names, "the audit failed", error)
