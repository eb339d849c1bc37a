"""Membership inference: was this record among those that were trained on?"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples, Split, record_keys
from bench.core.errors import Caveat, UserError
from bench.core.game import Challenge, Game, public_as_private
from bench.games import metrics, paired
from bench.games.intervals import Estimate


@dataclass(frozen=True)
class Targets:
    """The targets of an attack: `records`, and other records whose membership the adversary already knows.

    known: never scored, so an attack may be fitted on them. known_member: (len(known),), which were trained on.
    of: "private" where members were trained on as private records, "public" where as public ones.
    """

    records: Examples
    known: Examples
    known_member: NDArray[Any]
    of: str = "private"


KNOWN = 0.25  # the share of members, and of non-members, whose membership the adversary knows
SIDE = 4  # members, and non-members, at least
FOLDS = 5
FIT_ROWS = 4000
FEWEST = 100
# The folds share the records that they are fitted on, so their errors go together: for a linear score on noise the
# pooled AUC has up to twice the variance that DeLong's formula, which takes scores to be independent, gives it.
CROSS_FITTED = math.sqrt(2)


def _of_private(data: Split, rng: np.random.Generator) -> Challenge:
    targets, ground_truth = _drawn(data.name, {"private": data.private, "holdout": data.holdout}, rng)
    return Challenge(targets, ground_truth, data.public)


def _of_public(data: Split, rng: np.random.Generator) -> Challenge:
    """Targets the public records, which a defense used; half of the holdout then serves the adversary as public."""
    rows = rng.permutation(len(data.holdout))
    non_members, public = (data.holdout[np.sort(half)] for half in np.array_split(rows, 2))
    targets, ground_truth = _drawn(data.name, {"public": data.public, "other": non_members}, rng)
    return Challenge(replace(targets, of="public"), ground_truth, public)


def _drawn(name: str, sides: dict[str, Examples], rng: np.random.Generator) -> tuple[Targets, NDArray[Any]]:
    """Members and non-members in random order, and which of the targets are members."""
    members, non_members = sides.values()
    if min(len(members), len(non_members)) < SIDE:
        counts = " and ".join(f"{len(part)} {side}" for side, part in sides.items())
        raise UserError(f"{name} has {counts} records to tell apart: ask for at least {SIDE} of each.")
    both = (members, non_members)
    everyone = Examples(np.concatenate([e.x for e in both]), np.concatenate([e.y for e in both]), members.classes)
    member = np.arange(len(everyone)) < len(members)
    known = np.zeros(len(everyone), bool)
    for side in (member, ~member):
        rows = rng.permutation(np.flatnonzero(side))
        known[rows[: round(KNOWN * len(rows))]] = True
    known_rows, rows = (rng.permutation(np.flatnonzero(part)) for part in (known, ~known))
    return Targets(everyone[rows], everyone[known_rows], member[known_rows]), member[rows]


def _baseline(challenge: Challenge, seed: int) -> NDArray[Any]:
    """Scores of classifiers that see the records and no release, cross-fitted: none scores what it was fitted on."""
    rng = np.random.default_rng(seed)
    targets, ground_truth = challenge.targets, challenge.ground_truth
    features = np.concatenate([raw_features(targets.records), raw_features(targets.known)])
    truth = np.concatenate([ground_truth, targets.known_member])
    fold = np.full(len(truth), -1)  # the known records, in no fold, are fitted on every time
    for side in (True, False):
        rows = rng.permutation(np.flatnonzero(ground_truth == side))
        fold[rows] = np.arange(len(rows)) % FOLDS
    answer = np.empty(len(ground_truth))
    for k in range(fold.max() + 1):
        fit = fit_rows(np.flatnonzero(fold != k), truth, rng)
        scored = np.flatnonzero(fold == k)
        answer[scored] = classifier_scores(features[fit], truth[fit], features[scored], int(rng.integers(2**31)))
    return answer


def raw_features(examples: Examples) -> NDArray[Any]:
    label = np.eye(examples.classes, dtype=np.float32)[examples.y]
    return np.concatenate([examples.x.reshape(len(examples), -1), label], axis=1)


def fit_rows(rows: NDArray[Any], truth: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """At most FIT_ROWS of rows at random, with as many members as non-members as far as there are records."""
    sides = [rng.permutation(rows[truth[rows]]), rng.permutation(rows[~truth[rows]])]
    fewer = min(len(side) for side in sides)
    most = max(FIT_ROWS // 2, FIT_ROWS - fewer)
    return np.concatenate([side[:most] for side in sides])


def classifier_scores(x: NDArray[Any], member: NDArray[Any], scored: NDArray[Any], seed: int) -> NDArray[Any]:
    """Scores in (0, 1) of the `scored` records: the mean rank that a linear and a forest classifier give them."""
    from scipy.stats import rankdata
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    total = np.zeros(len(scored))
    for model in (
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)),
        RandomForestClassifier(100, min_samples_leaf=5, random_state=seed, n_jobs=-1),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # before its optimum it classifies nearly as well
            model.fit(x, member)
        if isinstance(model, RandomForestClassifier):
            model.n_jobs = 1  # trees are the same on any number of cores, but are added up in the order they finish
        total += (rankdata(model.predict_proba(scored)[:, 1]) - 0.5) / len(scored)
    return total / 2


def _judge(
    answer: NDArray[Any], baseline: NDArray[Any], challenge: Challenge, rng: np.random.Generator
) -> dict[str, Any]:
    ground_truth = challenge.ground_truth
    attack_auc = metrics.auc(answer, ground_truth)
    baseline_auc = metrics.auc(baseline, ground_truth, spread=CROSS_FITTED)
    advantage = metrics.advantage(answer, ground_truth, rng)
    members, non_members = int(ground_truth.sum()), int((~ground_truth).sum())
    for caveat in _caveats(attack_auc, baseline_auc, members, non_members):
        warnings.warn(Caveat(caveat), stacklevel=2)
    return {
        "headline": "auc",
        "chance": 0.5,
        "auc": attack_auc,
        "balanced_accuracy": metrics.balanced_accuracy(advantage),
        "advantage": advantage,
        "baseline": baseline_auc,
        "gain": paired.auc_gain(answer, baseline, ground_truth, spread=CROSS_FITTED),
        "tpr_at_fpr_0.01": metrics.tpr_at_fpr(answer, ground_truth, 0.01),
        "tpr_at_fpr_0.001": metrics.tpr_at_fpr(answer, ground_truth, 0.001),
        "members": members,
        "non_members": non_members,
        "roc": metrics.roc(answer, ground_truth),
        "answers": paired.auc_units(answer, ground_truth)
        | {"records": _record_names(challenge.targets.records[ground_truth])},
    }


def _record_names(records: Examples) -> NDArray[Any]:
    """A name for each record: eight bytes of the digest of its content."""
    return np.array([key[:8] for key in record_keys(records)], "V8")


def _caveats(attack: Estimate, baseline: Estimate, members: int, non_members: int) -> list[str]:
    caveats = []
    if min(members, non_members) < FEWEST:
        caveats.append(
            f"only {members} members and {non_members} non-members: fewer than {FEWEST} of a side say little"
        )
    if abs(_deviations(baseline)) > 3.2905:  # p < 1e-3, two-sided
        caveats.append(
            "the split itself can be told apart: a classifier that never sees the release reaches "
            f"AUC {baseline['value']:.3f}"
        )
    if _deviations(attack) < -3.0902:  # p < 1e-3, one-sided
        caveats.append(f"below chance (AUC {attack['value']:.3f}): the sign of the scores may be inverted")
    return caveats


def _deviations(auc: Estimate) -> float:
    """Standard errors above chance; scores that are all equal are at chance exactly."""
    return (auc["value"] - 0.5) / auc["se"] if auc["se"] else 0.0


MEMBERSHIP = Game(
    "membership",
    "Was this record among those that were trained on?",
    {"private": _of_private, "public": _of_public},
    _baseline,
    _judge,
    null_data=public_as_private,
    fewest={
        "private": {"private": SIDE, "holdout": SIDE},
        "public": {"public": SIDE, "holdout": 2 * SIDE - 1},  # half of the holdout, rounded up
    },
    reference_attack="confidence",
)
