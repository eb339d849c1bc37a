"""Black box: whole defenses on the private records with and without one worst-case record, judged by what they publish.

TensorFlow is imported inside the functions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from bench.audit.canary import joined
from bench.audit.replayed_mechanisms import Say, Sides
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.randomness import derive
from bench.core.release import Release

SAMPLES = 2000  # drawn of each release that generates
AT_ONCE = 10  # defenses that train as one program: more fit no memory where one is many models
Run = Callable[[Examples, int], Release]


def scores(run: Run, private: Examples, record: Examples, pairs: int, seed: int, say: Say) -> Sides:
    """Of `pairs` releases of private records with `record` among them and of as many without it, (pairs,) each."""
    from bench.dp.joint_training import train_jointly

    found: list[float] = []
    both = joined([private, record])
    for start in range(0, 2 * pairs, AT_ONCE):
        trials = range(start, min(2 * pairs, start + AT_ONCE))
        calls = [partial(run, both if i % 2 == 0 else private, derive(seed, "trial", i)) for i in trials]
        releases = zip(trials, train_jointly(calls), strict=True)
        found += [seen(release, record, derive(seed, "samples", i)) for i, release in releases]
        say("whole defenses", len(found), 2 * pairs)
    return np.array(found[::2]), np.array(found[1::2])


def seen(release: Release, record: Examples, seed: int) -> float:
    """How much a release is like one that saw the record (1,): by the first of its accesses that says anything.

    `generate`: how near the nearest sample comes; `predict`: minus the loss; `encode` and `decode`: minus the error.
    """
    if release.generate:
        made = release.generate(SAMPLES, seed).x.reshape(SAMPLES, -1)
        return -float(np.square(made - record.x.reshape(1, -1)).sum(1).min())
    if release.predict:
        return float(np.log(release.predict(record.x)[0, record.y[0]] + 1e-30))
    if release.encode and release.decode:
        return -float(np.square(release.decode(release.encode(record.x)) - record.x).sum())
    raise UserError("a black-box audit needs a defense that publishes `generate`, `predict`, or `encode` and `decode`.")


def worst(others: Examples) -> Examples:
    """A record unlike all others, of the label after its own: the first of `others` turned inside out."""
    one = others[:1]
    return Examples(1 - one.x, (one.y + 1) % others.classes, others.classes)
