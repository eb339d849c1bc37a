"""Leakage to a participant: what do records of another client look like, of a class that one never had? (Hitaj 2017)"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Data, Examples
from bench.core.errors import Caveat, UserError
from bench.core.game import Challenge, Game, mislabelled, pictures_in
from bench.core.images import eight_bits
from bench.games import metrics
from bench.models.ssim import ssim

PICTURES = 100  # that are asked for
NEAR = 500  # private and public records of the class, each, among which the nearest is looked for
RELIABLE = 0.8  # accuracy below which the evaluation network's word is doubted
SAME = 0.05  # spread of pictures, as a share of that of records, below which they are one picture


@dataclass(frozen=True)
class Insider:
    """What a participant is asked for: `n` pictures of `label`, of which not one is among its `own` records."""

    label: int
    own: Examples
    n: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one picture, with pixels in [0, 1]."""
        return self.own.shape

    @property
    def classes(self) -> int:
        """How many there are, the victim's included."""
        return self.own.classes


@dataclass(frozen=True)
class Secret:
    """What the judge knows: private and public records of the class, and the holdout."""

    private: Examples
    public: Examples
    holdout: Examples


def _challenge(data: Data, rng: np.random.Generator) -> Challenge:
    present = np.intersect1d(np.unique(data.private.y), np.unique(data.public.y))
    if len(present) < 2:
        raise UserError(f"{data.name} has too few classes among its private and public records: ask for more records.")
    label = int(rng.choice(present))
    own = data.public[np.flatnonzero(data.public.y != label)]
    rows = (rng.permutation(np.flatnonzero(part.y == label))[:NEAR] for part in (data.private, data.public))
    private, public = (part[own_rows] for part, own_rows in zip((data.private, data.public), rows, strict=True))
    return Challenge(Insider(label, own, PICTURES), Secret(private, public, data.holdout), own)


def _baseline(challenge: Challenge, seed: int) -> NDArray[Any]:
    """What a generator gives that saw the insider's own records alone: the same prior from which an attack starts."""
    from bench.models.image_prior import prior

    targets = challenge.targets
    return prior(targets.own, seed).sample(targets.n, seed)


def _judge(
    answer: NDArray[Any], baseline: NDArray[Any], challenge: Challenge, rng: np.random.Generator
) -> dict[str, Any]:
    """How many of the pictures an evaluation network takes for the victim's class; how alike they are to records."""
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
    recognised, blindly = (
        (predict(pictures).argmax(1) == targets.label).astype(np.float64) for pictures in (answer, baseline)
    )
    near = min(len(ground_truth.private), len(ground_truth.public))  # as many of both, so that neither has better odds
    ours, others = (_alike(pictures, ground_truth, near) for pictures in (answer, baseline))
    found = {
        "headline": "recognition",
        "chance": 1 / targets.classes,
        "recognition": metrics.share(recognised),
        "baseline": metrics.share(blindly),
        "gain": metrics.share_gain(recognised, blindly),
    }
    for name, values in ours.items():
        found[name] = metrics.average(values)
        found[f"{name}_gain"] = metrics.average(values - others[name])
    return found | {
        "evaluation_accuracy": accuracy,
        "spread": spread,
        "label": targets.label,
        "pictures": len(answer),
        "answers": {"units": recognised},
    }


def _spread(pictures: NDArray[Any]) -> float:
    """Root mean square distance of pictures from their mean, a pixel."""
    return float(np.sqrt(pictures.var(0).mean()))


def _alike(pictures: NDArray[Any], ground_truth: Secret, near: int) -> dict[str, NDArray[Any]]:
    """Of each picture: similarity to the nearest private and public record of the class; below 0 it counts as 0."""
    private, public = (
        ssim(pictures, part.x[:near]).max(1).clip(0, 1) for part in (ground_truth.private, ground_truth.public)
    )
    return {"nearest_private": private, "nearest_public": public, "closer_to_private": private - public}


def _sheet(answer: NDArray[Any], baseline: NDArray[Any], challenge: Challenge) -> dict[str, NDArray[Any]]:
    true = challenge.ground_truth.private.x[: len(answer)]
    rows = {"true": true, "reconstructed": answer, "baseline": baseline}
    return {name: eight_bits(row) for name, row in rows.items()}


GAN_LEAKAGE = Game(
    "gan_leakage",
    "What do another client's records look like, of a class that a participant never had?",
    {"private": _challenge},
    _baseline,
    _judge,
    contact_sheet=_sheet,
    requires=frozenset({"pictures"}),
    null_data=mislabelled,
    bounded=True,
)
