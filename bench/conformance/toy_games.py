"""Small games that an attack plays in seconds, against a release that leaks everything or nothing."""

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
from bench.conformance.short_runs import small_data
from bench.core.component import Choice, Component
from bench.core.dataset import Attribute, Examples, Split
from bench.core.errors import Caveat, UserError
from bench.core.game import Challenge, Game
from bench.core.release import Release
from bench.dp import accounting
from bench.games import ATTRIBUTE, MEMBERSHIP
from bench.lint.short_options import short_options
from bench.runner.registry import Registry

CLASSES, VALUES, OTHERS = 3, 3, 8
EVERYBODY = ("private", "holdout", "public")
SIGMAS = 4.7534  # one-sided p-value of 1e-6
Judged = Mapping[str, Any]


def noise_records(seed: int = 0, size: int = 300) -> Split:
    """Records of noise: only the release tells members from non-members."""
    rng = np.random.default_rng(seed)

    def part(n: int) -> Examples:
        return Examples(rng.random((n, 4, 4, 1), np.float32), rng.integers(0, CLASSES, n), CLASSES)

    return Split("noise", part(size), part(size), part(60))


def people(seed: int = 0, sizes: tuple[int, int, int] = (300, 300, 300), tell: float = 0.0, width: int = 3) -> Split:
    """Records of random binary features, a class and an attribute; `tell`: how often the first feature follows it."""
    rng = np.random.default_rng(seed)

    def part(n: int) -> Examples:
        value = rng.integers(0, VALUES if width > 1 else 2, n)
        x = rng.integers(0, 2, (n, OTHERS + width)).astype(float)
        x[:, 3 : 3 + width] = np.eye(VALUES)[value] if width > 1 else value[:, None]
        follows = rng.random(n) < tell
        x[follows, 0] = value[follows] == 1
        x[:, -1] = rng.random(n)  # so that no record occurs twice
        return Examples(x, rng.integers(0, CLASSES, n), CLASSES)

    attributes = (Attribute("hair", 3, 3 + width), Attribute("first", 0, 1))
    private, holdout, public = map(part, sizes)
    return Split("people", private, holdout, public, attributes)


@dataclass(frozen=True, eq=False)
class ToyGame:
    """A game on records about which only the release tells anything.

    released: (accesses, leak) -> a release that leaks its private records, or one that leaks nothing. required: what
    the headline metric must reach with a leak; None where the release is a real one after a short training, which leaks
    neither everything nor nothing, so that only the form of answers can be checked.
    """

    game: Game
    data: Split
    released: Callable[[frozenset[str], bool], Release]
    required: float | None = None

    @cached_property
    def challenge(self) -> Challenge:
        """Its targets and ground truth."""
        return self.game.challenge(self.data, np.random.default_rng(0))

    @cached_property
    def baseline(self) -> NDArray[Any]:
        """The release-free baseline."""
        return self.game.baseline(self.challenge, 0)

    def judged(self, answer: NDArray[Any]) -> dict[str, Any]:
        """The metrics of an answer."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Caveat)  # a wrong attack may be below chance, which is a caveat
            return dict(self.game.judge(answer, self.baseline, self.challenge, np.random.default_rng(0)))

    def finds(self, judged: Judged) -> bool:
        """Whether it beats chance and the release-free baseline, each at 1e-6, and reaches the required value."""
        least = min(sigmas(headline(judged), judged["chance"]), sigmas(judged["gain"], 0))
        return least > SIGMAS and self.required is not None and headline(judged)["value"] > self.required

    def finds_nothing(self, judged: Judged) -> bool:
        """Whether it beats neither chance nor the release-free baseline at 1e-6, and is less than 0.15 above chance."""
        metric, nothing = self.game.null_metric or (judged["headline"], judged["chance"])
        figures = (headline(judged), judged["chance"]), (judged["gain"], 0.0), (judged[metric], nothing)
        far = headline(judged)["value"] - judged["chance"]
        return max(sigmas(figure, zero) for figure, zero in figures) < SIGMAS and far < 0.15


def headline(judged: Judged) -> Mapping[str, float]:
    """The metric that the leaderboard shows."""
    figure: Mapping[str, float] = judged[judged["headline"]]
    return figure


def sigmas(figure: Mapping[str, float], zero: float = 0.0) -> float:
    """By how many standard errors a metric lies above `zero`."""
    return (figure["value"] - zero) / figure["se"] if figure["se"] else 0.0


@cache
def membership() -> ToyGame:
    """Membership inference on records of noise, the same for every attack."""
    data = noise_records()
    return ToyGame(MEMBERSHIP, data, lambda accesses, leak: toy_releases.release(accesses, data, leak), required=0.9)


@cache
def attribute() -> ToyGame:
    """Attribute inference where only the release tells the attribute, the same for every attack."""
    data = people()

    def released(accesses: frozenset[str], leak: bool) -> Release:
        return Release(accounting.no_privacy(), predict=toy_releases.knower(data, EVERYBODY if leak else ()))

    return ToyGame(ATTRIBUTE, data, released, required=0.8)


def short_training(attack: Component, registry: Registry) -> ToyGame:
    """The control setting of the attack, small and with a short training. Raises Skip where there is none."""
    from bench.runner import controls, play
    from bench.runner.selection import choose

    game = attack.game
    assert game
    try:
        setting = controls.control_setting(Choice(attack), registry)
    except UserError as error:
        raise Skip(str(error)) from error
    [defense], [source] = choose(registry, "defense", setting.defense), choose(registry, "data", setting.data)
    if source.name != "digits":
        raise Skip(f"its control uses {source.name}, which may not be downloaded.")
    quicker = Choice(defense.component, {**defense.options, **short_options(defense.component)})
    trained = play.release(small_data(), quicker, 0)
    return ToyGame(game, small_data(), lambda accesses, leak: trained)


def toy_game(attack: Component, registry: Registry) -> ToyGame:
    """The toy game of an attack; with toy releases where these support all that it needs."""
    if attack.game is MEMBERSHIP and attack.needs <= toy_releases.SUPPORTED:
        return membership()
    if attack.game is ATTRIBUTE and attack.needs == {"predict"}:
        return attribute()
    return short_training(attack, registry)
