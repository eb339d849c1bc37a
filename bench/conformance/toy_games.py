"""Where an attack is tried in seconds: a question, and a release that gives everything away or nothing at all."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.conformance import toy_releases
from bench.conformance.check import Skip
from bench.conformance.short_runs import small
from bench.core.component import Choice, Component
from bench.core.dataset import Attribute, Data, Examples
from bench.core.errors import Caveat, UserError
from bench.core.game import Challenge, Game
from bench.core.release import Release
from bench.dp import accounting
from bench.games import ATTRIBUTE, MEMBERSHIP
from bench.lint.short_options import short_options
from bench.runner.registry import Registry

CLASSES, VALUES, OTHERS = 3, 3, 8
EVERYBODY = ("private", "holdout", "public")
SIGMAS = 4.7534  # one-sided 1e-6
Judged = Mapping[str, Any]


def noise_records(seed: int = 0, size: int = 300) -> Data:
    """Records of pure noise: nothing but the release tells who is a member."""
    rng = np.random.default_rng(seed)

    def part(n: int) -> Examples:
        return Examples(rng.random((n, 4, 4, 1), np.float32), rng.integers(0, CLASSES, n), CLASSES)

    return Data("noise", part(size), part(size), part(60))


def people(seed: int = 0, sizes: tuple[int, int, int] = (300, 300, 300), tell: float = 0.0, width: int = 3) -> Data:
    """Random binary answers to questions, a random class, and an attribute; `tell` ties the first answer to it."""
    rng = np.random.default_rng(seed)

    def part(n: int) -> Examples:
        value = rng.integers(0, VALUES if width > 1 else 2, n)
        x = rng.integers(0, 2, (n, OTHERS + width)).astype(float)
        x[:, 3 : 3 + width] = np.eye(VALUES)[value] if width > 1 else value[:, None]
        told = rng.random(n) < tell
        x[told, 0] = value[told] == 1
        x[:, -1] = rng.random(n)  # nobody is there twice
        return Examples(x, rng.integers(0, CLASSES, n), CLASSES)

    attributes = (Attribute("hair", 3, 3 + width), Attribute("first", 0, 1))
    private, holdout, public = map(part, sizes)
    return Data("people", private, holdout, public, attributes)


@dataclass(frozen=True, eq=False)
class Scene:
    """One question of a game about records of which nothing but the release tells.

    released: (accesses, leak) -> a release that gives its private records away, or one that knows nothing. strong: what
    the headline figure reaches there, at least; None where the release is a real one, trained in a moment, which gives
    away neither all nor nothing: then manners can be tried alone.
    """

    game: Game
    data: Data
    released: Callable[[frozenset[str], bool], Release]
    strong: float | None = None

    @cached_property
    def challenge(self) -> Challenge:
        """The question."""
        return self.game.challenge(self.data, np.random.default_rng(0))

    @cached_property
    def baseline(self) -> NDArray[Any]:
        """The best answer without any release."""
        return self.game.baseline(self.challenge, 0)

    def judged(self, answer: NDArray[Any]) -> dict[str, Any]:
        """What the game says of an answer."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Caveat)  # a mutant is below chance, and the judge says so
            return dict(self.game.judge(answer, self.baseline, self.challenge, np.random.default_rng(0)))

    def finds(self, judged: Judged) -> bool:
        """Beats chance and the blind answer, each at 1e-6, and far."""
        least = min(sigmas(headline(judged), judged["chance"]), sigmas(judged["gain"], 0))
        return least > SIGMAS and self.strong is not None and headline(judged)["value"] > self.strong

    def finds_nothing(self, judged: Judged) -> bool:
        """Beats neither chance nor the blind answer at 1e-6; and what is noise is not far above chance in value."""
        metric, nothing = self.game.null_metric or (judged["headline"], judged["chance"])
        figures = (headline(judged), judged["chance"]), (judged["gain"], 0.0), (judged[metric], nothing)
        far = headline(judged)["value"] - judged["chance"]
        return max(sigmas(figure, zero) for figure, zero in figures) < SIGMAS and far < 0.15


def headline(judged: Judged) -> Mapping[str, float]:
    """The figure that the board shows."""
    figure: Mapping[str, float] = judged[judged["headline"]]
    return figure


def sigmas(figure: Mapping[str, float], zero: float = 0.0) -> float:
    """By how many standard errors a figure lies above zero."""
    return (figure["value"] - zero) / figure["se"] if figure["se"] else 0.0


@cache
def membership() -> Scene:
    """Among records of noise: one question for every attack."""
    data = noise_records()
    return Scene(MEMBERSHIP, data, lambda accesses, leak: toy_releases.release(accesses, data, leak), strong=0.9)


@cache
def attribute() -> Scene:
    """Of people whose attribute nothing but the release tells: one question for every attack."""
    data = people()

    def released(accesses: frozenset[str], leak: bool) -> Release:
        return Release(accounting.no_privacy(), predict=toy_releases.knower(data, EVERYBODY if leak else ()))

    return Scene(ATTRIBUTE, data, released, strong=0.8)


def quickly_trained(attack: Component, registry: Registry) -> Scene:
    """Where `bench.runner.controls` tries the attack, made small and short. Raises Skip where there is none."""
    from bench.runner import controls, play
    from bench.runner.selection import choose

    game = attack.game
    assert game
    try:
        place = controls.control_setting(Choice(attack), registry)
    except UserError as error:
        raise Skip(str(error)) from error
    [defense], [source] = choose(registry, "defense", place.defense), choose(registry, "data", place.data)
    if source.name != "digits":
        raise Skip(f"its game is tried on {source.name}, which may not be here.")
    quicker = Choice(defense.component, {**defense.options, **short_options(defense.component)})
    trained = play.release(small(), quicker, 0)
    return Scene(game, small(), lambda accesses, leak: trained)


def scene(attack: Component, registry: Registry) -> Scene:
    """Where this attack can be tried; on fakes where there are any of all that it needs."""
    if attack.game is MEMBERSHIP and attack.needs <= toy_releases.FAKED:
        return membership()
    if attack.game is ATTRIBUTE and attack.needs == {"predict"}:
        return attribute()
    return quickly_trained(attack, registry)
