"""`bench list`: what there is to choose from, and a page on each component and game."""

from __future__ import annotations

import argparse

from bench.cli import completion
from bench.cli.options import Commands, add_plugin, load_registry, new_parser
from bench.core.errors import UserError, suggest

PARTS = ("defenses", "attacks", "games", "data", "figures")


def add(commands: Commands) -> argparse.ArgumentParser:
    """The parser of `list`."""
    parser = new_parser(commands, "list", execute, "show what there is to choose from, or a page on one of it")
    part = parser.add_argument("part", nargs="?", metavar="PART", help=f"{', '.join(PARTS)} (default: all of them)")
    completion.attach(part, completion.fixed(*PARTS))
    name = parser.add_argument("name", nargs="?", metavar="NAME", help="show all that is known of this one")
    completion.attach(name, completion.listed)
    add_plugin(parser)
    return parser


def execute(arguments: argparse.Namespace) -> int:
    """Print the lists, or one page."""
    part, name = arguments.part, arguments.name
    if part is not None and part not in PARTS:
        raise UserError(f"there is no list of {part!r}: {suggest(part, PARTS)}")
    if name is not None and part == "figures":
        raise UserError(f"figures have no page of their own: leave {name!r} out.")
    registry = load_registry(arguments.plugin)

    from bench.report import catalogue
    from bench.runner import selection

    if name is None:
        catalogue.show(registry, [part] if part else PARTS)
    elif part == "games":
        if name not in registry.games:
            raise UserError(f"there is no game {name!r}: {suggest(name, registry.games)}")
        catalogue.show_game(registry, registry.games[name])
    else:
        for choice in selection.choose(registry, completion.KINDS[part], name):
            catalogue.show_component(choice)
    return 0
