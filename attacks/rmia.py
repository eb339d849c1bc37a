"""The robust membership inference attack: a record compared with the population, relative to reference models."""

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
from bench.games.shadow_models import QUARTERS, check_same_distribution, member_share, query, train_shadows

LEAST = 1e-30
Array = NDArray[np.float64]


@attack("rmia", game=MEMBERSHIP, needs={"predict", "retrain"}, required_score=0.8)
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
    """RMIA (Zarifzadeh et al. 2024): the share of public records whose likelihood ratio a record's exceeds by gamma.

    references: at least so many models per record, trained through the defense without it; online=true adds those that
    were trained with it. a: offline, the assumed effect of training on a record: from 0 (its probability becomes 1) to
    1 (no effect).
    """
    if references < 1 or not 0 <= a <= 1 or not 0 < gamma < math.inf:
        raise UserError(
            "rmia takes references from 1, a from 0 to 1 and gamma above 0, "
            f"not references={references}, a={a:g}, gamma={gamma:g}."
        )
    # In each round every record is left out of as many shadows as any other, give or take one.
    rounds = math.ceil(references / max(1, math.floor(len(QUARTERS) * (1 - member_share(targets)))))
    trained = train_shadows(release, targets, public, rounds * len(QUARTERS))

    def probabilities(records: Examples) -> tuple[Array, Array]:
        return query(release, true_probability, records), trained.query(true_probability, records)

    released, referenced = probabilities(targets.records)
    check_same_distribution(np.log(released), np.log(referenced))
    ratios = relative(released, referenced, trained.inside, online=online, a=a)
    released, referenced = probabilities(public)
    population = relative(released, referenced, np.zeros(referenced.shape, bool), online=online, a=a)
    return dominance(ratios, population, gamma)


def true_probability(probabilities: Array, y: NDArray[Any]) -> Array:
    """The probability of the true label, (n,)."""
    return np.asarray(np.maximum(probabilities[np.arange(len(y)), y], LEAST))


def relative(probability: Array, references: Array, inside: NDArray[np.bool_], *, online: bool, a: float) -> Array:
    """log(Pr(x | release) / Pr(x)), (n,), with Pr(x) estimated from references (k, n), `inside` where trained with x.

    Online: the mean of the mean with x and the mean without. Offline the mean with x is taken to be a * without + 1 - a
    (section 3.1 and appendix B.2 there). A record that all references were trained with takes the mean with it.
    """
    counts = [side.sum(0) for side in (inside, ~inside)]
    with_x, without_x = (
        np.where(side, references, 0).sum(0) / np.maximum(count, 1)
        for side, count in zip((inside, ~inside), counts, strict=True)
    )
    without_x = np.where(counts[1] > 0, without_x, with_x)
    with_x = np.where(counts[0] > 0, with_x, without_x) if online else a * without_x + 1 - a
    return np.asarray(np.log(probability) - np.log((with_x + without_x) / 2))


def dominance(records: Array, population: Array, gamma: float) -> Array:
    """Scores (n,): of the population's log ratios (m,), the share that a record's (n,) exceeds by log(gamma) or more.

    The share is a monotone function of the record's ratio, which breaks ties between records of equal share: it adds
    less than 1 / m, so that m public records do not limit how low a false positive rate can be. O((n + m) log m).
    """
    share = np.searchsorted(np.sort(population), records - math.log(gamma), side="right") / len(population)
    return np.asarray(share + (0.5 + np.arctan(records) / math.pi) / (len(population) + 1))
