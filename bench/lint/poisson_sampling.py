"""Tests Poisson sampling: every record is in every batch with the rate of the recipe, independently.

The replayed network has weights that belong to a single record each, so every sum shows how often it contains a record.
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
from bench.lint.hypothesis_tests import SIGNIFICANCE, dispersion_p_value
from bench.lint.white_box_steps import Steps
from bench.store.records import LintFinding

if TYPE_CHECKING:
    from bench.dp.recipe import Recipe

PROBE = "Poisson sampling"
RECORDS, STEPS = 64, 200
OTHER, SMALL = 0.3, 0.015  # rates beside that of the recipe
QUANTILES = 0.1, 0.5, 0.9  # of the batch size, at which the number of smaller batches is tested
MIN_VARIANCE = 100  # records in, or missing from, all batches: with fewer the gamma approximation does not hold
PIECE = 16  # records computed at once, so that batches are split
Counts = NDArray[np.float64]


def poisson_sampling(recipes: Sequence[Recipe], seed: int) -> list[LintFinding]:
    """Test the batches of each recipe that differs in more than its network and learning rate."""
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
        rates = [recipe.rate], [recipe.rate, OTHER, OTHER, SMALL]
        counted = [
            _counts([replace(recipe, rate=rate) for rate in own], derive(seed, "sampler", k))
            for k, own in enumerate(rates)
        ]
        for wrong in itertools.chain(*map(sampling_defects, counted, rates), _seed_defects(counted, recipe.rate)):
            found.setdefault(wrong, LintFinding(PROBE, wrong))
    return list(found.values())


def _seed_defects(counted: Sequence[Counts], rate: float) -> Iterator[str]:
    """Compare the first models of trainings with two seeds, both of this rate.

    At two rates batches of equal random numbers need not have records in common.
    """
    one, other = (np.round(counts[:, 0]) for counts in counted)
    if rate < 1 and _dependent(one, other, rate * rate):
        yield (
            "batches are the same for two seeds: sample them from the seed, since privacy is amplified only against "
            "an adversary who does not know them"
        )


def _counts(recipes: Sequence[Recipe], seed: int) -> Counts:
    """How often each batch contains each record: (steps, models, records)."""
    models = len(recipes)
    part = Examples(np.eye(RECORDS), np.arange(RECORDS) % 2, 2)
    steps = Steps(recipes, [part] * models, [seed + k for k in range(models)])
    weights = [np.zeros_like(w) for w in steps.weights]

    def kernels(sums: NDArray[Any]) -> NDArray[Any]:
        return sums[..., : 2 * RECORDS].reshape(*sums.shape[:-1], RECORDS, 2)

    # At zero weights the gradients of records with the same label are alike.
    two = [kernels(steps.batch_sums([[i]] * models, weights))[:, i] for i in range(2)]
    alone = np.tile(np.stack(two, axis=1), (1, RECORDS // 2, 1))
    batches = kernels(steps.run(STEPS, weights))
    return np.asarray((batches * alone).sum(-1) / np.maximum((alone**2).sum(-1), 1e-12))


def sampling_defects(counts: Counts, rates: Sequence[float]) -> Iterator[str]:
    """What distinguishes batches (steps, models, records) from independent Poisson samples with one rate per model."""
    if np.abs(counts - np.clip(np.round(counts), 0, 1)).max() > 0.01:
        yield (
            "a batch contains a record more than once or in part, or its weight depends on the other records: add up "
            "each sampled record once, and divide by the constant batch_size"
        )
        return
    counts = np.round(counts)
    for k, rate in enumerate(rates):
        yield from _model_defects(counts[:, k], rate)
    for a, b in itertools.combinations(range(len(rates)), 2):
        if max(rates[a], rates[b]) < 1 and _dependent(counts[:, a], counts[:, b], rates[a] * rates[b]):
            yield "two models sample the same batches: give each its own stream of batches"


def _model_defects(counts: Counts, rate: float) -> Iterator[str]:
    """Defects of the batches (steps, records) of one model."""
    from scipy import stats

    law, total = stats.binom(counts.size, rate), counts.sum()
    if 2 * min(law.cdf(total), law.sf(total - 1)) < SIGNIFICANCE:
        yield (
            f"records are in {counts.mean():.3g} of the batches, not in the accounted {rate:g}: sample with this rate"
        )
        return
    if rate == 1:
        return
    for axis, what in (
        (1, "batch sizes do not vary as those of Poisson samples do"),
        (0, "records are sampled in turn, not at random"),
    ):
        n = counts.shape[axis]
        variance = rate * (1 - rate)
        kurtosis = (1 - 6 * variance) / (n * variance)
        enough = variance * counts.size >= MIN_VARIANCE
        if enough and dispersion_p_value(counts.sum(axis), n * rate, n * variance, kurtosis) < SIGNIFICANCE:
            yield f"{what}: sample every record of every batch independently, as it is accounted"
    sizes, of_batches = counts.sum(1), stats.binom(RECORDS, rate)
    for quantile in of_batches.ppf(QUANTILES):
        law, small = stats.binom(len(sizes), of_batches.cdf(quantile)), (sizes <= quantile).sum()
        if 2 * min(law.cdf(small), law.sf(small - 1)) < SIGNIFICANCE:
            yield (
                f"{small} of {len(sizes)} batches have at most {quantile:g} records, where {law.mean():.3g} Poisson "
                "samples do: neither pad nor truncate batches"
            )
            break
    if _dependent(counts[0::2], counts[1::2], rate * rate):
        yield "batches depend on earlier ones: sample every batch anew"


def _dependent(a: Counts, b: Counts, chance: float) -> bool:
    """Whether the same record is in both of two batches more or less often than with this probability."""
    from scipy import stats

    law, together = stats.binom(a.size, chance), float((a * b).sum())
    return bool(2 * min(law.cdf(together), law.sf(together - 1)) < SIGNIFICANCE)
