"""`bench release`: trains a defense once, with noise that cannot be repeated, and writes what it publishes."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.cli.options import Commands, add_locations, add_rows, load_registry, new_parser, request, settings


def add(commands: Commands) -> argparse.ArgumentParser:
    """The parser of `release`."""
    parser = new_parser(
        commands, "release", execute, "train a defense once, with noise from the system, and write what it publishes",
        "Train each selected defense once, with unrepeatable noise from the operating system, and write what "
        "it publishes: synthetic records, weights, and a card that says what they promise. Exit code 3: the linter "
        "found something, and that defense is not released.",
    )  # fmt: skip
    parser.add_argument("--into", metavar="DIR", default="release", help="folder of the releases (default: release)")
    add_rows(parser)
    add_locations(parser, results=False)
    return parser


def execute(arguments: argparse.Namespace) -> int:
    """Plan all releases, then make them."""
    shared, parts = settings(arguments)

    from bench.core.progress import Progress
    from bench.lint.linter import lint
    from bench.runner import release

    release.check_settings(parts)
    registry = load_registry(shared["plugin"])
    requested = request(registry, shared, parts)
    planned = release.plan(requested.grids, Path(arguments.into))
    with Progress() as progress:
        return release.run(planned, requested.where, progress, lint)
