"""A component is one decorated function: a defense, an attack or a data set, with its options."""

from __future__ import annotations

import functools
import inspect
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast

from bench.core.dataset import Examples
from bench.core.game import Game
from bench.core.release import ACCESS, GIVEN, Release

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bench.core.dataset import DataLocation, Split

Kind = Literal["defense", "attack", "data"]
OptionValue = bool | int | float | str | tuple[int, ...]


@dataclass(frozen=True)
class Option:
    """What an option means and which values it takes: `steps: Annotated[int, Option("training steps", at_least=1)]`.

    A value lies within the limits that are given, or is one of the words of `one_of`.
    """

    meaning: str
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    one_of: tuple[str | int, ...] = ()

    @property
    def limits(self) -> str:
        """The values that it takes, in words; empty where any value of its type is allowed."""
        if self.one_of:
            return "one of " + ", ".join(map(str, self.one_of))
        named = (("at least", self.at_least), ("above", self.above), ("at most", self.at_most), ("below", self.below))
        return " and ".join(f"{word} {limit:g}" for word, limit in named if limit is not None)

    def allows(self, value: OptionValue) -> bool:
        """Whether a value lies within the limits; of several numbers, whether each does."""
        if self.one_of:
            return value in self.one_of
        numbers = value if isinstance(value, tuple) else (value,)
        return all(self._within(number) for number in numbers if isinstance(number, (int, float)))

    def _within(self, number: float) -> bool:
        return (
            (self.at_least is None or number >= self.at_least)
            and (self.above is None or number > self.above)
            and (self.at_most is None or number <= self.at_most)
            and (self.below is None or number < self.below)
        )


HAS = frozenset({"pictures", "attributes"})


class Defense(Protocol):
    """Private and public records in, everything that is published out; further keyword-only options need defaults."""

    def __call__(self, private: Examples, public: Examples, /, *, seed: int) -> Release: ...


class Attack(Protocol):
    """The accesses it needs, the targets of its game and the public records in; an answer for that game out."""

    def __call__(self, release: Release, targets: Any, public: Examples, /, *, seed: int) -> NDArray[Any]: ...


class Source(Protocol):
    """A location and the randomness of the split in; three parts that share no record out."""

    def __call__(self, where: DataLocation, rng: np.random.Generator, /) -> Split: ...


D = TypeVar("D", bound=Defense)
A = TypeVar("A", bound=Attack)
S = TypeVar("S", bound=Source)
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, eq=False)
class Component:
    """One declared function: its name and options, and the accesses that it publishes or needs."""

    name: str
    kind: Kind
    function: Callable[..., Any]
    options: Mapping[str, OptionValue]
    summary: str
    source: Path
    publishes: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    public_knowledge: tuple[str, ...] = ()
    private: bool = False
    undefended: bool = False
    game: Game | None = None
    has: frozenset[str] = frozenset()
    required_score: float | None = None
    described: Mapping[str, Option] = field(default_factory=dict)
    records: int | None = None


def missing(attack: Component, defense: Component, data: Component) -> tuple[str, ...]:
    """The accesses that the attack needs and the defense does not publish, and what its game requires of the data.

    Empty means that the attack can be played.
    """
    requires = attack.game.requires if attack.game else frozenset()
    return tuple(sorted((attack.needs - defense.publishes - GIVEN) | (requires - data.has)))


@dataclass(frozen=True)
class Choice:
    """A component and the options that the user set; `settings` are all options, defaults too."""

    component: Component
    options: Mapping[str, OptionValue] = field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        """The component's name."""
        return self.component.name

    @cached_property
    def settings(self) -> dict[str, OptionValue]:
        """Every option with its value."""
        return {**self.component.options, **self.options}

    @cached_property
    def label(self) -> str:
        """`name,option=value,...`, sorted, without the options that have their default value."""
        changed = ((k, v) for k, v in sorted(self.options.items()) if v != self.component.options[k])
        return ",".join([self.name, *(f"{option}={text(value)}" for option, value in changed)])


