"""`bench table`: prints and writes the leaderboard."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from bench.cli.options import Commands, add_stored, load_registry, new_parser, open_store
from bench.core.errors import warn_user

if TYPE_CHECKING:
    from bench.report.leaderboard import Place
    from bench.runner.registry import Registry
    from bench.store.store import Key, Store


def add(commands: Commands) -> argparse.ArgumentParser:
    """The parser of `table`."""
    parser = new_parser(commands, "table", execute, "print and write the leaderboard")
    add_stored(parser)
    return parser


def execute(arguments: argparse.Namespace) -> int:
    """Print the leaderboard; 3 where it shows a refuted claim."""
    registry = load_registry(arguments.plugin)
    for line in registry.broken:
        warn_user(f"note: {line}")
    return 3 if publish(open_store(arguments.results), registry, {}) else 0


def publish(
    store: Store,
    registry: Registry,
    failed: Mapping[Key, str],
    wanted: Collection[Place] | None = None,
) -> bool:
    """Write the leaderboard of all that is stored, print the wanted sections, by default all; see `report.publish`."""
    from bench.lint import verdicts
    from bench.report import publish as report
    from bench.runner import controls

    control = functools.partial(controls.caveat, store, registry)
    return report.publish(store, registry, failed, control, functools.partial(verdicts.caveat, store, registry), wanted)
