"""Shadow models: what the defense releases when it is trained on records that the adversary chose.

They are trained through the defense (`Release.retrain`), so an attack that is calibrated by them is calibrated for the
defense; a shadow of the undefended model would tell how the undefended model behaves (Aerni et al. 2024).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples, record_keys
from bench.core.digest import digest
from bench.core.errors import Caveat, UserError
from bench.core.randomness import derive, stream
from bench.core.release import Release
from bench.dp.joint_training import train_jointly
from bench.games.membership import Targets

QUARTERS = (0, 2, 1, 3)
"""The quarters of a circle at which the windows of one round of shadows start, so that any first two lie opposite.

The shadows of a round are trained jointly: few enough to hold their records in memory together. A request for fewer
rounds finds its shadows in the cache of a request for more.
"""

Statistic = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]
"""From probabilities (n, classes) and true labels (n,) to one number per record (n,)."""


@dataclass(frozen=True, eq=False)
class Shadows:
    """Releases whose records the adversary chose; `inside` (shadows, targets) tells which targets each trained on."""

    releases: Sequence[Release]
    inside: NDArray[np.bool_]

    def query(self, statistic: Statistic, examples: Examples) -> NDArray[np.float64]:
        """The statistic of every shadow's predictions, (shadows, n), with one query per shadow."""
        return np.stack([query(release, statistic, examples) for release in self.releases])


def query(release: Release, statistic: Statistic, examples: Examples) -> NDArray[np.float64]:
    """The statistic of a release's predictions for each record, (n,)."""
    assert release.predict is not None
    values: NDArray[np.float64] = statistic(release.predict(examples.x).astype(np.float64), examples.y)
    return values


def check_same_distribution(release: NDArray[np.float64], shadows: NDArray[np.float64]) -> None:
    """Warn with a Caveat where the mean of a release (n,) differs from those of its shadows (k, n), at p < 1e-3.

    Shadows of the same procedure on as many records have the release's distribution; shadows of the undefended model
    do not have that of a defended one.
    """
    from scipy.stats import t

    mean, means = float(release.mean()), shadows.mean(1)
    error = means.std(ddof=1) * math.sqrt(1 + 1 / len(means))
    if abs(mean - means.mean()) > t.isf(0.5e-3, len(means) - 1) * error + 1e-6 * abs(mean):
        theirs = f"{means.min():.3g} to {means.max():.3g}"
        warnings.warn(
            Caveat(f"the release is unlike its shadows: mean confidence {mean:.3g}, theirs {theirs}"), stacklevel=3
        )


def train_shadows(release: Release, targets: Targets, public: Examples, count: int) -> Shadows:
    """Train `count` shadows through the defense, each on a random part of the pool of all targets and known records.

    A part has the release's share of members (`member_share`). Where the targets are public records, the defense gets a
    part as its public records, and as its private ones `public`, which holds no target. Raises UserError unless count
    is at least 2.
    """
    if count < 2:
        raise UserError(f"train at least 2 shadows, one with and one without a record, not {count}.")
    assert release.retrain is not None
    pool, place = _pool(targets)
    # Seeded by the targets, not by the attack's seed, with which LiRA and RMIA would train different shadows for the
    # same targets. Another split has other records, so its shadows are independent of these.
    seed = int(digest(("shadows", targets.of, pool)), 16)
    size = min(max(1, round(member_share(targets) * len(pool))), len(pool) - 1)
    inside = parts(len(pool), size, count, seed)
    calls = []
    for k in range(count):
        part, shadow_seed = pool[np.flatnonzero(inside[k])], derive(seed, "shadow", k)
        arguments = (part, shadow_seed, None) if targets.of == "private" else (public, shadow_seed, part)
        calls.append(partial(release.retrain, *arguments))
    rounds = [calls[start : start + len(QUARTERS)] for start in range(0, count, len(QUARTERS))]
    return Shadows([shadow for one in rounds for shadow in train_jointly(one)], inside[:, place])


def member_share(targets: Targets) -> float:
    """The share of the pool that the release was trained on, which is that of the known records."""
    return float(np.mean(targets.known_member))


def _pool(targets: Targets) -> tuple[Examples, NDArray[Any]]:
    """Targets and known records, in an order that depends on their content alone, and each target's place in it."""
    both = (targets.records, targets.known)
    everyone = Examples(np.concatenate([e.x for e in both]), np.concatenate([e.y for e in both]), both[0].classes)
    keys = record_keys(everyone)
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return everyone[order], place[: len(targets.records)]


def parts(n: int, size: int, count: int, seed: int) -> NDArray[np.bool_]:
    """Which `size` of `n` records each of `count` shadows is trained on, (count, n); the first rows for any count.

    The shadows of a round are windows that lie evenly around one random circle of the records. So each record is drawn
    with probability size / n, and within a round as often as any other, give or take one: by chance alone no record
    lacks a shadow with it, or one without it (Carlini et al. 2022 balance theirs too, section IV-C).
    """
    inside = np.zeros((count, n), bool)
    for k in range(count):
        circle = stream(seed, "circle", k // len(QUARTERS)).permutation(n)
        start = QUARTERS[k % len(QUARTERS)] * n // len(QUARTERS)
        inside[k, circle[(start + np.arange(size)) % n]] = True
    return inside
