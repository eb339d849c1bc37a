"""Reads what a user writes, `dp_vaegm,epsilon=1` or `0-4`, into typed choices; each mistake is one UserError."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench.core.component import Choice, Component, Kind, Option, OptionValue, text
from bench.core.errors import UserError, suggest
from bench.data import user_file
from bench.runner.registry import Registry

MOST_SEEDS = 10_000
SIZES = ("private", "holdout", "public")
EPSILON = Option("privacy budget; inf for no privacy", above=0)


def choose(registry: Registry, kind: Kind, spec: str) -> list[Choice]:
    """Read `name,option=value,...`; `all` and, for attacks, a game's name stand for several components.

    Options of a group go to those of its components that have them. A data set may be the path of a file
    (`bench.data.user_file`). Raises UserError for an unknown name or option, and for a value that no run could use.
    """
    name, *settings = (word.strip() for word in spec.split(","))
    if kind == "data" and user_file.is_file(name):
        plain = user_file.component(name)
        found = _read(f"data {name!r}", plain.options, settings)
        _check_limits(plain, found)
        return [_checked(user_file.choice(name, found))]
    known = registry.of(kind)
    if name == "all":
        group = list(known.values())
    elif kind == "attack" and name in registry.games:
        group = [attack for attack in known.values() if attack.game and attack.game.name == name]
    elif name in known:
        return [_choice(known[name], settings)]
    else:
        raise UserError(_unknown(registry, kind, name))
    if not group:
        raise UserError(f"no {kind} could be loaded: {' '.join(registry.broken) or 'install the package again.'}")
    every = {option: default for component in group for option, default in component.options.items()}
    _read(f"{name!r}", every, settings)
    return [_choice(one, [word for word in settings if word.partition("=")[0].strip() in one.options]) for one in group]


def choose_data(registry: Registry, label: str, sent: str, folder: Path) -> Choice:
    """The data set of a label; sent: the path below `folder` of a file of records that came with it, "" for none."""
    name, comma, options = label.partition(",")
    [data] = choose(registry, "data", f"{folder / sent if sent else name}{comma}{options}")
    return data


def choose_all(registry: Registry, kind: Kind, several: Sequence[str]) -> list[Choice]:
    """Read all choices of one kind, each once; nothing chosen means all of them, and of data only `digits`."""
    default = "digits" if kind == "data" else "all"
    chosen = [choice for spec in several or [default] for choice in choose(registry, kind, spec)]
    return [choice for i, choice in enumerate(chosen) if choice not in chosen[:i]]


def distinct(choices: Iterable[Choice]) -> tuple[Choice, ...]:
    """The choices that differ in what would be measured: the first of each label."""
    return tuple({choice.label: choice for choice in reversed(list(choices))}.values())[::-1]


def sweep(choices: Sequence[Choice], epsilons: Sequence[float]) -> list[Choice]:
    """Repeat each defense whose option `epsilon` is not set, once per value; the others stay as they are."""
    if not epsilons:
        return list(choices)
    swept: list[Choice] = []
    for choice in choices:
        if _open(choice):
            default = choice.component.options["epsilon"]
            values = (_cast(f"defense {choice.name!r}", "epsilon", text(e), default) for e in epsilons)
            swept += [_checked(Choice(choice.component, {**choice.options, "epsilon": value})) for value in values]
        else:
            swept.append(choice)
    if not any(map(_open, choices)):
        names = ", ".join(choice.name for choice in choices)
        raise UserError(
            f"--epsilon has nothing to sweep: no selected defense ({names}) has an option epsilon that is not set."
        )
    return swept


def _open(choice: Choice) -> bool:
    return "epsilon" in choice.component.options and "epsilon" not in choice.options


def seeds(spec: str) -> tuple[int, ...]:
    """Read `0-4`, `0,3` or `7` into seeds, each once, in their order."""
    found: dict[int, None] = {}
    for word in spec.split(","):
        match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", word.strip())
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise UserError(f"{word.strip()!r} is no seed: write whole numbers and ranges, as in 0-4 or 0,3.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last - first >= MOST_SEEDS:
            raise UserError(f"{word.strip()!r} has more than {MOST_SEEDS} seeds: give a shorter range.")
        found.update(dict.fromkeys(range(first, last + 1)))
    return tuple(found)


def epsilons(spec: str) -> tuple[float, ...]:
    """Read `1,2,8,inf` into the values of a sweep, each once; all must be above 0."""
    found: dict[float, None] = {}
    for word in spec.split(","):
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not value > 0:
            raise UserError(f"{word.strip()!r} is no epsilon: write numbers above 0 or inf, as in 1,8,inf.")
        found[value] = None
    return tuple(found)


def duration(spec: str) -> float:
    """Read `90s`, `20m` or `1.5h` into seconds."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh])", spec.strip())
    seconds = float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if not 0 < seconds < math.inf:
        raise UserError(f"{spec.strip()!r} is no budget: write a time above 0 in s, m or h, as in 90s, 20m or 1.5h.")
    return seconds


