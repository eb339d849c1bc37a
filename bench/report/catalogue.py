"""What there is to choose from: lists of it, and a page on each component and game."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bench.core.component import Choice, Component, OptionValue, text
from bench.core.game import Game
from bench.core.text import one_line
from bench.data.card import card, prose
from bench.runner.registry import Registry
from bench.runner.selection import describe, documented

NARROW = 100  # columns below which a table would fold single letters
Rows = Sequence[Sequence[str]]


def show(registry: Registry, parts: Sequence[str], console: Console | None = None) -> None:
    """Print these parts (defenses, attacks, games, data, figures), then what could not be loaded.

    As tables on a wide terminal, else as plain lines.
    """
    console = console or Console(highlight=False, soft_wrap=True)
    for part in parts:
        columns, rows = _part(registry, part)
        if console.is_terminal and console.width >= NARROW:
            table = Table(title=part, title_justify="left", show_lines=True)
            for column in columns:
                table.add_column(column, overflow="fold")
            for row in rows:
                table.add_row(*map(one_line, row))
            console.print(table, markup=False, soft_wrap=False)
        else:
            _plain(console, part, columns, rows)
    for line in registry.broken:
        _print(console, f"broken: {line}")


def show_component(choice: Choice, console: Console | None = None) -> None:
    """Print a page on one component: what it is, what it takes and gives, and each option."""
    console = console or Console(highlight=False, soft_wrap=True)
    component = choice.component
    _head(console, f"{choice.name}: {component.summary}", prose(component))
    for field, value in _facts(component):
        _print(console, f"  {field}: {value}")
    declared = documented(component)
    _print(console, "  Options:" if component.options else "  Options: none")
    for name, default in component.options.items():
        option = declared.get(name)
        limits = (option.limits if option else "") or _values(default)
        meaning = option.meaning if option else "not documented"
        _print(console, f"    {name}={text(default)}: {meaning} ({limits})")


def show_game(registry: Registry, game: Game, console: Console | None = None) -> None:
    """Print a page on one game: what it asks, of which data, about whose records, and its attacks."""
    console = console or Console(highlight=False, soft_wrap=True)
    _head(console, f"{game.name}: {game.summary}", "")
    _print(console, f"  Needs data with: {', '.join(sorted(game.requires)) or 'nothing in particular'}")
    _print(console, f"  Asks about records of: {', '.join(game.challenges)}")
    if game.options:
        _print(console, f"  Option of each attack: of={game.options['of']} selects whose records")
    _print(console, f"  Reference attack: {game.reference_attack or 'none'}")
    _print(console, "  Attacks:")
    for name, attack in sorted(registry.attacks.items()):
        if attack.game == game:
            needs = ", ".join(sorted(attack.needs))
            _print(console, f"    {name}: {attack.summary} Needs {needs}.")


def _print(console: Console, line: str) -> None:
    """Print one line, indented as it is; what a terminal would obey is escaped."""
    text = line.lstrip(" ")
    console.print(" " * (len(line) - len(text)) + one_line(text), markup=False)


def _head(console: Console, title: str, more: str) -> None:
    _print(console, title)
    if more:
        for line in ("", *more.splitlines(), ""):
            _print(console, line)


def _facts(component: Component) -> list[tuple[str, str]]:
    """What is declared of a component beside its options."""
    if component.kind == "data":
        facts = [(field, value or "none stated") for field, value in card(component).items()]
        return [*facts, ("Has", ", ".join(sorted(component.has)) or "features")]
    background = " ".join((sys.modules[component.function.__module__].__doc__ or "none stated").split())
    if component.kind == "attack":
        required = "at least" if component.required_score is not None else "more than chance"
        required += f" {component.required_score:g}" if component.required_score is not None else ""
        return [
            ("Background", background),
            ("Game", component.game.name if component.game else "none"),
            ("Needs", ", ".join(sorted(component.needs)) or "nothing"),
            ("Score required against an undefended model", required),
        ]
    return [
        ("Background", background),
        ("Publishes", ", ".join(sorted(component.publishes)) or "nothing"),
        ("Claims privacy", "yes" if component.private else "no"),
        ("Undefended, the reference of others", "yes" if component.undefended else "no"),
        ("Takes for public", ", ".join(component.public_knowledge) or "nothing"),
    ]


def _values(default: OptionValue) -> str:
    """The values that an option takes by the type of its default."""
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    return kinds.get(type(default), "whole numbers as in 64x32")


def _part(registry: Registry, part: str) -> tuple[Sequence[str], Rows]:
    if part == "games":
        attacks = registry.attacks.items()
        by_game = {
            game: [name for name, attack in attacks if attack.game == one] for game, one in registry.games.items()
        }
        rows = [(name, game.summary, ", ".join(by_game[name])) for name, game in sorted(registry.games.items())]
        return ("name", "what it asks", "attacks"), rows
    if part == "figures":
        from bench.report.figures import FIGURES

        return ("name", "what it shows"), [(plan.name, plan.summary) for plan in FIGURES.values()]
    found = {"defenses": registry.defenses, "attacks": registry.attacks, "data": registry.data}[part]
    columns = {"defenses": ["publishes", "takes for public"], "attacks": ["game", "needs"], "data": []}[part]
    table = []
    for name, one in sorted(found.items()):
        access = {
            "defenses": [", ".join(sorted(one.publishes)), ", ".join(one.public_knowledge)],
            "attacks": [one.game.name if one.game else "", ", ".join(sorted(one.needs))],
            "data": [],
        }[part]
        table.append([name, one.summary, *access, describe(one)])
    return ("name", "what it is", *columns, "options"), table


def _plain(console: Console, part: str, columns: Sequence[str], rows: Rows) -> None:
    _print(console, part)
    for name, summary, *rest in rows:
        _print(console, f"  {name}: {summary}")
        for column, value in zip(columns[2:], rest, strict=True):
            _print(console, f"    {column}: {value or 'none'}")
