"""`bench controls`: plays attacks on an undefended model, and where there is nothing to find."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.cli.options import (
    Commands,
    add_attack,
    add_data_dir,
    add_stored,
    data_dir,
    flags,
    load_registry,
    new_parser,
)
from bench.cli.worker_options import add_workers, workers


def add(commands: Commands) -> argparse.ArgumentParser:
    """The parser of `controls`."""
    purpose = "play attacks on an undefended model, and where there is nothing to find"
    parser = new_parser(commands, "controls", execute, purpose)
    add_stored(parser)
    add_data_dir(parser)
    add_attack(parser)
    add_workers(parser)
    return parser


def execute(arguments: argparse.Namespace) -> int:
    """Play, store and print the controls; 1 where an attack fails one."""
    processes = workers(flags(arguments))
    registry = load_registry(arguments.plugin)

    from bench.core.dataset import DataLocation
    from bench.core.progress import Progress
    from bench.runner import control_job, selection
    from bench.store.store import Store

    store = Store(Path(arguments.results))
    attacks = selection.distinct(selection.choose_all(registry, "attack", arguments.attack or []))
    with Progress() as progress:
        found = control_job.run(
            attacks, registry, store, DataLocation(data_dir(arguments.data_dir)), progress, processes
        )
    for control in found:
        print(control)
    return 1 if any(control.red for control in found) else 0
