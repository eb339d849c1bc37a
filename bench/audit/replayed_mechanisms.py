"""The noised sums of a defense, replayed: scores of trials with a canary in, and with it out.

One class for each mechanism that `bench.lint.instrumentation` observes. What is replayed is the code that ships: the
optimizer, the mechanism, the server. TensorFlow is imported inside the functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.audit.canary import Canary, concatenated, parameters, repeated_weights, replay_recipe, select_canary
from bench.core.dataset import Examples
from bench.core.randomness import derive, stream
from bench.dp import accounting
from bench.lint.instrumentation import Averaged, Seen, Summed, Trained
from bench.lint.white_box_steps import Steps

if TYPE_CHECKING:
    from dp_accounting import DpEvent

OnProgress = Callable[[str, int, int], None]
Sides = tuple[NDArray[np.float64], NDArray[np.float64]]
NUMBERS = 3_000_000  # parameters of all models that are trained at once
PAIRS = 32  # of models, at most at once: with more, building the program takes longer than its steps


class Replayed(Protocol):
    """A mechanism as it is accounted: its noise multiplier, and `steps` uses at a Poisson `rate`."""

    @property
    def what(self) -> str:
        """In words."""

    @property
    def noise_multiplier(self) -> float:
        """As stated."""

    @property
    def rate(self) -> float:
        """Of the samples."""

    @property
    def steps(self) -> int:
        """How often it was used."""

    def scores(self, pairs: int, seed: int, on_progress: OnProgress) -> Sides:
        """Of so many trials with the canary in, and of as many with it out, (pairs,) each; larger = more in."""


def event(replayed: Replayed, noise_multiplier: float) -> DpEvent:
    """The DP event of all uses of a mechanism with this noise."""
    return accounting.training_event(replayed.rate, noise_multiplier, replayed.steps)


@dataclass(frozen=True, eq=False)
class ReplayedTraining:
    """One model of a private training: a step of it, over and over from its first weights."""

    trained: Trained
    k: int
    canary: Canary

    @property
    def what(self) -> str:
        """In words."""
        canary = self.canary
        return f"training, canary {canary.what}, whose gradient is {canary.length:.3g} clips long"

    @property
    def noise_multiplier(self) -> float:
        """Of each step."""
        privacy = self.trained.recipes[self.k].privacy
        assert privacy
        return privacy.noise_multiplier

    @property
    def rate(self) -> float:
        """Of the Poisson samples."""
        return self.trained.recipes[self.k].rate

    @property
    def steps(self) -> int:
        """That ran."""
        return self.trained.recipes[self.k].steps

    def scores(self, pairs: int, seed: int, on_progress: OnProgress) -> Sides:
        """Many models at once, half of them with the canary, each with different noise; projected on its gradient."""
        canary, recipe = self.canary, self.trained.recipes[self.k]
        half = at_once(canary, pairs)
        rounds = -(-pairs // half)
        shipped = replay_recipe(recipe, rounds, recipe.privacy)
        parts = [concatenated([canary.base, canary.record])] * half + [canary.base] * half
        steps = Steps([shipped] * len(parts), parts, [derive(seed, "trial", i) for i in range(len(parts))])
        start, found = repeated_weights(canary.start, len(parts)), np.empty((rounds, len(parts)))
        for done in range(rounds):
            steps.set_weights(start)
            found[done] = steps.step() @ canary.direction
            on_progress("one step", min(pairs, (done + 1) * half), pairs)
        return found[:, :half].ravel()[:pairs], found[:, half:].ravel()[:pairs]


def at_once(canary: Canary, pairs: int) -> int:
    """How many pairs of models are trained side by side."""
    return max(1, min(pairs, PAIRS, NUMBERS // (2 * parameters(canary.start))))


@dataclass(frozen=True, eq=False)
class ReplayedMechanism:
    """One use of the Gaussian mechanism, on numbers with the canary and without: of them `at`, (…), is audited."""

    held_in: Summed
    held_out: Summed
    at: tuple[int, ...]
    steps: int
    what: str
    rate: float = 1.0

    @property
    def noise_multiplier(self) -> float:
        """As stated."""
        return self.held_out.noise_multiplier

    def scores(self, pairs: int, seed: int, on_progress: OnProgress) -> Sides:
        """The noised numbers, projected on what the canary changes of them."""
        from bench.dp import gaussian_mechanism

        direction = _changed(self.held_in, self.held_out)[self.at]
        direction = direction / (np.linalg.norm(direction) or 1.0)
        rng, found = stream(seed, "trials"), np.empty((2, pairs))
        for side, one in enumerate((self.held_in, self.held_out)):
            for i in range(pairs):
                noised = gaussian_mechanism.gaussian(one.values, one.l2_sensitivity, one.noise_multiplier, rng)
                found[side, i] = (noised[self.at] * direction).sum()
            on_progress("one use", (side + 1) * pairs, 2 * pairs)
        return found[0], found[1]


@dataclass(frozen=True, eq=False)
class ReplayedRounds:
    """The rounds of a server that noises: in one of them a client sends the longest update there is, or its opposite.

    One record can move a client by that much, and no further; the updates of the others stay.
    """

    seen: Averaged
    steps: int
    rate: float = 1.0
    what: str = "server, one client's update turned around"

    @property
    def noise_multiplier(self) -> float:
        """As the policy of the server says."""
        return float(self.seen.policy.noise_multiplier)

    def scores(self, pairs: int, seed: int, on_progress: OnProgress) -> Sides:
        """How far the round moved the parameters along that update."""
        from bench.models.federated import server as aggregation

        seen, rng = self.seen, stream(seed, "update")
        update = [rng.standard_normal(part.shape).astype(np.float32) for part in seen.before]
        size = np.float32(10 * seen.policy.clip / aggregation.norm(update))
        far = [size * part for part in update]
        found = np.empty((2, pairs))
        for i in range(2 * pairs):
            sign = np.float32(1 if i % 2 == 0 else -1)
            names = tuple(f"client {k}" for k in range(seen.clients))
            server = aggregation.Server(seen.before, names, 1, 1.0, seen.policy, derive(seed, "round", i))
            server.taken = [([sign * part for part in far], 1), *((taken, 1) for taken in seen.updates[1:])]
            server.close()
            moved = zip(server.parameters, seen.before, far, strict=True)
            found[i % 2, i // 2] = sum(float(((new - old) * part).sum()) for new, old, part in moved)
            if i % 1000 == 0:
                on_progress("one round", i, 2 * pairs)
        return found[0], found[1]


def replayed(
    run: Callable[[Examples], Any], private: Examples, extra: Sequence[tuple[str, Examples]], seed: int
) -> tuple[Any, list[Replayed]]:
    """What `run`, a defense of private records, returns, and each distinct mechanism that it used on them.

    extra: records of which the one that moves the numbers of a mechanism furthest is the canary there.
    """
    from bench.lint.instrumentation import watching

    with watching() as seen:
        given = run(private)
    found: list[Replayed] = [*_trainings(seen, private.shape, seed), *_rounds(seen)]
    if seen.summed:
        others = []
        for what, record in extra:
            with watching() as other:
                run(concatenated([private, record]))
            others.append((what, other.summed))
        found += _mechanisms(seen.summed, others, _uses(given.dp_event))
    return given, found


def _trainings(seen: Seen, shape: tuple[int, ...], seed: int) -> list[ReplayedTraining]:
    """One model of each recipe that was trained: that of the first data set with enough records."""
    known: list[Any] = []
    found = []
    for trained in seen.trained:
        for k, recipe in enumerate(trained.recipes):
            if recipe in known or not len(trained.parts[k]):
                continue
            known.append(recipe)
            canary = select_canary(trained, k, shape, stream(seed, "canary", len(known)))
            found.append(ReplayedTraining(trained, k, canary))
    return found


def _rounds(seen: Seen) -> list[ReplayedRounds]:
    count = Counter(one.policy for one in seen.averaged)
    first = {one.policy: one for one in reversed(seen.averaged)}
    return [ReplayedRounds(first[policy], rounds) for policy, rounds in count.items()]


def _mechanisms(
    held_out: Sequence[Summed], others: Sequence[tuple[str, Sequence[Summed]]], uses: Counter[float]
) -> list[ReplayedMechanism]:
    """For each use, with the canary that moves its numbers furthest.

    Where as many steps are accounted as there are rows with that noise, each row is one use, and the one that the
    canary moves furthest is audited.
    """
    rows = Counter[float]()
    for one in held_out:
        rows[one.noise_multiplier] += len(one.values) if one.values.ndim else 1
    found = []
    for i, out in enumerate(held_out):
        by_row = out.values.ndim > 0 and rows[out.noise_multiplier] == uses[out.noise_multiplier]
        best = None
        for what, summed in others:
            if len(summed) != len(held_out) or summed[i].values.shape != out.values.shape:
                raise ValueError("one record more changes how many numbers the defense hands to the mechanism")
            moved = _changed(summed[i], out)
            lengths = np.linalg.norm(moved.reshape(len(moved), -1), axis=1) if by_row else np.linalg.norm(moved)
            if best is None or np.max(lengths) > best[0]:
                at: tuple[int, ...] = (int(np.argmax(lengths)),) if by_row else ()
                best = float(np.max(lengths)), at, what, summed[i]
        assert best
        share = best[0] / out.l2_sensitivity
        words = f"mechanism, canary {best[2]}, which moves {'a row' if by_row else 'it'} by {share:.3g} sensitivities"
        steps = uses[out.noise_multiplier] if by_row else 1
        found.append(ReplayedMechanism(best[3], out, best[1], steps, words))
    return found


def _changed(held_in: Summed, held_out: Summed) -> NDArray[np.float64]:
    return np.subtract(held_in.values, held_out.values, dtype=np.float64)


def _uses(dp_event: Any) -> Counter[float]:
    """How often each noise multiplier is accounted."""
    import dp_accounting as dp

    match dp_event:
        case dp.SelfComposedDpEvent(event=inner, count=count):
            return Counter({noise: count * times for noise, times in _uses(inner).items()})
        case dp.ComposedDpEvent(events=events):
            return sum(map(_uses, events), Counter())
        case dp.PoissonSampledDpEvent(event=inner):
            return _uses(inner)
        case dp.GaussianDpEvent(noise_multiplier=noise):
            return Counter({float(noise): 1})
    return Counter()