def text(value: OptionValue) -> str:
    """An option's value as it is written on the command line; parsing it gives the same value."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    if isinstance(value, float) and math.isfinite(value) and value == int(value) and abs(value) < 1e16:
        return str(int(value))
    return str(value)


def defense(
    name: str, *, publishes: Iterable[str], public_knowledge: Iterable[str] = (),
    private: bool = False, undefended: bool = False,
) -> Callable[[D], D]:  # fmt: skip
    """Declare a defense: the accesses it publishes, what it assumes to be public, whether it promises privacy.

    undefended: it protects nothing, and so is the reference of defenses that publish the same (`runner.reference`).
    """
    if private and undefended:
        raise TypeError(f"{name} cannot be private and undefended: remove one of the two.")

    def declare(function: D) -> D:
        given, public = _known(name, "publishes", publishes, ACCESS), tuple(sorted(public_knowledge))
        stated = {"publishes": given, "public_knowledge": public, "private": private, "undefended": undefended}
        return _declare(name, "defense", function, 2, **stated)

    return declare


def attack(name: str, *, game: Game, needs: Iterable[str], required_score: float | None = None) -> Callable[[A], A]:
    """Declare an attack: the game it plays and the accesses it needs; it receives no others.

    required_score: what its headline metric must reach without a defense (`bench.runner.controls`); None: above chance.
    """

    if not isinstance(game, Game):
        raise TypeError(f"{name}: game must be one of bench.games, such as MEMBERSHIP, not {game!r}.")

    def declare(function: A) -> A:
        known = _known(name, "needs", needs, ACCESS)
        return _declare(name, "attack", function, 3, needs=known, game=game, required_score=required_score)

    return declare


def dataset(name: str, *, has: Iterable[str] = (), records: int | None = None) -> Callable[[S], S]:
    """Declare a data set; its options are the sizes of the parts, and others that it needs.

    has: what some games require of records: "pictures" (height, width and colours), "attributes" (`Split.attributes`).
    records: how many distinct records there are, at most, by which sizes are checked before anything is loaded.
    """

    def declare(function: S) -> S:
        return _declare(name, "data", function, 2, has=_known(name, "has", has, HAS), records=records)

    return declare


def _known(name: str, word: str, given: Iterable[str], known: frozenset[str]) -> frozenset[str]:
    if isinstance(given, str):
        raise TypeError(f"{name}: {word} must be a set of names, not the text {given!r}.")
    unknown = sorted(frozenset(given) - known)
    if unknown:
        raise TypeError(f"{name}: {word} names {unknown[0]!r}, but there are {', '.join(sorted(known))}.")
    return frozenset(given)


def _declare(name: str, kind: Kind, function: F, positional: int, **declared: Any) -> F:
    """Check the declaration; return the function as it is called with options, with its component for `discover`."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) or name == "all":
        raise TypeError(f"{name!r} cannot name a component: use letters, digits and underscores, and not 'all'.")
    defaults, described, groups = _options(name, function, positional, needs_seed=kind != "data")
    game: Game | None = declared.get("game")
    if game and (twice := defaults.keys() & game.options):
        raise TypeError(f"{name}: {twice.pop()} is an option of the game {game.name}: rename yours.")
    defaults |= game.options if game else {}
    summary = (inspect.getdoc(function) or "").partition("\n")[0]
    source = Path(inspect.getsourcefile(inspect.unwrap(function)) or "")
    called: Any = _grouping(function, groups) if groups else function
    options = MappingProxyType(defaults)
    component = Component(name, kind, called, options, summary, source, described=described, **declared)
    called.component = component
    return cast(F, called)


def _options(
    name: str, function: Callable[..., Any], positional: int, *, needs_seed: bool
) -> tuple[dict[str, OptionValue], dict[str, Option], dict[str, Any]]:
    """The defaults of a function's options, their `Option` descriptions, and its groups of options.

    A group is a parameter whose default is a frozen dataclass: its fields are options like any other.
    """
    parameters = inspect.signature(function).parameters.values()
    keywords = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
    others = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
    if len(others) != positional or any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in others):
        raise TypeError(f"{name} must take {positional} positional arguments, and its options after a bare *.")
    if needs_seed and "seed" not in keywords:
        raise TypeError(f"{name} must take the keyword-only argument seed.")
    keywords.pop("seed", None)
    defaults: dict[str, OptionValue] = {}
    described: dict[str, Option] = {}
    groups: dict[str, Any] = {}
    for parameter in keywords.values():
        group = parameter.default
        found: dict[str, tuple[Any, Any, Any]]
        if is_dataclass(group) and not isinstance(group, type):
            groups[parameter.name] = group
            found = {one.name: (getattr(group, one.name), one.type, type(group)) for one in fields(group)}
        else:
            found = {parameter.name: (group, parameter.annotation, function)}
        for option, (default, annotation, where) in found.items():
            if option in defaults:
                raise TypeError(f"{name}: the option {option} is there twice.")
            _check_default(name, option, default)
            defaults[option] = default
            described |= {option: described_as} if (described_as := _described(annotation, where)) else {}
    return defaults, described, groups


def _check_default(name: str, option: str, default: Any) -> None:
    whole = isinstance(default, tuple) and default and all(type(item) is int for item in default)
    if type(default) not in (bool, int, float, str) and not whole:
        wanted = "a bool, int, float, str or tuple of ints"
        raise TypeError(f"{name}: the option {option} must have a default that is {wanted}.")


def _described(annotation: Any, where: Any) -> Option | None:
    """The `Option` in an annotation `Annotated[type, Option(...)]`, as written in the module of `where`."""
    if isinstance(annotation, str):
        if "Annotated" not in annotation:
            return None
        annotation = eval(annotation, vars(sys.modules[where.__module__]))  # noqa: S307 - the component's own code
    return next((one for one in getattr(annotation, "__metadata__", ()) if isinstance(one, Option)), None)


def _grouping(function: Callable[..., Any], groups: Mapping[str, Any]) -> Callable[..., Any]:
    """The function with every option of its groups as a keyword; a whole group may be given, too."""
    grouped = {one.name: name for name, group in groups.items() for one in fields(group)}

    @functools.wraps(function)
    def called(*arguments: Any, **options: Any) -> Any:
        inside: dict[str, dict[str, Any]] = {name: {} for name in groups}
        for option in grouped.keys() & options.keys():
            inside[grouped[option]][option] = options.pop(option)
        given = {name: replace(options.pop(name, group), **inside[name]) for name, group in groups.items()}
        return function(*arguments, **given, **options)

    return called
