"""Shell completion (argcomplete) of component names, their options, and the values of these.

For each press of the key the shell runs the program with `_ARGCOMPLETE` set; only then is anything heavy imported.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.core.component import Component, Kind
    from bench.runner.registry import Registry

Completer = Callable[..., Iterable[str]]
KINDS: dict[str, Kind] = {"defenses": "defense", "attacks": "attack", "data": "data"}


def attach(action: argparse.Action, completer: Completer) -> None:
    """Have argcomplete ask `completer` for the values of an argument."""
    setattr(action, "completer", completer)  # noqa: B010 - argparse declares no such attribute


def answer(parser: argparse.ArgumentParser) -> None:
    """Write the completions of the command line that the shell describes in the environment, and exit."""
    import argcomplete

    argcomplete.autocomplete(parser, always_complete_options=False)


def components(*kinds: Kind) -> Completer:
    """Completes `name,option=value,...` of components of these kinds."""

    def complete(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
        registry = _registry(parsed_args)
        return [found for kind in kinds for found in _component(registry, kind, prefix)]

    return complete


def listed(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Completes the NAME of `bench list PART NAME`."""
    part, registry = parsed_args.part, _registry(parsed_args)
    return sorted(registry.games if part == "games" else registry.of(KINDS[part]) if part in KINDS else ())


def figures(prefix: str, **_: Any) -> list[str]:
    """Completes the names of figures."""
    from bench.report.figures import FIGURES

    return [*FIGURES, "all"]


def _registry(parsed_args: argparse.Namespace) -> Registry:
    from bench.core.errors import UserError
    from bench.runner.registry import discover

    plugins = [Path(one) for one in getattr(parsed_args, "plugin", None) or ()]
    try:
        return discover(plugins)
    except UserError:  # the command says what is wrong with the plugin; here all others are still of use
        return discover()


def _component(registry: Registry, kind: Kind, prefix: str) -> list[str]:
    head, comma, last = prefix.rpartition(",")
    known = registry.of(kind)
    if not comma:
        return [*known, *(registry.games if kind == "attack" else ()), "all"]
    name, *earlier = head.split(",")
    group = [one for one in known.values() if name in (one.name, "all") or (one.game and one.game.name == name)]
    option, equals, _ = last.partition("=")
    if equals:
        values = {value: None for one in group for value in _values(one, option)}
        return [f"{head},{option}={value}" for value in values]
    used = {setting.partition("=")[0] for setting in earlier}
    return [
        f"{head},{option}="
        for option in {option: None for one in group for option in one.options}
        if option not in used
    ]


def _values(component: Component, option: str) -> list[str]:
    """The values that an option can have, where these are words."""
    from bench.runner.selection import documented

    if isinstance(component.options.get(option), bool):
        return ["true", "false"]
    declared = documented(component).get(option)
    return [str(value) for value in declared.one_of] if declared else []
