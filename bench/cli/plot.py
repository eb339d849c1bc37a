"""`bench plot`: draws privacy against utility, and ROC curves."""

from __future__ import annotations

import argparse

from bench.cli.options import Commands, add_stored, load_registry, new_parser, open_store


def add(commands: Commands) -> argparse.ArgumentParser:
    """The parser of `plot`."""
    parser = new_parser(commands, "plot", execute, "draw privacy against utility, and ROC curves")
    add_stored(parser)
    return parser


def execute(arguments: argparse.Namespace) -> int:
    """Draw, and print the paths."""
    registry = load_registry(arguments.plugin)

    from bench.report import plots
    from bench.store.freshness import freshness

    for path in plots.draw(open_store(arguments.results), freshness(registry.find)):
        print(path)
    return 0
