"""GAN leakage: what do another client's records look like, of a class that this participant never had? (Hitaj 2017)"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples, Split
from bench.core.errors import Caveat, UserError
from bench.core.game import Challenge, Game, pictures_in, shuffled_labels
from bench.core.images import eight_bits
from bench.games import metrics, paired
from bench.models.ssim import ssim

PICTURES = 100  # requested
NEAR = 500  # private and public records of the class, each, among which the nearest is searched
RELIABLE = 0.8  # accuracy of the evaluation network below which a caveat is given
SAME = 0.05  # spread of the pictures, relative to that of records, below which they count as one picture


@dataclass(frozen=True)
class GanLeakageTargets:
    """The targets of an attack: `n` pictures of `label`, a class of which the participant's `records` hold none."""

    label: int
    records: Examples
    n: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one picture, with pixels in [0, 1]."""
        return self.records.shape

    @property
    def classes(self) -> int:
        """Number of classes, the victim's included."""
        return self.records.classes


@dataclass(frozen=True)
class GanLeakageTruth:
    """The ground truth: private and public records of the class, and the holdout."""

    private: Examples
    public: Examples
    holdout: Examples


def _challenge(data: Split, rng: np.random.Generator) -> Challenge:
    present = np.intersect1d(np.unique(data.private.y), np.unique(data.public.y))
    if len(present) < 2:
        raise UserError(f"{data.name} has too few classes among its private and public records: ask for more records.")
    label = int(rng.choice(present))
    records = data.public[np.flatnonzero(data.public.y != label)]
    rows = (rng.permutation(np.flatnonzero(part.y == label))[:NEAR] for part in (data.private, data.public))
    private, public = (part[chosen] for part, chosen in zip((data.private, data.public), rows, strict=True))
    truth = GanLeakageTruth(private, public, data.holdout)
    return Challenge(GanLeakageTargets(label, records, PICTURES), truth, records)


def _baseline(challenge: Challenge, seed: int) -> NDArray[Any]:
    """Samples of a generator trained on the participant's records alone: the prior from which an attack starts."""
    from bench.models.image_prior import prior

    targets = challenge.targets
    return prior(targets.records, seed).sample(targets.n, seed)


def _judge(
    answer: NDArray[Any], baseline: NDArray[Any], challenge: Challenge, rng: np.random.Generator
) -> dict[str, Any]:
    """How many pictures an evaluation network recognises as the victim's class, and which records they resemble."""
    from bench.models.evaluation_network import evaluation_network

    targets, ground_truth = challenge.targets, challenge.ground_truth
    answer = pictures_in(answer, (targets.n, *targets.shape))
    predict = evaluation_network(ground_truth.holdout, int(rng.integers(2**62)))
    accuracy = metrics.accuracy(predict(ground_truth.private.x).argmax(1) == ground_truth.private.y)
    spread = _spread(answer) / (_spread(ground_truth.private.x) or 1.0)
    if accuracy["value"] < RELIABLE:
        caveat = f"the evaluation network itself recognises only {accuracy['value']:.0%} of true records"
        warnings.warn(Caveat(caveat), stacklevel=2)
    if spread < SAME:
        warnings.warn(Caveat("the pictures are one picture: recognition counts it many times"), stacklevel=2)
    recognised, baseline_recognised = (
        (predict(pictures).argmax(1) == targets.label).astype(np.float64) for pictures in (answer, baseline)
    )
    near = min(
        len(ground_truth.private), len(ground_truth.public)
    )  # as many of either, so that a near one is equally likely
    similar, baseline_similar = (_similarities(pictures, ground_truth, near) for pictures in (answer, baseline))
    estimates = {
        "headline": "recognition",
        "chance": 1 / targets.classes,
        "recognition": metrics.share(recognised),
        "baseline": metrics.share(baseline_recognised),
        "gain": paired.share_gain(recognised, baseline_recognised),
    }
    for name, values in similar.items():
        estimates[name] = metrics.average(values)
        estimates[f"{name}_gain"] = metrics.average(values - baseline_similar[name])
    return estimates | {
        "evaluation_accuracy": accuracy,
        "spread": spread,
        "label": targets.label,
        "pictures": len(answer),
        "answers": {"units": recognised},
    }


def _spread(pictures: NDArray[Any]) -> float:
    """Root mean square distance of pictures from their mean, per pixel."""
    return float(np.sqrt(pictures.var(0).mean()))


def _similarities(pictures: NDArray[Any], ground_truth: GanLeakageTruth, near: int) -> dict[str, NDArray[Any]]:
    """Structural similarity of each picture to the nearest private and public record of the class, at least 0."""
    private, public = (
        ssim(pictures, part.x[:near]).max(1).clip(0, 1) for part in (ground_truth.private, ground_truth.public)
    )
    return {"nearest_private": private, "nearest_public": public, "closer_to_private": private - public}


def _contact_sheet(answer: NDArray[Any], baseline: NDArray[Any], challenge: Challenge) -> dict[str, NDArray[Any]]:
    true = challenge.ground_truth.private.x[: len(answer)]
    rows = {"true": true, "reconstructed": answer, "baseline": baseline}
    return {name: eight_bits(row) for name, row in rows.items()}


GAN_LEAKAGE = Game(
    "gan_leakage",
    "What do another client's records look like, of a class that a participant never had?",
    {"private": _challenge},
    _baseline,
    _judge,
    contact_sheet=_contact_sheet,
    fewest={"private": {"private": 2, "public": 2}},
    requires=frozenset({"pictures"}),
    null_data=shuffled_labels,
    bounded=True,
)
