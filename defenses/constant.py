"""The perfectly private and perfectly useless answer: the same for everyone."""

from __future__ import annotations

from bench.core.component import defense
from bench.core.dataset import Examples
from bench.core.release import Release
from bench.dp import accounting
from bench.models.classifier import uniform


@defense("constant", publishes={"predict"}, private=True, public_knowledge=("the set of labels",))
def constant(private: Examples, public: Examples, *, seed: int) -> Release:
    """Answers every query alike: every class equally likely, no private record read."""
    return Release(accounting.no_access(), predict=uniform(private.classes))
