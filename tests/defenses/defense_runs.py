"""Short runs of defenses for their tests."""

from __future__ import annotations

from typing import Any

from conftest import components, quick

from bench.core.dataset import Examples
from bench.core.release import Release


def train(name: str, private: Examples, public: Examples, **changed: Any) -> Release:
    component = components().defenses[name]
    release: Release = component.function(private, public, seed=0, **quick(component, **changed))
    return release
