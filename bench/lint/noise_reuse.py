"""Noise that a release was given: as much as it should be, and none of it twice, in one release or under two seeds."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.lint import server_noise
from bench.lint.hypothesis_tests import LEAST, SURE, alike, echo, normal, spread, tail
from bench.lint.instrumentation import Seen
from bench.lint.probe_run import Run
from bench.store.lint_verdicts import LintFinding

MOST = 12  # sums of a run that are held against each other
LONGEST, MANY = 20_000, 1000  # numbers that are laid along themselves, and of which none are equal by chance
TIES = 2
SAME = 1e-8  # of a squared cosine: what rounding leaves
ASKED = 50, 200  # rows and columns
MECHANISM = "Gaussian mechanism"
Noise = NDArray[np.float64]


def fresh(one: Run, other: Run) -> list[LintFinding]:
    """Of a blindfolded run, so that its noise stands alone, and an open one with another seed."""
    found = [*_seeds(one.seen, other.seen)]
    mine, theirs = (_replayed(one.seen, seed) for seed in range(2))
    found += _wrong(MECHANISM, _of_sums(one.seen, alone=True) + mine, _of_sums(other.seen, alone=False) + theirs)
    found += _wrong("server", _of_rounds(one.seen, alone=True), _of_rounds(other.seen, alone=False))
    if _bare(other):
        found.append("what it lets out holds the noise of the Gaussian mechanism: draw that from a stream of its own")
    return [LintFinding("fresh", what) for what in dict.fromkeys(found)]


def _bare(opened: Run) -> bool:
    """Whether the noise of a sum stands alone in what is let out, anywhere, at any scale."""
    shown = [a.ravel() for a in (*opened.held.values(), *opened.let_out.values()) if a.dtype.kind == "f"]
    for one in opened.seen.summed[:MOST]:
        # Where a sum is nothing, its noise is what may be let out.
        noise = np.where(one.values == 0, 0.0, one.noised - one.values).ravel()
        for array in shown:
            size = min(noise.size, array.size)
            if np.count_nonzero(noise[:size]) > LEAST and laid(noise[:size], array[:LONGEST]):
                return True
    return False


def laid(noise: Noise, along: NDArray[Any]) -> bool:
    """Whether numbers are, up to a factor, those of a stretch of others."""
    from scipy import signal

    along = along.astype(np.float64)
    if not np.isfinite(along).all() or not along.any():
        return False
    product = signal.correlate(along, noise, "valid", "fft")
    energy = signal.correlate(along**2, (noise != 0) * 1.0, "valid", "fft") * float(noise @ noise)
    return bool((product**2 > (1 - SAME) * energy)[energy > SAME * energy.max()].any())


def _of_sums(seen: Seen, *, alone: bool) -> list[Noise]:
    noises = [
        (np.ravel(s.noised if alone else s.noised - s.values), s.l2_sensitivity * s.noise_multiplier)
        for s in seen.summed
    ]
    return [noise / deviation for noise, deviation in noises if deviation]


def _replayed(seen: Seen, seed: int) -> list[Noise]:
    """What the mechanism, asked as it was, adds to many zeros: the few numbers of a release tell little of its law."""
    from bench.dp import gaussian_mechanism

    asked = dict.fromkeys((s.l2_sensitivity, s.noise_multiplier) for s in seen.summed if s.noise_multiplier)
    rng = np.random.default_rng(seed)
    return [
        np.ravel(gaussian_mechanism.gaussian(np.zeros(ASKED), size, noise, rng)) / (size * noise)
        for size, noise in asked
    ]


def _of_rounds(seen: Seen, *, alone: bool) -> list[Noise]:
    return [server_noise.noise(one, alone=alone) for one in seen.averaged]


def _seeds(one: Seen, other: Seen) -> Iterator[str]:
    mine, theirs = (Counter(seed for trained in seen.trained for seed in trained.seeds) for seen in (one, other))
    if any(times > 1 for times in (mine | theirs).values()):
        yield "two private trainings have one seed, so their noise is the same: derive a seed for each"
    if mine.keys() & theirs.keys():
        yield "a private training has the same seed whatever the seed of the release: derive the one from the other"


def _wrong(door: str, mine: list[Noise], theirs: list[Noise]) -> Iterator[str]:
    """Of the noises of a door, in units of their deviation, in two runs with different seeds."""
    whole = np.concatenate([*mine, *theirs, []])
    if whole.size and spread(whole, 1.0) < SURE:
        share = float(np.sqrt(np.mean(whole**2)))
        yield f"the noise of the {door} has {share:.3g} times the promised standard deviation: add it once, whole"
        return
    if whole.size and (normal(whole) < SURE or tail(whole) < SURE):
        yield f"the noise of the {door} is not normal: the account holds for the Gaussian mechanism alone"
    own, foreign = (_figures(noises) if door == MECHANISM else np.zeros(0) for noises in (mine, theirs))
    within = door == MECHANISM and any(_ties(_figures([noise])) for noise in mine)
    if within or any(map(_again, (*mine[:MOST], *theirs[:MOST]))):
        yield f"the noise of the {door} comes again within one use of it: draw it for every number"
    pairs = (pair for noises in (mine, theirs) for pair in itertools.combinations(noises[:MOST], 2))
    if (_ties(own) and not within) or any(_same(a, b) for a, b in pairs):
        yield f"the noise of the {door} is the same in two places of one release: draw it anew, from one generator"
    both = np.intersect1d(own, foreign).size >= TIES
    if both or any(_same(a, b) for a, b in itertools.product(mine[:MOST], theirs[:MOST])):
        yield f"the noise of the {door} is the same for two seeds: hand it a generator that is made from the seed"


def _same(a: Noise, b: Noise) -> bool:
    size = min(a.size, b.size)
    return alike(a[:size], b[:size], 1.0) < SURE


def _again(noise: Noise) -> bool:
    """Whether some of it is like other of it, a place or more further."""
    cut = noise[:LONGEST]
    return echo([(cut, cut)]) < SURE


def _figures(noises: list[Noise]) -> Noise:
    """So few that no two are equal by chance, of as many uses as there is room for: nine decimals, without a sign."""
    figures: Noise = np.round(np.abs(np.concatenate([*noises, []])[:MANY]), 9)
    return figures


def _ties(figures: Noise) -> bool:
    """Whether some are equal: of one use, or in two places."""
    return np.unique(figures).size <= figures.size - TIES
