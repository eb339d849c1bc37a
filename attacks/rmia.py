"""The robust membership inference attack: a record against the population, each relative to reference models."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option, attack
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.release import Release
from bench.games import MEMBERSHIP, Targets
from bench.games.shadow_models import TURNS, ask, check_alike, share, train_shadows

LEAST = 1e-30
Array = NDArray[np.float64]


@attack("rmia", game=MEMBERSHIP, needs={"predict", "retrain"}, floor=0.8)
def rmia(
    release: Release,
    targets: Targets,
    public: Examples,
    *,
    seed: int,
    references: Annotated[
        int, Option("reference models that were trained without each record, at least", at_least=1)
    ] = 2,
    online: Annotated[bool, Option("use reference models that were trained with the record, too")] = False,
    a: Annotated[
        float,
        Option(
            "offline: how near to 1 training on a record brings its probability, 0 all the way, 1 not at all",
            at_least=0,
            at_most=1,
        ),
    ] = 0.3,
    gamma: Annotated[
        float,
        Option(
            "factor by which the likelihood ratio of a record must exceed that of a public record",
            above=0,
            below=math.inf,
        ),
    ] = 2.0,
) -> NDArray[Any]:
    """RMIA (Zarifzadeh et al. 2024): than which share of public records does the release explain a record better?

    references: models trained through the defense without it, at least so many for each record; online=true adds those
    that were trained with it. gamma: how many times better. a: offline, how near to 1 it is taken to bring a record's
    probability to train on it, from 0 (to 1) to 1 (not at all).
    """
    if references < 1 or not 0 <= a <= 1 or not 0 < gamma < math.inf:
        raise UserError(
            "rmia takes references from 1, a from 0 to 1 and gamma above 0, "
            f"not references={references}, a={a:g}, gamma={gamma:g}."
        )
    # Of each round every record is out of as many shadows as of any other, give or take one.
    rounds = math.ceil(references / max(1, math.floor(len(TURNS) * (1 - share(targets)))))
    trained = train_shadows(release, targets, public, rounds * len(TURNS))
    own, theirs = ask(release, truth, targets.records), trained.ask(truth, targets.records)
    check_alike(np.log(own), np.log(theirs))
    found = relative(own, theirs, trained.inside, online=online, a=a)
    own, theirs = ask(release, truth, public), trained.ask(truth, public)
    return dominance(found, relative(own, theirs, np.zeros(theirs.shape, bool), online=online, a=a), gamma)


def truth(probabilities: Array, y: NDArray[Any]) -> Array:
    """The probability of the true label, (n,)."""
    return np.asarray(np.maximum(probabilities[np.arange(len(y)), y], LEAST))


def relative(probability: Array, references: Array, inside: NDArray[np.bool_], *, online: bool, a: float) -> Array:
    """log(Pr(x | release) / Pr(x)), (n,), with Pr(x) estimated from references (k, n), of which those `inside` saw x.

    Online: the mean of the mean with and the mean without. Offline the one with it is taken to be a * without + 1 - a
    (section 3.1 and appendix B.2 there), and a record that no reference was without takes the mean with it.
    """
    counts = [side.sum(0) for side in (inside, ~inside)]
    seen, unseen = (
        np.where(side, references, 0).sum(0) / np.maximum(count, 1)
        for side, count in zip((inside, ~inside), counts, strict=True)
    )
    unseen = np.where(counts[1] > 0, unseen, seen)
    seen = np.where(counts[0] > 0, seen, unseen) if online else a * unseen + 1 - a
    return np.asarray(np.log(probability) - np.log((seen + unseen) / 2))


def dominance(records: Array, population: Array, gamma: float) -> Array:
    """Scores (n,): of the population's log ratios (m,), the share that a record's (n,) exceeds by log(gamma) or more.

    The share is a monotone function of the record's own ratio, which decides among records of equal share: it adds less
    than one m-th, so m public records do not limit how low a false positive rate can be asked for. O((n + m) log m).
    """
    share = np.searchsorted(np.sort(population), records - math.log(gamma), side="right") / len(population)
    return np.asarray(share + (0.5 + np.arctan(records) / math.pi) / (len(population) + 1))
