"""Model inversion: what did a private record of this label look like?"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Data, Examples
from bench.core.errors import Caveat, UserError
from bench.core.game import Challenge, Game, mislabelled, pictures_in
from bench.core.images import eight_bits
from bench.games import metrics
from bench.models.ssim import own_ssim, ssim

if TYPE_CHECKING:
    from bench.core.release import Release

PICTURES = 40  # that are asked for, or one a class where there are more classes
CLASSES = 200  # that are asked about at most, chosen at random
NEAR = 1000  # private and public records, each, among which the nearest is looked for
RELIABLE = 0.8  # accuracy below which the evaluation network's word is doubted


@dataclass(frozen=True)
class Wanted:
    """What an attack is asked for: a picture of `shape` in [0, 1] for each of `labels` (k,), every class equally often.

    codes: where the release lets records be encoded, those of the private records in question (k, d): what a client
    would send.
    """

    labels: NDArray[Any]
    shape: tuple[int, ...]
    classes: int
    codes: NDArray[Any] | None = None


@dataclass(frozen=True)
class Secret:
    """What the judge knows: the `true` record of each wanted picture, some private and public records, the holdout.

    private and public are as many, so that neither has better odds of holding a near one.
    """

    true: Examples
    private: Examples
    public: Examples
    holdout: Examples


def _of_private(data: Data, rng: np.random.Generator) -> Challenge:
    return _asked(data, np.unique(data.private.y), rng)


def _of_unseen(data: Data, rng: np.random.Generator) -> Challenge:
    """The same of half of the classes, where the adversary has public records of the other half alone (as in GMI).

    Zhang et al. 2020, section 4.1. A defense may have used the other public records too.
    """
    present = rng.permutation(np.unique(data.private.y))
    asked = present[: len(present) // 2]
    others = data.public[~np.isin(data.public.y, asked)]
    if not len(asked) or not len(others):
        raise UserError(f"{data.name} has too few classes to ask about unseen ones: leave out of=unseen.")
    return replace(_asked(data, asked, rng), public=others)


def _asked(data: Data, labels: NDArray[Any], rng: np.random.Generator) -> Challenge:
    """Labels in turn, each with a private record of that label behind it."""
    private, public = data.private, data.public
    labels = np.sort(rng.permutation(labels)[:CLASSES])
    each = math.ceil(PICTURES / len(labels))
    rows = [np.flatnonzero(private.y == label) for label in labels]
    chosen = np.stack([rng.choice(own, each, replace=len(own) < each) for own in rows], axis=1).ravel()
    near = min(NEAR, len(private), len(public))
    ours, others = (part[rng.permutation(len(part))[:near]] for part in (private, public))
    wanted = Wanted(private.y[chosen], private.shape, private.classes)
    return Challenge(wanted, Secret(private[chosen], ours, others, data.holdout), public)


def _targets_visible(challenge: Challenge, release: Release) -> Wanted:
    wanted: Wanted = challenge.targets
    return replace(wanted, codes=release.encode(challenge.ground_truth.true.x)) if release.encode else wanted


def _baseline(challenge: Challenge, seed: int) -> NDArray[Any]:
    """The mean public record of the label, of all where it has none."""
    public, labels = challenge.public, challenge.targets.labels
    means = {
        label: (public.x[public.y == label] if (public.y == label).any() else public.x).mean(0)
        for label in np.unique(labels)
    }
    return np.stack([means[label] for label in labels])


def _judge(
    answer: NDArray[Any], baseline: NDArray[Any], challenge: Challenge, rng: np.random.Generator
) -> dict[str, Any]:
    """How often an evaluation network sees the wanted class; whose records the pictures look like, the blind ones too.

    Pictures of one class are no independent trials, so the classes are the units of every interval.
    """
    from bench.models.evaluation_network import evaluation_network

    wanted, ground_truth = challenge.targets, challenge.ground_truth
    answer = pictures_in(answer, (len(wanted.labels), *wanted.shape))
    predict = evaluation_network(
        ground_truth.holdout, int(rng.integers(2**62))
    )  # drawn first: one for all cells of a split
    accuracy = metrics.accuracy(predict(ground_truth.private.x).argmax(1) == ground_truth.private.y)
    if accuracy["value"] < RELIABLE:
        caveat = f"the evaluation network itself recognises only {accuracy['value']:.0%} of true records"
        warnings.warn(Caveat(caveat), stacklevel=2)
    recognised, blindly = (
        _by_class(predict(pictures).argmax(1) == wanted.labels, wanted.labels) for pictures in (answer, baseline)
    )
    ours, others = (_alike(pictures, ground_truth) for pictures in (answer, baseline))
    found = {
        "headline": "recognition",
        "chance": 1 / wanted.classes,
        "recognition": metrics.share(recognised),
        "baseline": metrics.share(blindly),
        "gain": metrics.share_gain(recognised, blindly),
    }
    for name, values in ours.items():
        found[name] = metrics.average(_by_class(values, wanted.labels))
        found[f"{name}_gain"] = metrics.average(_by_class(values - others[name], wanted.labels))
    answers = {"units": recognised}
    return found | {"evaluation_accuracy": accuracy, "pictures": len(answer), "answers": answers}


def _by_class(values: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    return np.array([values[labels == label].mean() for label in np.unique(labels)])


def _alike(pictures: NDArray[Any], ground_truth: Secret) -> dict[str, NDArray[Any]]:
    """Of each picture: how similar it is to its true record and to the nearest private and public ones.

    `identified` is 1 where the most similar of all true records has the wanted label, else 0. A similarity below 0, of
    a picture to its negative, counts as 0.
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


def _sheet(answer: NDArray[Any], baseline: NDArray[Any], challenge: Challenge) -> dict[str, NDArray[Any]]:
    rows = {"true": challenge.ground_truth.true.x, "reconstructed": answer, "baseline": baseline}
    return {name: eight_bits(row) for name, row in rows.items()}


INVERSION = Game(
    "inversion",
    "What did a private record of this label look like?",
    {"private": _of_private, "unseen": _of_unseen},
    _baseline,
    _judge,
    targets_visible=_targets_visible,
    contact_sheet=_sheet,
    requires=frozenset({"pictures"}),
    null_data=mislabelled,
    bounded=True,
)
