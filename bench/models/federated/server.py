"""The server of collaborative learning: which updates it accepts, which it refuses, and how it averages them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option
from bench.core.errors import UserError
from bench.core.randomness import derive, stream
from bench.dp.instrumentation import current_observer
from bench.dp.networks import Weights

LARGEST = 1e3  # no parameter of a network that trains is as large
NORM_BOUND = Option("L2 norm above which the server refuses an update", above=0)


@dataclass(frozen=True)
class Policy:
    """What a server does with every update.

    norm_bound: L2 norm above which it is refused. clip: norm to which it is scaled down; inf: as it is.
    noise_multiplier: Gaussian noise on the sum of the updates, in multiples of 2 * clip, which is how far the sum moves
    where the records of one client change (in McMahan et al. 2018 a client comes or goes, which moves it by clip).
    client_rate: the chance of a client to be selected in a round.
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


@dataclass(frozen=True, eq=False)
class Message:
    """What a client sends in a round: trained weights, the number of examples, and the token of the round."""

    client: str
    token: Any
    parameters: Any
    examples: Any


class Refused(Exception):
    """Why an update was not accepted, in one sentence."""


@dataclass
class Server:
    """Holds the global parameters; a round is `open`, any number of `receive`, and `close`.

    clients: who is registered. examples: the most that a client may claim, a public constant, since the average is
    weighed by that claim. upload: the largest share of the parameters that one update may change. A refused
    update counts as not sent. taken: the accepted updates of this round, with the examples that they claim.
    """

    parameters: Weights
    clients: Sequence[str]
    examples: int
    upload: float
    policy: Policy
    seed: int
    round: int = 0
    tokens: dict[str, str] = field(default_factory=dict)
    taken: list[tuple[Weights, int]] = field(default_factory=list)

    def open(self) -> dict[str, str]:
        """Begin a round: the token of each client that is selected, which its one update must carry."""
        self.round += 1
        draw = stream(self.seed, "asked", self.round).random(len(self.clients))
        selected = [name for name, u in zip(self.clients, draw, strict=True) if u < self.policy.client_rate]
        self.tokens = {name: f"{derive(self.seed, 'token', self.round, name):016x}" for name in selected}
        return dict(self.tokens)

    def receive(self, message: Message) -> None:
        """Accept an update. Raises Refused where a guard objects."""
        for guard in GUARDS:
            if reason := guard(self, message):
                raise Refused(f"{message.client} {reason}.")
        self.tokens.pop(message.client, None)
        self.taken.append((self.update(message), message.examples))

    def update(self, message: Message) -> Weights:
        """How a message would move the global parameters."""
        return [new - old for new, old in zip(message.parameters, self.parameters, strict=True)]

    def close(self) -> None:
        """End the round: the global parameters move by the average of what was taken."""
        if observer := current_observer():
            observer.server_round(self, self.average)
        else:
            self.average()

    def average(self) -> None:
        """What `close` does, without consulting an observer.

        With a clip the average is the noised sum, divided by the expected number of clients, a public constant.
        """
        taken, policy, expected = self.taken, self.policy, self.policy.client_rate * len(self.clients)
        self.taken, self.tokens = [], {}
        if math.isinf(policy.clip):
            total = sum(examples for _, examples in taken)
            shares = [(update, examples / total) for update, examples in taken]
        else:
            shares = [(update, min(1.0, policy.clip / (norm(update) or 1.0)) / expected) for update, _ in taken]
        moved = [
            sum((np.float32(share) * update[i] for update, share in shares), np.zeros_like(old))
            for i, old in enumerate(self.parameters)
        ]
        if policy.noise_multiplier:
            rng = stream(self.seed, "noise", self.round)
            size = np.float32(2 * policy.clip * policy.noise_multiplier / expected)
            moved = [part + size * rng.standard_normal(part.shape, np.float32) for part in moved]
        self.parameters = [old + part for old, part in zip(self.parameters, moved, strict=True)]


def addressed(server: Server, message: Message) -> str | None:
    """An update answers the request of this round to this client, once."""
    if message.client not in server.clients:
        return "is not registered"
    if message.client not in server.tokens:
        return f"was not selected in round {server.round}, or has answered already"
    right = message.token == server.tokens[message.client]
    return None if right else f"sent a token that is not round {server.round}'s"


def counted(server: Server, message: Message) -> str | None:
    """No client outweighs the others by its claim."""
    right = type(message.examples) is int and 1 <= message.examples <= server.examples
    return None if right else f"claims {message.examples!r} examples, not a whole number from 1 to {server.examples}"


def shaped(server: Server, message: Message) -> str | None:
    """Arrays of the number, types and shapes of the global ones; NumPy would stretch or convert others in silence."""
    wanted, sent = server.parameters, message.parameters
    if not isinstance(sent, (list, tuple)) or len(sent) != len(wanted):
        return f"did not send a list of {len(wanted)} arrays"
    for i, (array, held) in enumerate(zip(sent, wanted, strict=True)):
        if not isinstance(array, np.ndarray):
            return f"sent a {type(array).__name__} as array {i}"
        if array.dtype != held.dtype or array.shape != held.shape:
            return f"sent {array.dtype} {array.shape} as array {i}, not {held.dtype} {held.shape}"
    return None


def finite_values(server: Server, message: Message) -> str | None:
    return None if all(np.isfinite(a).all() for a in message.parameters) else "sent a value that is not a finite number"


def bounded_values(server: Server, message: Message) -> str | None:
    top = max(float(np.abs(a).max(initial=0)) for a in message.parameters)
    return f"sent {top:.3g}, beyond {LARGEST:g}" if top > LARGEST else None


def bounded_norm(server: Server, message: Message) -> str | None:
    far, bound = norm(server.update(message)), server.policy.norm_bound
    return f"sent an update of norm {far:.3g}, above {bound:g}" if far > bound else None


def bounded_share(server: Server, message: Message) -> str | None:
    changed, most = sum(map(np.count_nonzero, server.update(message))), count(server.parameters, server.upload)
    return f"changed {changed} parameters, but {most} may change" if changed > most else None


# In this order: each relies on what those before it have checked.
GUARDS: tuple[Callable[[Server, Message], str | None], ...]
GUARDS = (addressed, counted, shaped, finite_values, bounded_values, bounded_norm, bounded_share)


def largest(update: Weights, share: float) -> Weights:
    """The `share` of an update that is largest in magnitude over all arrays, the rest 0 (Shokri and Shmatikov 2015)."""
    if share == 1:
        return update
    flat: NDArray[Any] = np.concatenate([np.ravel(part) for part in update])
    kept = np.argsort(-np.abs(flat), kind="stable")[: count(update, share)]
    sparse = np.zeros_like(flat)
    sparse[kept] = flat[kept]
    ends = np.cumsum([part.size for part in update])[:-1]
    return [piece.reshape(part.shape) for piece, part in zip(np.split(sparse, ends), update, strict=True)]


def count(weights: Weights, share: float) -> int:
    """How many parameters a share of them is; at least one."""
    return max(1, round(share * sum(part.size for part in weights)))


def norm(update: Weights) -> float:
    """L2 norm over all arrays."""
    return math.sqrt(sum(float(np.square(part, dtype=np.float64).sum()) for part in update))
