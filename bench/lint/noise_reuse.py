"""Tests that noise has the promised variance and is never reused within a release or across seeds."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.lint.hypothesis_tests import (
    MIN_OVERLAP,
    SIGNIFICANCE,
    correlation_p_value,
    lagged_correlation_p_value,
    maximum_p_value,
    normality_p_value,
    variance_p_value,
)
from bench.lint.instrumentation import Seen
from bench.lint.probe_run import ProbeRun
from bench.lint.server_noise import round_noise
from bench.store.records import LintFinding

PROBE = "noise reuse"
MAX_COMPARED = 12  # sums of a run that are compared pairwise
MAX_LENGTH = 20_000  # values in a test at every lag
MAX_ROUNDED = 1000  # values of which no two are equal by chance at nine decimals
MIN_TIES = 2
COSINE_TOLERANCE = 1e-8  # of a squared cosine: rounding
REPLAY_SHAPE = 50, 200
MECHANISM = "Gaussian mechanism"
Noise = NDArray[np.float64]


def noise_reuse(one: ProbeRun, other: ProbeRun) -> list[LintFinding]:
    """Test the noise of a run with constant inputs, whose sums are noise alone, and of one with another seed."""
    found = [*_shared_seeds(one.seen, other.seen)]
    mine, theirs = (_replayed_mechanism_noise(one.seen, seed) for seed in range(2))
    found += _noise_defects(
        MECHANISM, _mechanism_noise(one.seen, alone=True) + mine, _mechanism_noise(other.seen, alone=False) + theirs
    )
    found += _noise_defects("server", _server_noise(one.seen, alone=True), _server_noise(other.seen, alone=False))
    if _noise_is_released(other):
        found.append("the release contains the noise of the Gaussian mechanism: draw that from a generator of its own")
    return [LintFinding(PROBE, what) for what in dict.fromkeys(found)]


def _noise_is_released(run: ProbeRun) -> bool:
    """Whether the outputs contain the noise of a sum by itself, at any position and scale."""
    released = [a.ravel() for a in (*run.reachable.values(), *run.outputs.values()) if a.dtype.kind == "f"]
    for one in run.seen.summed[:MAX_COMPARED]:
        # Where a sum is 0, its noise is the noised value, which may be released.
        noise = np.where(one.values == 0, 0.0, one.noised - one.values).ravel()
        for array in released:
            size = min(noise.size, array.size)
            if np.count_nonzero(noise[:size]) > MIN_OVERLAP and contains_multiple(noise[:size], array[:MAX_LENGTH]):
                return True
    return False


def contains_multiple(noise: Noise, array: NDArray[Any]) -> bool:
    """Whether some stretch of `array` is a multiple of `noise`; entries of `noise` that are 0 match anything."""
    from scipy import signal

    array = array.astype(np.float64)
    if not np.isfinite(array).all() or not array.any():
        return False
    product = signal.correlate(array, noise, "valid", "fft")
    energy = signal.correlate(array**2, (noise != 0) * 1.0, "valid", "fft") * float(noise @ noise)
    return bool((product**2 > (1 - COSINE_TOLERANCE) * energy)[energy > COSINE_TOLERANCE * energy.max()].any())


def _mechanism_noise(seen: Seen, *, alone: bool) -> list[Noise]:
    noises = [
        (np.ravel(s.noised if alone else s.noised - s.values), s.l2_sensitivity * s.noise_multiplier)
        for s in seen.summed
    ]
    return [noise / deviation for noise, deviation in noises if deviation]


def _replayed_mechanism_noise(seen: Seen, seed: int) -> list[Noise]:
    """The noise that the mechanism adds to many zeros: the few values of one release do not show its distribution."""
    from bench.dp import gaussian_mechanism

    used = dict.fromkeys((s.l2_sensitivity, s.noise_multiplier) for s in seen.summed if s.noise_multiplier)
    rng = np.random.default_rng(seed)
    return [
        np.ravel(gaussian_mechanism.gaussian(np.zeros(REPLAY_SHAPE), size, noise, rng)) / (size * noise)
        for size, noise in used
    ]


def _server_noise(seen: Seen, *, alone: bool) -> list[Noise]:
    return [round_noise(one, alone=alone) for one in seen.averaged]


def _shared_seeds(one: Seen, other: Seen) -> Iterator[str]:
    mine, theirs = (Counter(seed for trained in seen.trained for seed in trained.seeds) for seen in (one, other))
    if any(times > 1 for times in (mine | theirs).values()):
        yield "two private trainings have the same seed, so their noise is the same: derive a seed for each"
    if mine.keys() & theirs.keys():
        yield "a private training has the same seed whatever the seed of the release: derive the one from the other"


def _noise_defects(source: str, mine: list[Noise], theirs: list[Noise]) -> Iterator[str]:
    """Defects of the noise of one source, in units of its standard deviation, in two runs with different seeds."""
    whole = np.concatenate([*mine, *theirs, []])
    if whole.size and variance_p_value(whole, 1.0) < SIGNIFICANCE:
        share = float(np.sqrt(np.mean(whole**2)))
        yield f"the noise of the {source} has {share:.3g} times the promised standard deviation: add it once, in full"
        return
    if whole.size and (normality_p_value(whole) < SIGNIFICANCE or maximum_p_value(whole) < SIGNIFICANCE):
        yield f"the noise of the {source} is not normal: the accounting holds for the Gaussian mechanism alone"
    own, foreign = (_rounded(noises) if source == MECHANISM else np.zeros(0) for noises in (mine, theirs))
    within = source == MECHANISM and any(_has_ties(_rounded([noise])) for noise in mine)
    if within or any(map(_repeats_itself, (*mine[:MAX_COMPARED], *theirs[:MAX_COMPARED]))):
        yield f"the noise of the {source} repeats within one use of it: draw it for every number"
    pairs = (pair for noises in (mine, theirs) for pair in itertools.combinations(noises[:MAX_COMPARED], 2))
    if (_has_ties(own) and not within) or any(_correlated(a, b) for a, b in pairs):
        yield f"the noise of the {source} is the same in two uses of one release: draw it anew, from one generator"
    both = np.intersect1d(own, foreign).size >= MIN_TIES
    if both or any(_correlated(a, b) for a, b in itertools.product(mine[:MAX_COMPARED], theirs[:MAX_COMPARED])):
        yield f"the noise of the {source} is the same for two seeds: pass it a generator that is made from the seed"


def _correlated(a: Noise, b: Noise) -> bool:
    size = min(a.size, b.size)
    return correlation_p_value(a[:size], b[:size], 1.0) < SIGNIFICANCE


def _repeats_itself(noise: Noise) -> bool:
    """Whether the noise correlates with itself at a non-zero lag."""
    cut = noise[:MAX_LENGTH]
    return lagged_correlation_p_value([(cut, cut)]) < SIGNIFICANCE


def _rounded(noises: list[Noise]) -> Noise:
    """Absolute values at nine decimals, of as many noises as fit: so few that no two are equal by chance."""
    rounded: Noise = np.round(np.abs(np.concatenate([*noises, []])[:MAX_ROUNDED]), 9)
    return rounded


def _has_ties(rounded: Noise) -> bool:
    return np.unique(rounded).size <= rounded.size - MIN_TIES
