"""What there is to choose from: tables on a terminal, plain lines in a pipe or a narrow window."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bench.core.component import Component
from bench.data.card import card
from bench.runner.registry import Registry
from bench.runner.selection import describe

NARROW = 100  # columns below which a table would fold single letters
Rows = Sequence[Sequence[str]]


def show(registry: Registry, parts: Sequence[str], console: Console | None = None) -> None:
    """Print the parts asked for (defenses, attacks, games, data, figures), then what could not be loaded."""
    console = console or Console(highlight=False, soft_wrap=True)
    for part in parts:
        columns, rows = _part(registry, part)
        if console.is_terminal and console.width >= NARROW:
            table = Table(title=part, title_justify="left", show_lines=True)
            for column in columns:
                table.add_column(column, overflow="fold")
            for row in rows:
                table.add_row(*row)
            console.print(table, markup=False, soft_wrap=False)
        else:
            _plain(console, part, columns, rows)
    for line in registry.broken:
        console.print(f"broken: {line}", markup=False)


def show_card(name: str, component: Component, console: Console | None = None) -> None:
    """Print all that is known of one data set: what it is, its card and its options."""
    console = console or Console(highlight=False, soft_wrap=True)
    console.print(f"{name}: {component.summary}", markup=False)
    for field, words in (*card(component).items(), ("Options", describe(component))):
        console.print(f"  {field}: {words or 'none stated'}", markup=False)


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
    console.print(part, markup=False)
    for name, summary, *rest in rows:
        console.print(f"  {name}: {summary}", markup=False)
        for column, value in zip(columns[2:], rest, strict=True):
            console.print(f"    {column}: {value or 'none'}", markup=False)
