"""Runs of membership attacks on toy releases."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from conftest import components
from numpy.typing import NDArray

from bench.conformance.attack_checks import AttackRuns
from bench.conformance.toy_games import membership
from bench.core.component import Choice, Component
from bench.games import MEMBERSHIP

ATTACKS = sorted(name for name, attack in components().attacks.items() if attack.game is MEMBERSHIP)
Attack = Callable[..., NDArray[Any]]


def attack_of(name: str) -> Component:
    return components().attacks[name]


@cache
def runs_of(name: str) -> AttackRuns:
    """The runs of an attack on toy releases, cached for all tests."""
    return AttackRuns(Choice(components().attacks[name]), components())


def play(attack: Component, function: Attack, leak: bool) -> dict[str, Any]:
    challenge = membership().challenge
    answer = function(membership().released(attack.needs, leak), challenge.targets, challenge.public, seed=0)
    return membership().judged(answer)


def finds(judged: dict[str, Any]) -> bool:
    return membership().finds(judged)


def finds_nothing(judged: dict[str, Any]) -> bool:
    return membership().finds_nothing(judged)
