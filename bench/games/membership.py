"""Membership inference: was this record among those that were trained on?"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Data, Examples, record_keys
from bench.core.errors import Caveat, UserError
from bench.core.game import Challenge, Game, of_others
from bench.games import metrics


@dataclass(frozen=True)
class Targets:
    """What an attack is asked about: `records`, and other records of which the adversary already knows the truth.

    `known` are never scored, so an attack may be fitted on them;
    `known_member` (len(known),) says which were trained on. `of` says as what: as "private" records, or as "public".
    """

    records: Examples
    known: Examples
    known_member: NDArray[Any]
    of: str = "private"


KNOWN = 0.25  # of either side, the share whose truth the adversary is told
FOLDS = 5
FIT_ROWS = 4000
FEWEST = 100
# The folds share the records that they are fitted on, so their errors go together: for a linear score on noise the
# pooled AUC has up to twice the variance that DeLong's formula, which takes scores to be independent, gives it.
CROSS_FITTED = math.sqrt(2)


def _of_private(data: Data, rng: np.random.Generator) -> Challenge:
    targets, ground_truth = _asked(data.name, {"private": data.private, "holdout": data.holdout}, rng)
    return Challenge(targets, ground_truth, data.public)


def _of_public(data: Data, rng: np.random.Generator) -> Challenge:
    """The same of public records that a defense used; half of the holdout is then what the adversary has besides."""
    rows = rng.permutation(len(data.holdout))
    others, besides = (data.holdout[np.sort(half)] for half in np.array_split(rows, 2))
    targets, ground_truth = _asked(data.name, {"public": data.public, "other": others}, rng)
    return Challenge(replace(targets, of="public"), ground_truth, besides)


def _asked(name: str, sides: dict[str, Examples], rng: np.random.Generator) -> tuple[Targets, NDArray[Any]]:
    inside, outside = sides.values()
    if min(len(inside), len(outside)) < 4:
        counts = " and ".join(f"{len(part)} {side}" for side, part in sides.items())
        raise UserError(f"{name} has {counts} records to tell apart: ask for at least 4 of each.")
    everyone = Examples(np.concatenate([inside.x, outside.x]), np.concatenate([inside.y, outside.y]), inside.classes)
    member = np.arange(len(everyone)) < len(inside)
    known = np.zeros(len(everyone), bool)
    for side in (member, ~member):
        rows = rng.permutation(np.flatnonzero(side))
        known[rows[: round(KNOWN * len(rows))]] = True
    told, asked = (rng.permutation(np.flatnonzero(part)) for part in (known, ~known))
    return Targets(everyone[asked], everyone[told], member[told]), member[asked]


def _baseline(challenge: Challenge, seed: int) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    targets, ground_truth = challenge.targets, challenge.ground_truth
    features = np.concatenate([_plain(targets.records), _plain(targets.known)])
    truth = np.concatenate([ground_truth, targets.known_member])
    fold = np.full(len(truth), -1)  # the known records, in no fold, are fitted on every time
    for side in (True, False):
        rows = rng.permutation(np.flatnonzero(ground_truth == side))
        fold[rows] = np.arange(len(rows)) % FOLDS
    answer = np.empty(len(ground_truth))
    for k in range(fold.max() + 1):
        fit = _fit_rows(np.flatnonzero(fold != k), truth, rng)
        held = np.flatnonzero(fold == k)
        answer[held] = _told_apart(features[fit], truth[fit], features[held], int(rng.integers(2**31)))
    return answer


def _plain(examples: Examples) -> NDArray[Any]:
    label = np.eye(examples.classes, dtype=np.float32)[examples.y]
    return np.concatenate([examples.x.reshape(len(examples), -1), label], axis=1)


def _fit_rows(rows: NDArray[Any], truth: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """At most FIT_ROWS of rows at random, as even between the two sides as there are records for."""
    sides = [rng.permutation(rows[truth[rows]]), rng.permutation(rows[~truth[rows]])]
    fewer = min(len(side) for side in sides)
    most = max(FIT_ROWS // 2, FIT_ROWS - fewer)
    return np.concatenate([side[:most] for side in sides])


def _told_apart(x: NDArray[Any], member: NDArray[Any], held: NDArray[Any], seed: int) -> NDArray[Any]:
    """Scores in (0, 1) of held records: the mean rank that a linear and a forest classifier give them."""
    from scipy.stats import rankdata
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    total = np.zeros(len(held))
    for model in (
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)),
        RandomForestClassifier(100, min_samples_leaf=5, random_state=seed, n_jobs=-1),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # not at its optimum it still tells apart what it can
            model.fit(x, member)
        if isinstance(model, RandomForestClassifier):
            model.n_jobs = 1  # trees grow alike on any number of cores, but are added up in the order they come
        total += (rankdata(model.predict_proba(held)[:, 1]) - 0.5) / len(held)
    return total / 2


def _judge(
    answer: NDArray[Any], baseline: NDArray[Any], challenge: Challenge, rng: np.random.Generator
) -> dict[str, Any]:
    ground_truth = challenge.ground_truth
    found = metrics.auc(answer, ground_truth)
    blindly = metrics.auc(baseline, ground_truth, spread=CROSS_FITTED)
    advantage = metrics.advantage(answer, ground_truth, rng)
    members, others = int(ground_truth.sum()), int((~ground_truth).sum())
    for caveat in _caveats(found, blindly, members, others):
        warnings.warn(Caveat(caveat), stacklevel=2)
    return {
        "headline": "auc",
        "chance": 0.5,
        "auc": found,
        "balanced_accuracy": metrics.balanced_accuracy(advantage),
        "advantage": advantage,
        "baseline": blindly,
        "gain": metrics.paired_gain(answer, baseline, ground_truth, spread=CROSS_FITTED),
        "tpr_at_fpr_0.01": metrics.tpr_at_fpr(answer, ground_truth, 0.01),
        "tpr_at_fpr_0.001": metrics.tpr_at_fpr(answer, ground_truth, 0.001),
        "members": members,
        "non_members": others,
        "roc": metrics.roc(answer, ground_truth),
        "answers": metrics.placements(answer, ground_truth)
        | {"records": _named(challenge.targets.records[ground_truth])},
    }


def _named(records: Examples) -> NDArray[Any]:
    """The members' names, eight bytes of the digest of their content."""
    return np.array([key[:8] for key in record_keys(records)], "V8")


def _caveats(found: metrics.Figure, baseline: metrics.Figure, members: int, others: int) -> list[str]:
    caveats = []
    if min(members, others) < FEWEST:
        caveats.append(f"only {members} members and {others} non-members: fewer than {FEWEST} of a side say little")
    if abs(_deviations(baseline)) > 3.2905:  # p < 1e-3, two-sided
        caveats.append(
            "the split itself can be told apart: a classifier that never sees the release reaches "
            f"AUC {baseline['value']:.3f}"
        )
    if _deviations(found) < -3.0902:  # p < 1e-3, one-sided
        caveats.append(f"below chance (AUC {found['value']:.3f}): the sign of the scores may be inverted")
    return caveats


def _deviations(figure: metrics.Figure) -> float:
    """Standard errors above chance; scores that are all equal are at chance exactly."""
    return (figure["value"] - 0.5) / figure["se"] if figure["se"] else 0.0


MEMBERSHIP = Game(
    "membership",
    "Was this record among those that were trained on?",
    {"private": _of_private, "public": _of_public},
    _baseline,
    _judge,
    null_data=of_others,
    reference_attack="confidence",
)
