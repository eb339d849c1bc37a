"""Shadow models: what the defense would have released, had it been trained on records that the adversary chose.

They are trained through the defense (`Release.retrain`), so what is calibrated by them is calibrated for the defense; a
shadow of the undefended model would tell how the undefended model behaves (Aerni et al. 2024).
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
from bench.games import Targets

TURNS = (0, 2, 1, 3)
"""The quarters of a circle at which the shadows of one round begin, so that any first two lie opposite. A round trains
as one: few enough shadows to hold their records side by side, and whoever asks for fewer rounds finds them remembered
from whoever asked for more."""

Seen = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Shadows:
    """Releases whose records the adversary chose; `inside` (shadows, targets) says which targets each has seen."""

    releases: Sequence[Release]
    inside: NDArray[np.bool_]

    def ask(self, seen: Seen, examples: Examples) -> NDArray[np.float64]:
        """What is `seen` of every shadow's answers, (shadows, n), in one large query a shadow."""
        return np.stack([ask(release, seen, examples) for release in self.releases])


def ask(release: Release, seen: Seen, examples: Examples) -> NDArray[np.float64]:
    """One number a record, (n,): what is `seen` of a release's probabilities (n, classes) and the labels (n,)."""
    assert release.predict is not None
    found: NDArray[np.float64] = seen(release.predict(examples.x).astype(np.float64), examples.y)
    return found


def check_alike(own: NDArray[np.float64], shadows: NDArray[np.float64]) -> None:
    """Warn with a Caveat where the mean of a release (n,) cannot be one of those of its shadows (k, n), at p < 1e-3.

    It is for shadows of the same procedure on as many records, of which it is one more draw; shadows of the undefended
    model beside a defended one are not.
    """
    from scipy.stats import t

    mean, means = float(own.mean()), shadows.mean(1)
    error = means.std(ddof=1) * math.sqrt(1 + 1 / len(means))
    if abs(mean - means.mean()) > t.isf(0.5e-3, len(means) - 1) * error + 1e-6 * abs(mean):
        theirs = f"{means.min():.3g} to {means.max():.3g}"
        warnings.warn(
            Caveat(f"the release is unlike its shadows: mean confidence {mean:.3g}, theirs {theirs}"), stacklevel=3
        )


def train_shadows(release: Release, targets: Targets, public: Examples, count: int) -> Shadows:
    """Train `count` shadows through the defense, each on a random part of the pool: all targets and known records.

    A part is as large as what the release itself was trained on (`share`). Where the question is about public records,
    parts are handed over as the public ones, and `public`, of which neither side of the question knows, stands in for
    the private ones. Raises UserError unless count is at least 2.
    """
    if count < 2:
        raise UserError(f"ask for at least 2 shadows, one with and one without a record, not {count}.")
    assert release.retrain is not None
    pool, place = _pool(targets)
    # Seeded by what is asked, not by who asks: every attack has a seed of its own, with which LiRA and RMIA would train
    # different shadows for the same cell. Another cell holds other records, so its shadows are independent of these.
    seed = int(digest(("shadows", targets.of, pool)), 16)
    size = min(max(1, round(share(targets) * len(pool))), len(pool) - 1)
    inside = parts(len(pool), size, count, seed)
    calls = []
    for k in range(count):
        part, own = pool[np.flatnonzero(inside[k])], derive(seed, "shadow", k)
        given = (part, own, None) if targets.of == "private" else (public, own, part)
        calls.append(partial(release.retrain, *given))
    rounds = [calls[start : start + len(TURNS)] for start in range(0, count, len(TURNS))]
    return Shadows([made for one in rounds for made in train_jointly(one)], inside[:, place])


def share(targets: Targets) -> float:
    """Of the pool, what the release was trained on: as much as of the known records, which are told on either side."""
    return float(np.mean(targets.known_member))


def _pool(targets: Targets) -> tuple[Examples, NDArray[Any]]:
    """Targets and known records in an order that their content alone decides, and the place in it of each target."""
    both = (targets.records, targets.known)
    everyone = Examples(np.concatenate([e.x for e in both]), np.concatenate([e.y for e in both]), both[0].classes)
    keys = record_keys(everyone)
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return everyone[order], place[: len(targets.records)]


def parts(n: int, size: int, count: int, seed: int) -> NDArray[np.bool_]:
    """Which `size` of `n` records each of `count` shadows is trained on, (count, n); the first ones whatever the count.

    The shadows of a round are windows that lie evenly around one random circle of the records. So each record is drawn
    with chance size / n, and within a round as often as any other give or take one: bad luck leaves none without a
    shadow that saw it, or without one that did not (Carlini et al. 2022 balance theirs too, section IV-C).
    """
    inside = np.zeros((count, n), bool)
    for k in range(count):
        circle = stream(seed, "circle", k // len(TURNS)).permutation(n)
        start = TURNS[k % len(TURNS)] * n // len(TURNS)
        inside[k, circle[(start + np.arange(size)) % n]] = True
    return inside