def _unknown(registry: Registry, kind: Kind, name: str) -> str:
    for line in registry.broken:
        if name and f"/{name}.py " in line:
            return f"the {kind} {name!r} could not be loaded: {line}"
    known = [*registry.of(kind), *(registry.games if kind == "attack" else ()), "all"]
    return f"there is no {kind} {name!r}: {suggest(name, known)}"


def _choice(component: Component, settings: Sequence[str]) -> Choice:
    """The component with its options, which are checked before anything is trained."""
    return _checked(Choice(component, _read(f"{component.kind} {component.name!r}", component.options, settings)))


def documented(component: Component) -> dict[str, Option]:
    """What is declared of a component's options: its own, that of its game, and of every epsilon that it is above 0."""
    found = dict(component.described)
    if "epsilon" in component.options:
        found.setdefault("epsilon", EPSILON)
    if component.game and component.game.options:
        found["of"] = Option("whose records the game asks about", one_of=tuple(component.game.challenges))
    return found


def _checked(choice: Choice) -> Choice:
    """The choice. Raises UserError for a value that its component does not take, or for more records than there are."""
    component = choice.component
    _check_limits(component, choice.options)
    sizes = {name: size for name in SIZES if isinstance(size := choice.settings.get(name), int)}
    if component.records is not None and sum(sizes.values()) > component.records:
        wanted = ", ".join(f"{name}={size}" for name, size in sizes.items())
        raise UserError(
            f"{component.name} has {component.records} distinct records, but {wanted} need {sum(sizes.values())}: "
            "choose smaller parts."
        )
    return choice


def _check_limits(component: Component, options: Mapping[str, OptionValue]) -> None:
    declared, whose = documented(component), f"{component.kind} {component.name!r}"
    for name, value in options.items():
        option = declared.get(name)
        if option is None or option.allows(value):
            continue
        if option.one_of:
            hint = suggest(text(value), map(str, option.one_of))
            raise UserError(f"{name}={text(value)} of {whose} is none of its values: {hint}")
        each = "each number in " if isinstance(value, tuple) else ""
        raise UserError(f"{each}{name}={text(value)} of {whose} must be {option.limits}.")


def _read(whose: str, options: Mapping[str, OptionValue], settings: Sequence[str]) -> dict[str, OptionValue]:
    found: dict[str, OptionValue] = {}
    for word in settings:
        option, equals, value = (part.strip() for part in word.partition("="))
        if not equals:
            raise UserError(f"{word!r} is no option of {whose}: write option=value after the name.")
        if option not in options:
            every = ", ".join(f"{key}={text(default)}" for key, default in sorted(options.items())) or "none"
            hint = suggest(option, options)
            hint = f"{hint} Its options are" if hint.startswith("did") else "its options are"
            raise UserError(f"{whose} has no option {option!r}: {hint} {every}.")
        if option in found:
            raise UserError(f"{whose} has the option {option!r} twice: remove one.")
        found[option] = _cast(whose, option, value, options[option])
    return found


def _cast(whose: str, option: str, word: str, default: OptionValue) -> OptionValue:
    """Read a value by the type of the default."""
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[word.lower()]
        if isinstance(default, int):
            return _whole(word)
        if isinstance(default, tuple):
            return tuple(_whole(part) for part in word.split("x"))
        if isinstance(default, float) and math.isnan(float(word)):
            raise ValueError(word)
        return type(default)(word)
    except (ValueError, KeyError, OverflowError):
        wanted = {bool: "true or false", int: "a whole number", float: "a number or inf"}
        kind = wanted.get(type(default), "whole numbers as in 64x32")
        raise UserError(f"{option}={word} of {whose} cannot be read: give {kind}.") from None


def _whole(word: str) -> int:
    """`1000` or `1e3`."""
    try:
        return int(word)
    except ValueError:
        value = float(word)
        if value != int(value):
            raise
        return int(value)


def describe(component: Component) -> str:
    """A component's options with their defaults, as they are written on the command line."""
    return ", ".join(f"{option}={text(default)}" for option, default in component.options.items())
