"""What the controls of each attack found, kept with the results: results/controls/<attack>.json."""

from __future__ import annotations

from pathlib import Path

from bench.core.files import file_name
from bench.store.records import CONTROLS, ControlResult
from bench.store.store import Store


def path(store: Store, attack: str) -> Path:
    """Where the controls of an attack are or will be."""
    return store.root.joinpath(CONTROLS, f"{file_name(attack)}.json")


def save(store: Store, control: ControlResult) -> None:
    """Write what came out."""
    store.save(control)


def load(store: Store, attack: str) -> ControlResult | None:
    """The controls of an attack, or None where there are none or, with a Caveat, damaged ones."""
    return store.find(ControlResult, CONTROLS, f"{file_name(attack)}.json")


def read(store: Store, attack: str) -> ControlResult | None:
    """The controls of an attack, or None where there are none. Raises Damaged where they cannot be read."""
    try:
        return store.read(ControlResult, CONTROLS, f"{file_name(attack)}.json")
    except FileNotFoundError:
        return None
