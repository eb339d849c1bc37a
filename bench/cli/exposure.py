"""`bench exposure`: which private records attacks find, and under which defenses."""

from __future__ import annotations

import argparse

from bench.cli.options import Commands, add_stored, load_registry, new_parser, open_store


def add(commands: Commands) -> argparse.ArgumentParser:
    """The parser of `exposure`."""
    parser = new_parser(commands, "exposure", execute, "show which private records are found, under which defenses")
    add_stored(parser)
    parser.add_argument("--fpr", type=float, default=0.01, help="the false positive rate allowed (default: 0.01)")
    return parser


def execute(arguments: argparse.Namespace) -> int:
    """Write and print the page."""
    registry = load_registry(arguments.plugin)

    from bench.report import exposure
    from bench.store.freshness import freshness

    store, fresh = open_store(arguments.results), freshness(registry.find)
    paths, _ = exposure.export(store, filter(fresh, store.results()), arguments.fpr)
    print(paths[-1].read_text(), *paths, sep="\n")
    return 0
