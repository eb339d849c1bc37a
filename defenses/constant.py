"""The perfectly private and perfectly useless answer: the same for everyone."""

from __future__ import annotations

from bench import accounting
from bench.classifier import uniform
from bench.data import Examples
from bench.registry import defense
from bench.release import Release


@defense("constant", publishes={"predict"}, private=True, assumes=("the set of labels",))
def constant(private: Examples, public: Examples, *, seed: int) -> Release:
    """Says the same to everyone: every class equally likely, no private record read."""
    return Release(accounting.no_access(), predict=uniform(private.classes))
