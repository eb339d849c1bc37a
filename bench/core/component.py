"""A component is one function that declares itself: a defense, an attack or a data set, and its options."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from bench.core.dataset import Examples
from bench.core.game import Game
from bench.core.release import ACCESS, GIVEN, Release

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bench.core.dataset import Data, Where

Kind = Literal["defense", "attack", "data"]
Option = bool | int | float | str | tuple[int, ...]
HAS = frozenset({"pictures", "attributes"})


class Defense(Protocol):
    """Private and public records in, everything that is let out back; further keyword-only options need defaults."""

    def __call__(self, private: Examples, public: Examples, /, *, seed: int) -> Release: ...


class Attack(Protocol):
    """The accesses it needs, the targets of its game and the public records in; an answer for that game back."""

    def __call__(self, release: Release, targets: Any, public: Examples, /, *, seed: int) -> NDArray[Any]: ...


class Source(Protocol):
    """Where to look and the randomness of the split in, three parts that share no record back."""

    def __call__(self, where: Where, rng: np.random.Generator, /) -> Data: ...


D = TypeVar("D", bound=Defense)
A = TypeVar("A", bound=Attack)
S = TypeVar("S", bound=Source)


@dataclass(frozen=True, eq=False)
class Component:
    """One declared function: what it is called, what it can be told, what it gives or takes."""

    name: str
    kind: Kind
    function: Callable[..., Any]
    options: Mapping[str, Option]
    summary: str
    source: Path
    publishes: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    public_knowledge: tuple[str, ...] = ()
    private: bool = False
    game: Game | None = None
    has: frozenset[str] = frozenset()
    floor: float | None = None


def missing(attack: Component, defense: Component, data: Component) -> tuple[str, ...]:
    """Who may attack what: the accesses that the attack needs and nobody gives, and what its game asks of the data.

    Empty means play.
    """
    requires = attack.game.requires if attack.game else frozenset()
    return tuple(sorted((attack.needs - defense.publishes - GIVEN) | (requires - data.has)))


@dataclass(frozen=True)
class Choice:
    """A component and the options that the user set; `settings` are all options, defaults too."""

    component: Component
    options: Mapping[str, Option] = field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        """The component's name."""
        return self.component.name

    @cached_property
    def settings(self) -> dict[str, Option]:
        """Every option with its value."""
        return {**self.component.options, **self.options}

    @cached_property
    def label(self) -> str:
        """`name,option=value,...`, sorted, without the options that have their default value."""
        changed = ((k, v) for k, v in sorted(self.options.items()) if v != self.component.options[k])
        return ",".join([self.name, *(f"{option}={text(value)}" for option, value in changed)])


def text(value: Option) -> str:
    """An option's value as it is written on the command line; reading it back gives the same value."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    if isinstance(value, float) and math.isfinite(value) and value == int(value) and abs(value) < 1e16:
        return str(int(value))
    return str(value)


def defense(
    name: str, *, publishes: Iterable[str], public_knowledge: Iterable[str] = (), private: bool = False
) -> Callable[[D], D]:
    """Declare a defense: the accesses it lets out, what it takes for public, whether it promises privacy."""

    def declare(function: D) -> D:
        given = _known(name, "publishes", publishes, ACCESS)
        _declare(
            name,
            "defense",
            function,
            2,
            publishes=given,
            public_knowledge=tuple(sorted(public_knowledge)),
            private=private,
        )
        return function

    return declare


def attack(name: str, *, game: Game, needs: Iterable[str], floor: float | None = None) -> Callable[[A], A]:
    """Declare an attack: the game it plays and the accesses it needs; it receives no other.

    floor: what its headline figure must reach where nothing defends (`bench.runner.controls`); None: more than luck.
    """

    if not isinstance(game, Game):
        raise TypeError(f"{name}: game must be one of bench.games, such as MEMBERSHIP, not {game!r}.")

    def declare(function: A) -> A:
        _declare(name, "attack", function, 3, needs=_known(name, "needs", needs, ACCESS), game=game, floor=floor)
        return function

    return declare


def dataset(name: str, *, has: Iterable[str] = ()) -> Callable[[S], S]:
    """Declare a data set; its options are the sizes of the parts, and whatever else it needs.

    has: what some games ask of records: "pictures" (height, width and colours), "attributes" (`Data.attributes`).
    """

    def declare(function: S) -> S:
        _declare(name, "data", function, 2, has=_known(name, "has", has, HAS))
        return function

    return declare


def _known(name: str, word: str, given: Iterable[str], known: frozenset[str]) -> frozenset[str]:
    if isinstance(given, str):
        raise TypeError(f"{name}: {word} must be a set of names, not the text {given!r}.")
    unknown = sorted(frozenset(given) - known)
    if unknown:
        raise TypeError(f"{name}: {word} names {unknown[0]!r}, but there are {', '.join(sorted(known))}.")
    return frozenset(given)


def _declare(name: str, kind: Kind, function: Callable[..., Any], positional: int, **declared: Any) -> None:
    """Check the declaration and leave it on the function, where `discover` finds it."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) or name == "all":
        raise TypeError(f"{name!r} cannot name a component: use letters, digits and underscores, and not 'all'.")
    options = _options(name, function, positional, needs_seed=kind != "data")
    game: Game | None = declared.get("game")
    if game and (twice := options.keys() & game.options):
        raise TypeError(f"{name}: {twice.pop()} is an option of the game {game.name}: rename yours.")
    options |= game.options if game else {}
    summary = (inspect.getdoc(function) or "").partition("\n")[0]
    source = Path(inspect.getsourcefile(inspect.unwrap(function)) or "")
    component = Component(name, kind, function, MappingProxyType(options), summary, source, **declared)
    setattr(function, "component", component)  # noqa: B010 - mypy knows no such attribute


def _options(name: str, function: Callable[..., Any], positional: int, *, needs_seed: bool) -> dict[str, Option]:
    parameters = inspect.signature(function).parameters.values()
    keywords = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    others = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
    if len(others) != positional or any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in others):
        raise TypeError(f"{name} must take {positional} positional arguments, and its options after a bare *.")
    if needs_seed and "seed" not in keywords:
        raise TypeError(f"{name} must take the keyword-only argument seed.")
    keywords.pop("seed", None)
    for option, default in keywords.items():
        whole = isinstance(default, tuple) and default and all(type(item) is int for item in default)
        if type(default) not in (bool, int, float, str) and not whole:
            wanted = "a bool, int, float, str or tuple of ints"
            raise TypeError(f"{name}: the option {option} must have a default that is {wanted}.")
    return keywords
