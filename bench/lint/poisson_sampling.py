"""The lots of a training: each record in each with the recipe's chance, whatever the others and other steps do.

A network of which one number belongs to each record shows in every sum how often it holds that record.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples
from bench.core.randomness import derive
from bench.dp.networks import Classifier
from bench.lint.hypothesis_tests import SURE, dispersion
from bench.lint.white_box_steps import Steps
from bench.store.lint_verdicts import LintFinding

if TYPE_CHECKING:
    from bench.dp.recipe import Recipe

RECORDS, STEPS = 64, 200
OTHER, SMALL = 0.3, 0.015  # rates beside the recipe's own; lots of few are drawn another way
CUTS = 0.1, 0.5, 0.9  # of the sizes that lots should have: how many lots are at most so large
FEWEST = 100  # records in all lots, or out of them: how so few vary is not what `dispersion` takes it to be
PIECE = 16  # records computed at once, so that lots come in pieces
Counts = NDArray[np.float64]


def sampler(recipes: Sequence[Recipe], seed: int) -> list[LintFinding]:
    """Look at the lots of each way to train that differs in more than its network and its pace."""
    from bench.dp.recipe import Privacy, Recipe

    found: dict[str, LintFinding] = {}
    net, privacy, size = Classifier((RECORDS,), 2, ()), Privacy(0.5, 0.0), 10.0
    keys = {
        Recipe(
            net, STEPS, one.rate, size, size, one.optimizer, privacy=privacy, engine=one.engine, physical_batch=PIECE
        )
        for one in recipes
    }
    for recipe in keys:
        rates = [recipe.rate], [OTHER, OTHER, SMALL]
        counted = [
            _counted([replace(recipe, rate=rate) for rate in own], derive(seed, "sampler", k))
            for k, own in enumerate(rates)
        ]
        for wrong in itertools.chain(*map(_wrong, counted, rates), _seeds(counted, recipe.rate)):
            found.setdefault(wrong, LintFinding("sampler", wrong))
    return list(found.values())


def _seeds(counted: Sequence[Counts], rate: float) -> Iterator[str]:
    """Of trainings with two seeds, of which the first draws with this rate and the second with OTHER."""
    one, other = (np.round(counts[:, 0]) for counts in counted)
    if rate < 1 and _meet(one, other, rate * OTHER):
        yield "lots are the same for two seeds: draw them from the seed, for who knows them is not amplified against"


def _counted(recipes: Sequence[Recipe], seed: int) -> Counts:
    """How often each lot holds each record: (steps, models, records)."""
    models = len(recipes)
    part = Examples(np.eye(RECORDS), np.arange(RECORDS) % 2, 2)
    steps = Steps(recipes, [part] * models, [seed + k for k in range(models)])
    weights = [np.zeros_like(w) for w in steps.weights]

    def kernels(sums: NDArray[Any]) -> NDArray[Any]:
        return sums[..., : 2 * RECORDS].reshape(*sums.shape[:-1], RECORDS, 2)

    # Where nothing was learnt yet, records of one label are alike.
    two = [kernels(steps.lot([[i]] * models, weights))[:, i] for i in range(2)]
    alone = np.tile(np.stack(two, axis=1), (1, RECORDS // 2, 1))
    lots = kernels(steps.run(STEPS, weights))
    return np.asarray((lots * alone).sum(-1) / np.maximum((alone**2).sum(-1), 1e-12))


def _wrong(counts: Counts, rates: Sequence[float]) -> Iterator[str]:
    if np.abs(counts - np.clip(np.round(counts), 0, 1)).max() > 0.01:
        yield (
            "a lot holds a record another number of times than once or not at all, or its share depends on the others: "
            "add up each sampled record once, and divide by the constant batch_size"
        )
        return
    from scipy import stats

    held = np.round(counts)
    for k, rate in enumerate(rates):
        own, law = held[:, k], stats.binom(held[:, k].size, rate)
        total = own.sum()
        if 2 * min(law.cdf(total), law.sf(total - 1)) < SURE:
            yield f"records are in {own.mean():.3g} of the lots, not in the accounted {rate:g}: sample with the rate"
            continue
        if rate == 1:
            continue
        for axis, what in (
            (1, "lots do not vary in size as Poisson lots do"),
            (0, "records come in turns, not by chance"),
        ):
            n = own.shape[axis]
            variance = rate * (1 - rate)
            kurtosis = (1 - 6 * variance) / (n * variance)
            some = variance * own.size >= FEWEST
            if some and dispersion(own.sum(axis), n * rate, n * variance, kurtosis) < SURE:
                yield f"{what}: draw every record of every lot by itself, as it is accounted"
        sizes, of_lots = own.sum(1), stats.binom(RECORDS, rate)
        for cut in of_lots.ppf(CUTS):
            law, small = stats.binom(len(sizes), of_lots.cdf(cut)), (sizes <= cut).sum()
            if 2 * min(law.cdf(small), law.sf(small - 1)) < SURE:
                yield (
                    f"{small} of {len(sizes)} lots hold at most {cut:g} records, where Poisson lots are "
                    f"{law.mean():.3g}: neither fill up nor cut lots"
                )
                break
        if _meet(own[0::2], own[1::2], rate * rate):
            yield "lots depend on the ones before them: draw every lot anew"
    for a, b in itertools.combinations(range(len(rates)), 2):
        if max(rates[a], rates[b]) < 1 and _meet(held[:, a], held[:, b], rates[a] * rates[b]):
            yield "two models draw the same lots: give each its own stream of batches"


def _meet(a: Counts, b: Counts, chance: float) -> bool:
    """Whether the same record is in both of two lots less or more often than by chance."""
    from scipy import stats

    law, together = stats.binom(a.size, chance), float((a * b).sum())
    return bool(2 * min(law.cdf(together), law.sf(together - 1)) < SURE)
