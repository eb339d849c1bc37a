"""`bench why`: what changed since a cell was measured."""

from __future__ import annotations

import argparse

from bench.cli.options import Commands, add_stored, load_registry, new_parser, open_store


def add(commands: Commands) -> argparse.ArgumentParser:
    """The parser of `why`."""
    parser = new_parser(commands, "why", execute, "show what changed since a cell was measured")
    add_stored(parser)
    cell = "data/defense/attack/seed or the path of its file (default: all of them, counted by cause)"
    parser.add_argument("cell", nargs="?", metavar="CELL", help=cell)
    return parser


def execute(arguments: argparse.Namespace) -> int:
    """Print the causes."""
    registry = load_registry(arguments.plugin)

    from bench.store import staleness

    store = open_store(arguments.results)
    if arguments.cell in (None, "all"):
        lines = staleness.summary(store, registry.find)
    else:
        lines = staleness.explain(store, staleness.find(store, arguments.cell), registry.find, store.known_machine)
    print("\n".join(lines))
    return 0
