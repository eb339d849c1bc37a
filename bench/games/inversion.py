"""Model inversion: what did a private record of this label look like?"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples, Split
from bench.core.errors import Caveat, UserError
from bench.core.game import Challenge, Game, pictures_in, shuffled_labels
from bench.core.images import eight_bits
from bench.games import metrics, paired
from bench.models.ssim import own_ssim, ssim

if TYPE_CHECKING:
    from bench.core.release import Release

PICTURES = 40  # requested, or one per class where there are more classes
CLASSES = 200  # requested at most, chosen at random
NEAR = 1000  # private and public records, each, among which the nearest is searched
RELIABLE = 0.8  # accuracy of the evaluation network below which a caveat is given


@dataclass(frozen=True)
class InversionTargets:
    """The targets of an attack: a picture of `shape` in [0, 1] for each of `labels` (k,), every class equally often.

    codes: where the encoder is published, the embeddings of the target records (k, d), as a client would send them.
    """

    labels: NDArray[Any]
    shape: tuple[int, ...]
    classes: int
    codes: NDArray[Any] | None = None


@dataclass(frozen=True)
class InversionTruth:
    """The ground truth: the `true` record behind each target, some private and public records, the holdout.

    There are as many private as public records, so that a near one is equally likely among either.
    """

    true: Examples
    private: Examples
    public: Examples
    holdout: Examples


def _of_private(data: Split, rng: np.random.Generator) -> Challenge:
    return _drawn(data, np.unique(data.private.y), rng)


def _of_unseen(data: Split, rng: np.random.Generator) -> Challenge:
    """Targets half of the classes, where the adversary has public records of the other half alone (as in GMI).

    Zhang et al. 2020, section 4.1. A defense may have used the other public records too.
    """
    present = rng.permutation(np.unique(data.private.y))
    targeted = present[: len(present) // 2]
    others = data.public[~np.isin(data.public.y, targeted)]
    if not len(targeted) or not len(others):
        raise UserError(f"{data.name} has too few classes to ask about unseen ones: leave out of=unseen.")
    return replace(_drawn(data, targeted, rng), public=others)


def _drawn(data: Split, labels: NDArray[Any], rng: np.random.Generator) -> Challenge:
    """Every label equally often, each with a private record of that label behind it."""
    private, public = data.private, data.public
    labels = np.sort(rng.permutation(labels)[:CLASSES])
    each = math.ceil(PICTURES / len(labels))
    rows = [np.flatnonzero(private.y == label) for label in labels]
    chosen = np.stack([rng.choice(one, each, replace=len(one) < each) for one in rows], axis=1).ravel()
    near = min(NEAR, len(private), len(public))
    some_private, some_public = (part[rng.permutation(len(part))[:near]] for part in (private, public))
    targets = InversionTargets(private.y[chosen], private.shape, private.classes)
    return Challenge(targets, InversionTruth(private[chosen], some_private, some_public, data.holdout), public)


def _targets_visible(challenge: Challenge, release: Release) -> InversionTargets:
    targets: InversionTargets = challenge.targets
    return replace(targets, codes=release.encode(challenge.ground_truth.true.x)) if release.encode else targets


def _baseline(challenge: Challenge, seed: int) -> NDArray[Any]:
    """The mean public record of each label; of a label without public records, the mean of all."""
    public, labels = challenge.public, challenge.targets.labels
    means = {
        label: (public.x[public.y == label] if (public.y == label).any() else public.x).mean(0)
        for label in np.unique(labels)
    }
    return np.stack([means[label] for label in labels])


def _judge(
    answer: NDArray[Any], baseline: NDArray[Any], challenge: Challenge, rng: np.random.Generator
) -> dict[str, Any]:
    """How often an evaluation network recognises the target class, and which records the pictures resemble.

    Pictures of one class are not independent trials, so the classes are the units of every interval.
    """
    from bench.models.evaluation_network import evaluation_network

    targets, ground_truth = challenge.targets, challenge.ground_truth
    answer = pictures_in(answer, (len(targets.labels), *targets.shape))
    seed = int(rng.integers(2**62))  # drawn first: one network for all cells of a split
    predict = evaluation_network(ground_truth.holdout, seed)
    accuracy = metrics.accuracy(predict(ground_truth.private.x).argmax(1) == ground_truth.private.y)
    if accuracy["value"] < RELIABLE:
        caveat = f"the evaluation network itself recognises only {accuracy['value']:.0%} of true records"
        warnings.warn(Caveat(caveat), stacklevel=2)
    recognised, baseline_recognised = (
        _by_class(predict(pictures).argmax(1) == targets.labels, targets.labels) for pictures in (answer, baseline)
    )
    similar, baseline_similar = (_similarities(pictures, ground_truth) for pictures in (answer, baseline))
    estimates = {
        "headline": "recognition",
        "chance": 1 / targets.classes,
        "recognition": metrics.share(recognised),
        "baseline": metrics.share(baseline_recognised),
        "gain": paired.share_gain(recognised, baseline_recognised),
    }
    for name, values in similar.items():
        estimates[name] = metrics.average(_by_class(values, targets.labels))
        estimates[f"{name}_gain"] = metrics.average(_by_class(values - baseline_similar[name], targets.labels))
    answers = {"units": recognised}
    return estimates | {"evaluation_accuracy": accuracy, "pictures": len(answer), "answers": answers}


def _by_class(values: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    return np.array([values[labels == label].mean() for label in np.unique(labels)])


def _similarities(pictures: NDArray[Any], ground_truth: InversionTruth) -> dict[str, NDArray[Any]]:
    """Structural similarity of each picture (k,) to its true record and to the nearest private and public records.

    `identified` is 1 where the most similar of all true records has the target label, else 0. A similarity below 0
    (of a picture to its negative) counts as 0.
    """
    true = ground_truth.true
    nearest_private, nearest_public = (
        ssim(pictures, part.x).max(1).clip(0, 1) for part in (ground_truth.private, ground_truth.public)
    )
    return {
        "ssim": own_ssim(pictures, true.x).clip(0, 1),
        "nearest_private": nearest_private,
        "nearest_public": nearest_public,
        "closer_to_private": nearest_private - nearest_public,
        "identified": (true.y[ssim(pictures, true.x).argmax(1)] == true.y).astype(np.float64),
    }


def _contact_sheet(answer: NDArray[Any], baseline: NDArray[Any], challenge: Challenge) -> dict[str, NDArray[Any]]:
    rows = {"true": challenge.ground_truth.true.x, "reconstructed": answer, "baseline": baseline}
    return {name: eight_bits(row) for name, row in rows.items()}


INVERSION = Game(
    "inversion",
    "What did a private record of this label look like?",
    {"private": _of_private, "unseen": _of_unseen},
    _baseline,
    _judge,
    targets_visible=_targets_visible,
    contact_sheet=_contact_sheet,
    fewest={"unseen": {"private": 2, "public": 1}},
    requires=frozenset({"pictures"}),
    null_data=shuffled_labels,
    bounded=True,
)
