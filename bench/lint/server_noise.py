"""Tests the noised server on chosen updates: each update is clipped, and the sum gets the promised noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.randomness import derive
from bench.lint.hypothesis_tests import SIGNIFICANCE, variance_p_value
from bench.lint.instrumentation import Averaged, Seen
from bench.store.records import LintFinding

if TYPE_CHECKING:
    from bench.dp.networks import Weights
    from bench.models.federated.server import Policy

PROBE = "server noise"
TOLERANCE = 1e-3
SIZES = (1500, 40, 450, 10)  # parameters of the arrays of the replay
Vector = NDArray[np.float64]


def round_noise(one: Averaged, *, alone: bool) -> Vector:
    """The noise of a round in units of its standard deviation; alone: no update was added."""
    moved = _vector(one.after) - _vector(one.before)
    if not alone:
        for update in one.updates:
            moved -= _clipped(_vector(update), one.policy) / _expected_clients(one)
    return np.asarray(moved * _expected_clients(one) / _deviation(one.policy))


def server_noise(seen: Seen, seed: int) -> list[LintFinding]:
    """Test each policy that was used on short and long updates, with and without its noise."""
    found = []
    for policy in {one.policy for one in seen.averaged}:
        drawn = np.random.default_rng(seed).normal(size=(3, sum(SIZES)))
        drawn *= policy.clip / np.linalg.norm(drawn, axis=1, keepdims=True)
        updates = [far * update for far, update in zip((0.5, 3, 20), drawn, strict=True)]
        quiet = replace(policy, noise_multiplier=0.0, client_rate=1.0, norm_bound=np.inf)
        zero = _round(quiet, updates[:2], seed)
        far = np.linalg.norm(_round(quiet, updates, seed) - zero)
        if far > policy.clip * (1 + TOLERANCE):
            what = (
                f"one update changes the server sum by {far / policy.clip:.3g} times the clip: clip each update first"
            )
            found.append(LintFinding(PROBE, what))
        noisy = replace(quiet, noise_multiplier=policy.noise_multiplier)
        answered: list[list[Vector]] = [updates, updates[:1], []]
        noise = np.array([_round(noisy, some, seed) - _round(quiet, some, seed) for some in answered])
        if any(variance_p_value(one, _deviation(noisy) ** 2) < SIGNIFICANCE for one in noise):
            share = np.sqrt(np.mean(noise**2)) / _deviation(noisy)
            found.append(
                LintFinding(
                    PROBE,
                    f"the noise of the server has {share:.3g} times the promised standard deviation: add noise of "
                    "noise_multiplier * 2 * clip to the sum of clipped updates, however many clients answered",
                )
            )
    return found


def _round(policy: Policy, updates: Sequence[Vector], seed: int) -> Vector:
    """The change of the parameters of a server of three clients when these updates arrive, times three."""
    from bench.models.federated.server import Message, Server

    names = ("a", "b", "c")
    made = Server([np.zeros(size, np.float32) for size in SIZES], names, 1, 1.0, policy, derive(seed, "server"))
    tokens = made.open()
    for name, update in zip(names, updates, strict=False):
        arrays = np.split(update.astype(np.float32), np.cumsum(SIZES)[:-1])
        made.receive(Message(name, tokens[name], arrays, 1))
    made.close()
    return _vector(made.parameters) * len(names)


def _clipped(update: Vector, policy: Policy) -> Vector:
    return np.asarray(update * min(1.0, policy.clip / (float(np.linalg.norm(update)) or 1.0)))


def _deviation(policy: Policy) -> float:
    """Of the noise on the sum: replacing an update can change it from one vector of length `clip` to its opposite."""
    return 2 * policy.clip * policy.noise_multiplier


def _expected_clients(one: Averaged) -> float:
    return one.policy.client_rate * one.clients


def _vector(weights: Weights) -> Vector:
    parts: list[NDArray[Any]] = [np.ravel(part) for part in weights]
    return np.asarray(np.concatenate(parts), np.float64)
