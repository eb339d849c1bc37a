"""The guarantee, computed in one place: one accountant (PLD), one rule for delta, one neighbouring relation.

dp_accounting is imported inside the functions, because the leaderboard is printed without it.
"""

from __future__ import annotations

import collections
import functools
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import Caveat, UserError

if TYPE_CHECKING:
    from dp_accounting import DpEvent

RELATION = "add/remove one record"
SELECTED = 10  # configurations tried, on average, before one is published
DELTA_RULE = "delta = 1e-5, or the largest power of ten not above 1/n where that is smaller (n: private records)"


def delta_for(n: int) -> float:
    """The one rule for delta of the leaderboard, see DELTA_RULE."""
    exponent = -5
    while n * 10.0**exponent > 1:
        exponent -= 1
    return float(f"1e{exponent}")


def training_event(rate: float, noise_multiplier: float, steps: int) -> DpEvent:
    """What DP-SGD does: `steps` Gaussian sums, each over a Poisson sample, every record with chance `rate`."""
    import dp_accounting as dp

    if not 0 <= noise_multiplier < math.inf:
        raise UserError(f"the noise multiplier must be a number from 0, not {noise_multiplier:g}.")
    if noise_multiplier == 0:
        return dp.NonPrivateDpEvent()
    return dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(noise_multiplier)), steps)


def no_access() -> DpEvent:
    """The private records were not touched at all."""
    import dp_accounting as dp

    return dp.NoOpDpEvent()


def no_privacy() -> DpEvent:
    """The private records were used without protection."""
    import dp_accounting as dp

    return dp.NonPrivateDpEvent()


def epsilon(event: DpEvent, delta: float, accountant: str = "pld") -> float:
    """The smallest epsilon that `accountant` ("pld" or "rdp") promises for `event` at `delta`, add/remove adjacency."""
    try:
        return _cached(event, delta, accountant)  # the seeds of a row have equal events
    except TypeError:  # an event with a list in it has no hash
        return _cached.__wrapped__(event, delta, accountant)


@functools.lru_cache(maxsize=64)
def _cached(event: DpEvent, delta: float, accountant: str) -> float:
    if accountant == "rdp":
        return _epsilon(event, delta, "rdp", 0.0)
    # With hardly any noise a fine grid of privacy losses fills the memory, and 1e6 needs no accuracy of 1e-4.
    rough = _epsilon(event, delta, "rdp", 0.0)
    return _epsilon(event, delta, "pld", max(1e-4, rough / 1e5) if math.isfinite(rough) else 1e-4)


def _epsilon(event: DpEvent, delta: float, accountant: str, interval: float) -> float:
    import dp_accounting as dp
    from dp_accounting import pld, rdp

    relation = dp.NeighboringRelation.ADD_OR_REMOVE_ONE
    if accountant == "pld":
        # Pessimistic rounding: a coarser interval can only overstate epsilon.
        judge = pld.PLDAccountant(relation, value_discretization_interval=interval)
    else:
        judge = rdp.RdpAccountant(neighboring_relation=relation)
    judge.compose(event)
    return float(judge.get_epsilon(delta))


def claim(event: DpEvent, n: int) -> dict[str, float]:
    """Epsilon by PLD, by RDP and after a private choice of options, at the leaderboard's delta for n private records.

    Warns with a Caveat where the cross-check fails.
    """
    delta = delta_for(n)
    by_pld, by_rdp = epsilon(event, delta), epsilon(event, delta, "rdp")
    if by_pld > by_rdp * 1.01 + 1e-9:
        warnings.warn(Caveat(f"PLD gives epsilon {by_pld:.3f}, above the {by_rdp:.3f} of the looser RDP"), stacklevel=2)
    return {"epsilon": by_pld, "epsilon_rdp": by_rdp, "epsilon_selected": selected(event, delta), "delta": delta}


def selected(event: DpEvent, delta: float) -> float:
    """Epsilon of `event` as the best of a geometric number of runs, SELECTED on average.

    The reported epsilon ignores the choice of options; this includes it where the choice is private (Papernot and
    Steinke 2022, theorem 2, by Rényi accounting).
    """
    from dp_accounting.dp_event import RepeatAndSelectDpEvent

    alone = epsilon(event, delta, "rdp")
    if alone in (0, math.inf):
        return alone
    return epsilon(RepeatAndSelectDpEvent(event, SELECTED, 1.0), delta, "rdp")


@functools.lru_cache(maxsize=256)
def noise_multiplier(target: float, delta: float, rate: float, steps: int) -> float:
    """The smallest noise multiplier (to 0.1 %) with which training keeps epsilon at or below `target`; 0 for inf.

    Raises UserError where the target is not above 0, or so far from 1 that the accountant cannot compute it.
    """
    import dp_accounting as dp

    if target == math.inf:
        return 0.0
    if not target > 0:
        raise UserError(f"epsilon must be above 0, not {target:g}; inf trains without privacy.")

    from dp_accounting import pld

    interval = min(1e-3, target / 100)  # a coarse one would overstate small epsilons

    def dp_event(sigma: float) -> float:
        return _epsilon(training_event(rate, sigma, steps), delta, "pld", interval)

    try:
        # Brackets from above: PLD is slow where there is nearly no noise.
        high = 1.0
        while dp_event(high) > target:
            high *= 2
        low = high / 2
        while dp_event(low) <= target:
            high, low = low, low / 2
        return float(
            dp.calibrate_dp_mechanism(
                lambda: pld.PLDAccountant(value_discretization_interval=interval),
                lambda sigma: training_event(rate, sigma, steps),
                target,
                delta,
                dp.ExplicitBracketInterval(low, high),
                tol=1e-3 * low,
            )
        )
    except (ValueError, OverflowError, MemoryError) as error:
        raise UserError(f"no noise was found for epsilon {target:g}: take one between 0.01 and 100, or inf.") from error


def parallel(events: Sequence[DpEvent], parts: Sequence[NDArray[Any]]) -> DpEvent:
    """Compose events on parts of the records (row numbers), parallel where that is sound, else one after the other.

    On disjoint parts a record that is added or removed touches one event only, so the largest counts (McSherry 2009);
    that holds for add/remove adjacency alone. All events must then be alike, so that the largest is the largest at
    every delta; unlike events, or parts that share a record, are composed sequentially. Raises ValueError where a part
    holds a row twice, because no event accounts for a record that counts double.
    """
    import dp_accounting as dp

    if any(len(np.unique(part)) != len(part) for part in parts):
        raise ValueError("a part holds a record twice: it would count double, and no event accounts for that")
    rows = np.concatenate([np.asarray(part, np.int64) for part in parts])
    disjoint = len(np.unique(rows)) == len(rows)
    if disjoint and all(event == events[0] for event in events):
        return events[0]
    return dp.ComposedDpEvent(list(events))


def describe(event: DpEvent) -> str:
    """How batches were sampled and noised, in words for the leaderboard."""
    import dp_accounting as dp

    match event:
        case dp.SelfComposedDpEvent(event=dp.PoissonSampledDpEvent() as sample, count=steps):
            sigma = sample.event.noise_multiplier
            return f"Poisson, rate {sample.sampling_probability:.4g}, {steps} steps, noise multiplier {sigma:.4g}"
        case dp.NoOpDpEvent():
            return "no access"
        case dp.NonPrivateDpEvent():
            return "none"
        case dp.ComposedDpEvent(events=events):
            parts = collections.Counter(describe(part) for part in events)
            return " + ".join(text if times == 1 else f"{times} times ({text})" for text, times in parts.items())
    return type(event).__name__
