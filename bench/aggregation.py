"""The server of collaborative learning: what it takes from clients, what it refuses, and how it averages the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.errors import UserError
from bench.nets import Weights
from bench.randomness import derive, stream

LARGEST = 1e3  # no parameter of a network that trains is as large


@dataclass(frozen=True)
class Policy:
    """What a server asks of every update, and what it does to all of them.

    norm_bound: L2 norm above which an update is refused. clip: norm to which an update is scaled down; inf: none.
    noise_multiplier: Gaussian noise on the sum of the updates, in multiples of 2 * clip: the most that the sum moves
    where a client's records change (McMahan et al. 2018 add or remove a client, which moves it by clip).
    client_rate: the chance of a client to be asked in a round.
    """

    norm_bound: float = math.inf
    clip: float = math.inf
    noise_multiplier: float = 0.0
    client_rate: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.client_rate <= 1:
            raise UserError(f"client_rate must be in (0, 1], not {self.client_rate:g}.")
        if not (self.norm_bound > 0 and self.clip > 0):
            raise UserError(f"norm_bound and clip must be above 0, not {self.norm_bound:g} and {self.clip:g}.")
        if self.noise_multiplier and math.isinf(self.clip):
            raise UserError("noise on updates needs a clip: without one no noise covers them.")


class Refused(Exception):
    """Why an update was not taken, in one sentence."""


@dataclass
class Server:
    """Holds the global parameters; a round is `open`, any number of `receive`, `close`.

    clients: who is registered. examples: the most that a client may claim to have trained on, a public constant, since
    the average is weighed by that claim. upload: the largest share of the parameters that one update may change (Shokri
    and Shmatikov 2015, section 5). An update that is refused counts as not sent and moves nothing.
    """

    parameters: Weights
    clients: Sequence[str]
    examples: int
    upload: float
    policy: Policy
    seed: int
    round: int = 0
    _tokens: dict[str, str] = field(default_factory=dict)
    _taken: list[tuple[Weights, int]] = field(default_factory=list)

    def open(self) -> dict[str, str]:
        """Begin a round: of each client that is asked, the token that its one update must carry."""
        self.round += 1
        draw = stream(self.seed, "asked", self.round).random(len(self.clients))
        asked = [name for name, u in zip(self.clients, draw, strict=True) if u < self.policy.client_rate]
        self._tokens = {name: f"{self.round}-{derive(self.seed, 'token', self.round, name):016x}" for name in asked}
        return dict(self._tokens)

    def receive(self, client: str, token: str, parameters: Any, examples: Any) -> None:
        """Take the parameters that a client trained. Raises Refused, and forgets them, where a check fails."""
        if client not in self.clients:
            raise Refused(f"{client} is not registered.")
        if self._tokens.get(client) is None:
            raise Refused(f"{client} was not asked, or has sent its update of round {self.round} already.")
        if token != self._tokens[client]:
            raise Refused(f"{client} sent a token that is not the one of round {self.round}: a replay.")
        if type(examples) is not int or not 1 <= examples <= self.examples:
            raise Refused(f"{client} claims {examples!r} examples, not a whole number from 1 to {self.examples}.")
        self._check(client, parameters)
        update = [new - old for new, old in zip(parameters, self.parameters, strict=True)]
        if (norm := _norm(update)) > self.policy.norm_bound:
            raise Refused(f"{client} sent an update of norm {norm:.3g}, above {self.policy.norm_bound:g}.")
        most = _most(self.upload, self.parameters)
        if (changed := sum(int(np.count_nonzero(part)) for part in update)) > most:
            raise Refused(f"{client} sent {changed} changed parameters, but {most} may change.")
        del self._tokens[client]
        self._taken.append((update, examples))

    def _check(self, client: str, parameters: Any) -> None:
        if not isinstance(parameters, (list, tuple)) or len(parameters) != len(self.parameters):
            raise Refused(f"{client} did not send a list of {len(self.parameters)} arrays.")
        for i, (sent, held) in enumerate(zip(parameters, self.parameters, strict=True)):
            if not isinstance(sent, np.ndarray) or sent.dtype != held.dtype or sent.shape != held.shape:
                found = f"{sent.dtype} {sent.shape}" if isinstance(sent, np.ndarray) else type(sent).__name__
                raise Refused(f"{client} sent {found} as array {i}, not {held.dtype} {held.shape}.")
            if not np.isfinite(sent).all() or float(np.abs(sent).max(initial=0)) > LARGEST:
                raise Refused(f"{client} sent a value in array {i} that is not finite or beyond {LARGEST:g}.")

    def close(self) -> None:
        """End the round: the global parameters move by the average of what was taken.

        With a clip the sum is divided by how many clients are expected, a public constant, and noised as the policy says.
        """
        taken, policy = self._taken, self.policy
        self._taken, self._tokens = [], {}
        expected = policy.client_rate * len(self.clients)
        if math.isinf(policy.clip):
            total = sum(examples for _, examples in taken)
            shares = [(update, examples / total) for update, examples in taken]
        else:
            shares = [(update, min(1.0, policy.clip / (_norm(update) or 1.0)) / expected) for update, _ in taken]
        moved = [
            sum((np.float32(share) * update[i] for update, share in shares), np.zeros_like(held))
            for i, held in enumerate(self.parameters)
        ]
        if policy.noise_multiplier:
            rng = stream(self.seed, "noise", self.round)
            size = 2 * policy.clip * policy.noise_multiplier / expected
            moved = [part + np.float32(size) * rng.standard_normal(part.shape, np.float32) for part in moved]
        self.parameters = [held + part for held, part in zip(self.parameters, moved, strict=True)]


def largest(update: Weights, share: float) -> Weights:
    """The `share` of an update that is largest in magnitude, over all arrays; the rest is 0. Of ties the first."""
    if share == 1:
        return update
    flat = np.concatenate([np.ravel(part) for part in update])
    kept = np.argsort(-np.abs(flat), kind="stable")[: _most(share, update)]
    sparse = np.zeros_like(flat)
    sparse[kept] = flat[kept]
    ends = np.cumsum([part.size for part in update])[:-1]
    return [piece.reshape(part.shape) for piece, part in zip(np.split(sparse, ends), update, strict=True)]


def _most(share: float, weights: Weights) -> int:
    return max(1, round(share * sum(part.size for part in weights)))


def _norm(update: Weights) -> float:
    return math.sqrt(sum(float(np.square(part, dtype=np.float64).sum()) for part in update))
