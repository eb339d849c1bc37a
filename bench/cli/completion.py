"""Shell completion (argcomplete) of component names, their options, and the values of these.

For each press of the key the shell runs the program with `_ARGCOMPLETE` set; only then is anything heavy imported.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.core.component import Component, Kind
    from bench.core.game import Game
    from bench.runner.registry import Registry

Completer = Callable[..., Mapping[str, str]]  # completions with what zsh and fish show beside them
KINDS: dict[str, Kind] = {"defenses": "defense", "attacks": "attack", "data": "data"}


def attach(action: argparse.Action, completer: Completer) -> None:
    """Have argcomplete ask `completer` for the values of an argument."""
    setattr(action, "completer", completer)  # noqa: B010 - argparse declares no such attribute


def answer(parser: argparse.ArgumentParser) -> None:
    """Write the completions of the command line that the shell describes in the environment, and exit."""
    import argcomplete

    argcomplete.autocomplete(parser, always_complete_options=False)


def fixed(*names: str) -> Completer:
    """Completes these names."""
    return lambda **_: dict.fromkeys(names, "")


def components(*kinds: Kind) -> Completer:
    """Completes `name,option=value,...` of components of these kinds."""

    def complete(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> dict[str, str]:
        registry = _registry(parsed_args)
        return {word: text for kind in kinds for word, text in _component(registry, kind, prefix).items()}

    return complete


def listed(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> dict[str, str]:
    """Completes the NAME of `bench list PART NAME`."""
    part, registry = parsed_args.part, _registry(parsed_args)
    found: Mapping[str, Component | Game] = (
        registry.games if part == "games" else registry.of(KINDS[part]) if part in KINDS else {}
    )
    return {name: one.summary for name, one in sorted(found.items())}


def figures(prefix: str, **_: Any) -> dict[str, str]:
    """Completes the names of figures."""
    from bench.report.figures import FIGURES

    return {**{name: plan.summary for name, plan in FIGURES.items()}, "all": "each of them"}


def _registry(parsed_args: argparse.Namespace) -> Registry:
    from bench.core.errors import UserError
    from bench.runner.registry import discover

    plugins = [Path(one) for one in getattr(parsed_args, "plugin", None) or ()]
    try:
        return discover(plugins)
    except UserError:  # the command reports what is wrong with the plugin; here all others are still of use
        return discover()


def _component(registry: Registry, kind: Kind, prefix: str) -> dict[str, str]:
    head, comma, last = prefix.rpartition(",")
    known = registry.of(kind)
    if not comma:
        games = {name: game.summary for name, game in registry.games.items()} if kind == "attack" else {}
        return {**{name: one.summary for name, one in known.items()}, **games, "all": "each of them"}
    name, *earlier = head.split(",")
    group = [one for one in known.values() if name in (one.name, "all") or (one.game and one.game.name == name)]
    option, equals, _ = last.partition("=")
    if equals:
        return {f"{head},{option}={value}": "" for one in group for value in _values(one, option)}
    used = {setting.partition("=")[0] for setting in earlier}
    return {f"{head},{name}=": meaning for one in group for name, meaning in _options(one).items() if name not in used}


def _options(component: Component) -> dict[str, str]:
    """The options of a component with their meaning."""
    from bench.runner.selection import documented

    declared = documented(component)
    return {name: declared[name].meaning if name in declared else "" for name in component.options}


def _values(component: Component, option: str) -> list[str]:
    """The values that an option can have, where these are words."""
    from bench.runner.selection import documented

    if isinstance(component.options.get(option), bool):
        return ["true", "false"]
    declared = documented(component).get(option)
    return [str(value) for value in declared.one_of] if declared else []
