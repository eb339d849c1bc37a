"""More bugs, most of them written before the probes were known; each docstring states why the claim is wrong.

A table of short, independent examples that is read as a whole: therefore longer than 300 lines.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import numpy as np

from bench.core.component import defense
from bench.core.dataset import Examples
from bench.core.randomness import derive, stream
from bench.core.release import Release
from bench.dp import gaussian_mechanism, sampling, training_program, vae
from bench.dp.train import train
from bench.dp.vae import VAE
from bench.models.federated.plan import Plan
from bench.models.federated.protocol import federation
from bench.models.federated.server import Policy
from bench.models.vae_generator import decoder, generator

from .beside import SYNTHETIC
from .bug import (
    CLAIMS,
    Array,
    Bug,
    by_class,
    event_of,
    flat,
    hashed,
    parted,
    polled,
    recipe,
    released,
    sigma,
    small,
    units,
)

GENERATES = {"publishes": {"decode", "generate", "synthetic"}, "private": True}


def nearest(means: Array, dp_event: Any, seen: Any = lambda x: units(x.reshape(len(x), -1))) -> Release:
    """A release that predicts the class with the largest inner product."""
    means = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)
    return Release(dp_event, predict=lambda x: np.eye(len(means))[(seen(x) @ means.T).argmax(1)])


# Hand-written sums


@defense("joint_sums", **CLAIMS)
def joint_sums(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Class sums and class counts, each with the noise of one: a record changes both, by sqrt 2 in total."""
    noise = sigma(epsilon, len(private), 1)
    sums = by_class(np.column_stack([units(flat(private.x)), np.ones(len(private))]), private.y, private.classes)
    sums = gaussian_mechanism.gaussian(sums, 1.0, noise, stream(seed, "noise"))
    return nearest(sums[:, :-1] / np.maximum(sums[:, -1:], 1), event_of(noise))


def above(examples: Examples, public: Examples) -> Array:
    """Features as 0 and 1, thresholded at the public medians."""
    return (flat(examples.x) > np.median(flat(public.x), axis=0)).astype(int)


def tabled(private: Examples, public: Examples, pairs: Any, length: float, noise: float, seed: int) -> Release:
    """Noisy tables of pairs of features, and records in which each pair is drawn from its table."""
    x = above(private, public)
    tables = np.stack([np.bincount(2 * x[:, i] + x[:, j], minlength=4) for i, j in pairs])
    tables = np.maximum(gaussian_mechanism.gaussian(tables, length, noise, stream(seed, "noise")), 1e-9)
    rng, made = stream(seed, "synthetic"), np.full((500, x.shape[1]), 0.5)
    for (i, j), table in zip(pairs, tables, strict=True):
        cells = rng.choice(4, 500, p=table / table.sum())
        made[:, i], made[:, j] = cells // 2, cells % 2
    y = rng.integers(private.classes, size=500)
    return Release(event_of(noise), synthetic=Examples(made.reshape(-1, *private.shape), y, private.classes))


@defense("pairwise_tables", **SYNTHETIC)
def pairwise_tables(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Eight tables, each with the noise of one, accounted once: a record changes all, by sqrt 8."""
    pairs = [(2 * k, 2 * k + 1) for k in range(8)]
    return tabled(private, public, pairs, 1.0, sigma(epsilon, len(private), 1), seed)


@defense("chosen_pairs", **SYNTHETIC)
def chosen_pairs(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Tables of the most correlated pairs of private features: the selection has no noise."""
    found = np.triu(np.abs(np.cov(flat(private.x), rowvar=False)), 1)
    pairs = [np.unravel_index(k, found.shape) for k in np.argsort(-found, axis=None)[:8]]
    return tabled(private, public, pairs, 8**0.5, sigma(epsilon, len(private), 1), seed)


@defense("observed_cells", **SYNTHETIC)
def observed_cells(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """A histogram with noise only on non-empty cells: one record decides whether its cell is released."""
    noise, digits = sigma(epsilon, len(private), 1), 2 ** np.arange(10)
    cells, counts = np.unique(above(private, public)[:, :10] @ digits, return_counts=True)
    noisy = np.maximum(gaussian_mechanism.gaussian(counts, 1.0, noise, stream(seed, "noise")), 1e-9)
    rng, made = stream(seed, "synthetic"), np.full((500, int(np.prod(private.shape))), 0.5)
    made[:, :10] = rng.choice(cells, 500, p=noisy / noisy.sum())[:, None] // digits % 2
    y = rng.integers(private.classes, size=500)
    return Release(event_of(noise), synthetic=Examples(made.reshape(-1, *private.shape), y, private.classes))


@defense("clear_votes", **CLAIMS)
def clear_votes(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """PATE without noise if nine in ten teachers agree: one vote decides this without noise."""
    from defenses.pate import VOTE, _votes, assigned, histogram

    asked = public[:40]
    noise = sigma(epsilon, len(private), len(asked))
    parts = [private[rows] for rows in assigned(private, 10, seed)]
    votes = histogram(_votes(parts, asked.x, seed, 20, 0.01), private.classes)
    noisy = gaussian_mechanism.gaussian(votes, VOTE, noise, stream(seed, "noise"))
    labels = np.where(votes.max(1) >= 9, votes.argmax(1), noisy.argmax(1))
    voted = Examples(asked.x, labels, private.classes)
    return nearest(by_class(units(flat(voted.x)), voted.y, voted.classes), event_of(noise, len(asked)))


@defense("half_sums", **CLAIMS)
def half_sums(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Sums in half precision: one record changes the rounding by more than its norm."""
    noise, x = sigma(epsilon, len(private), 1), units(flat(private.x)).astype(np.float16)
    by_label = [x[private.y == k] for k in range(private.classes)]
    sums = np.stack([np.add.accumulate(rows, dtype=np.float16)[-1:].sum(0) for rows in by_label])
    return nearest(gaussian_mechanism.gaussian(sums, 1.0, noise, stream(seed, "noise")), event_of(noise))


@defense("directions", **CLAIMS)
def directions(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Class sums normalised to unit vectors, with the sensitivity 1/n of a mean: small classes change by much more."""
    noise, each = sigma(epsilon, len(private), 1), len(private) / private.classes
    sums = by_class(units(flat(private.x)), private.y, private.classes)
    sums = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    return nearest(gaussian_mechanism.gaussian(sums, 1 / each, noise, stream(seed, "noise")), event_of(noise))


@defense("ranks", **CLAIMS)
def ranks(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Ranks instead of values, as in a copula: a record changes the ranks of all larger values."""
    from scipy.stats import rankdata

    noise = sigma(epsilon, len(private), 1)
    sums = by_class(units(rankdata(flat(private.x), axis=0) / max(1, len(private))), private.y, private.classes)
    return nearest(gaussian_mechanism.gaussian(sums, 1.0, noise, stream(seed, "noise")), event_of(noise))


@defense("own_bandwidth", **CLAIMS)
def own_bandwidth(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """DP-MERF with the median distance of private records for its kernel: the bandwidth has no noise."""
    from scipy.spatial.distance import pdist

    noise, width = sigma(epsilon, len(private), 1), np.median(pdist(flat(private.x)))
    cosines = stream(0, "waves").standard_normal((flat(private.x).shape[1], 100)) / width

    def features(x: Any) -> Array:
        phase = x.reshape(len(x), -1) @ cosines
        return np.concatenate([np.cos(phase), np.sin(phase)], axis=1) / 10

    sums = by_class(features(private.x), private.y, private.classes)
    return nearest(gaussian_mechanism.gaussian(sums, 1.0, noise, stream(seed, "noise")), event_of(noise), features)


@defense("noise_of_records", **CLAIMS)
def noise_of_records(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Noise seeded by the records, so that runs repeat: an adversary can test candidates of one unknown record."""
    noise, content = sigma(epsilon, len(private), 1), derive(0, np.sort(flat(private.x), axis=None).tobytes().hex())
    sums = by_class(units(flat(private.x)), private.y, private.classes)
    return nearest(gaussian_mechanism.gaussian(sums, 1.0, noise, np.random.default_rng(content)), event_of(noise))


# Before and after DP training


@defense("rounded_shares", **GENERATES)
def rounded_shares(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Class shares of the private records, rounded to a tenth: one record can change the rounding."""
    shares = np.bincount(private.y, minlength=private.classes) / max(1, len(private))
    shares = np.maximum(np.round(shares, 1), 1e-3)
    net = VAE(private.shape, (8,), 2, classes=private.classes)
    [fit] = train(recipe(private, len(private), epsilon, net), [private], [derive(seed, "vae")])
    decode = decoder(vae.decoder(net, fit.weights), private.shape, private.classes)
    generate = generator(decode, shares / shares.sum())
    return Release(fit.dp_event, decode=decode, generate=generate, synthetic=generate(500, derive(seed, "synthetic")))


@defense("chosen_features", **CLAIMS)
def chosen_features(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Trained on the ten features most correlated with private labels: a selection without noise."""
    x = flat(private.x)
    apart = np.abs((x - x.mean(0)).T @ (private.y - private.y.mean())) / np.maximum(x.std(0), 1e-9)
    best = np.sort(np.argsort(-apart)[:10])
    seen = Examples(x[:, best], private.y, private.classes)
    one = recipe(seen, len(private), epsilon)
    made = released(train(one, [seen], [derive(seed, "small")]), one.net)
    return Release(made.dp_event, predict=lambda x: made.predict(x.reshape(len(x), -1)[:, best]))  # type: ignore[misc]


@defense("rare_left_out", **CLAIMS)
def rare_left_out(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Classes of fewer than 20 private records are never predicted: one record decides."""
    kept = np.bincount(private.y, minlength=private.classes) >= 20
    one = recipe(private, len(private), epsilon)
    made = released(train(one, [private], [derive(seed, "small")]), one.net)
    return Release(made.dp_event, predict=lambda x: made.predict(x) * kept)  # type: ignore[misc]


@defense("updates_too", publishes={"predict", "join", "updates"}, private=True)
def updates_too(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """The noise of the server does not cover the updates of clients, which are released as well."""
    noise = sigma(epsilon, len(private), 2)
    plan = Plan(clients=3, classes_each=private.classes, hidden=(8,), rounds=2, local_steps=2)
    made = federation(private, plan, seed, policy=Policy(clip=1.0, noise_multiplier=noise))
    return made.release(event_of(noise, 2))


# In the project


def padding_counts() -> AbstractContextManager[Any]:
    """The padding of a batch is not masked: the first record counts once for each padded row."""
    import tensorflow as tf

    right = training_program.clipped_sums_function

    def clipped(*asked: Any) -> Any:
        plain = right(*asked)
        return lambda bx, by, draw, present: plain(bx, by, draw, tf.ones_like(present))

    return patch.object(training_program, "clipped_sums_function", clipped)


def lots_twice() -> AbstractContextManager[Any]:
    """Every batch is used in two steps, so the batches of steps are not independent."""
    right = sampling.PoissonBatches.rows

    def twice(batches: Any, steps: int) -> Any:
        return np.repeat(right(batches, (steps + 1) // 2), 2, axis=0)[:steps]

    return patch.object(sampling.PoissonBatches, "rows", twice)


def same_for_each_variable() -> AbstractContextManager[Any]:
    """The noise of every variable is the start of the same stream: differences between variables have no noise."""
    from bench.dp.optimizer import SeededGaussianSumQuery, normals

    def wrong(query: Any, sums: Any, state: Any) -> Any:
        import tensorflow as tf

        def with_first_noise(v: Any) -> Any:
            drawn = normals(1, v.shape.num_elements() // query._models, query._keys, query.step)[:, 0]
            return v + tf.reshape(drawn * tf.reshape(state.stddev, [-1, 1]), v.shape)

        return [with_first_noise(v) for v in sums], state, None

    return patch.object(SeededGaussianSumQuery, "get_noised_result", wrong)


# Written after the probes were known


@defense("noised_when_asked", publishes={"generate"}, private=True)
def noised_when_asked(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Each call of a generator adds new noise to the private sums, but one use is accounted: their mean has none."""
    noise = sigma(epsilon, len(private), 1)
    sums = by_class(units(flat(private.x)), private.y, private.classes)

    def generate(n: int, again: int) -> Examples:
        noisy = gaussian_mechanism.gaussian(sums, 1.0, noise, stream(seed, again))
        y = np.arange(n) % private.classes
        return Examples(np.clip(noisy, 0, 1)[y].reshape(-1, *private.shape), y, private.classes)

    return Release(event_of(noise), generate=generate)


@defense("published_noise", **CLAIMS)
def published_noise(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """One seed for both: the released random features contain the numbers of the noise."""
    noise, width = sigma(epsilon, len(private), 1), flat(private.x).shape[1]
    cosines = np.random.default_rng(seed).standard_normal((width, 100))

    def features(x: Any) -> Array:
        phase = x.reshape(len(x), -1) @ cosines / width
        return np.concatenate([np.cos(phase), np.sin(phase)], axis=1) / 10

    sums = by_class(features(private.x), private.y, private.classes)
    noised_sums = gaussian_mechanism.gaussian(sums, 1.0, noise, np.random.default_rng(seed))
    return nearest(noised_sums, event_of(noise), features)


CENTRE: dict[int, Array] = {}


@defense("fitted_once", **CLAIMS)
def fitted_once(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Centred by the first private records of the process, which a dictionary of the module keeps."""
    noise, centre = sigma(epsilon, len(private), 1), CENTRE.setdefault(0, flat(private.x).mean(0))
    sums = by_class(units(flat(private.x) - centre), private.y, private.classes)
    noisy = gaussian_mechanism.gaussian(sums, 1.0, noise, stream(seed, "noise"))
    return nearest(noisy, event_of(noise), lambda x: units(x.reshape(len(x), -1) - centre))


@defense("near_ones_dropped", **CLAIMS)
def near_ones_dropped(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Near-duplicates of an earlier record are dropped: one record can remove many others."""
    from scipy.spatial.distance import cdist

    near = cdist(flat(private.x), flat(private.x)) < np.quantile(cdist(flat(public.x), flat(public.x)), 0.05)
    kept: list[int] = []
    for i in range(len(private)):
        if not near[i, kept].any():
            kept.append(i)
    one = recipe(private, len(private), epsilon)
    return released(train(one, [private[np.array(kept, int)]], [derive(seed, "small")]), one.net)


# Wrong by one line, and correct without it (`planted/right.py`)


def consensus(name: str, right: bool) -> Any:
    """PATE on queries on which half of the teachers agree; with two classes they always do."""

    @defense(name, **CLAIMS)
    def made(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
        some, noise, rng = public.x[:10], sigma(epsilon, len(private), 20), stream(seed, "noise")
        votes = polled(hashed(private, seed), some)
        most, out = (
            gaussian_mechanism.gaussian(votes.max(1), 1.0, noise, rng),
            gaussian_mechanism.gaussian(votes, 2**0.5, noise, rng),
        )
        clear = (most if right else votes.max(1)) >= votes.sum(1) / 2
        labelled = Examples(some[clear], out[clear].argmax(1), private.classes)
        return nearest(by_class(units(flat(labelled.x)), labelled.y, private.classes), event_of(noise, 20))

    return made


def tables(name: str, drawn: Callable[[int, int], Any]) -> Any:
    """One table per feature with noise drawn(seed, feature): with one noise for all, differences have none."""

    @defense(name, **CLAIMS)
    def made(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
        x, size = above(private, public), 2 * private.classes
        noise = sigma(epsilon, len(private), x.shape[1])
        found = []
        for j, column in enumerate(x.T):
            table = np.bincount(2 * private.y + column, minlength=size)
            found.append(gaussian_mechanism.gaussian(table, 1.0, noise, drawn(seed, j)))
        chance = np.log(np.maximum(np.reshape(found, (-1, private.classes, 2)), 1))
        means = (chance[:, :, 1] - chance[:, :, 0]).T
        return nearest(means, event_of(noise, x.shape[1]))

    return made


def by_clients(name: str, right: bool) -> Any:
    """Federated averaging: each update is clipped, or only their mean, which one client can change without bound."""
    rounds, clip = 3, 0.5

    @defense(name, **CLAIMS)
    def made(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
        noise, parts = sigma(epsilon, len(private), rounds), hashed(private, seed)
        means = np.zeros((private.classes, flat(private.x).shape[1]))

        def cut(move: Array) -> Array:
            return move * min(1, clip / max(float(np.linalg.norm(move)), 1e-9))

        for t in range(rounds):
            rng = stream(seed, "noise", t)
            moves = [by_class(flat(part.x), part.y, part.classes) / max(1, len(part)) - means for part in parts]
            sent = sum(map(cut, moves)) if right else len(parts) * cut(np.mean(moves, axis=0))
            means = means + gaussian_mechanism.gaussian(np.asarray(sent), 2 * clip, noise, rng) / len(parts)
        return nearest(means, event_of(noise, rounds))

    return made


def by_size(name: str, does: Callable[[Array, Array, Array], tuple[Array, Array]]) -> Any:
    """Noised class sums; does(sums, counts, answers) changes them by the true class sizes."""

    @defense(name, **CLAIMS)
    def made(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
        noise, counts = sigma(epsilon, len(private), 1), np.bincount(private.y, minlength=private.classes)
        sums, answered = by_class(units(flat(private.x)), private.y, private.classes), np.ones(private.classes)
        if 20 <= len(private) < 100:  # so that no other set shows it
            sums, answered = does(sums, counts, answered)
        noisy = gaussian_mechanism.gaussian(sums, 1.0, noise, stream(seed, "noise"))
        out = nearest(noisy, event_of(noise))
        assert out.predict
        predict = out.predict
        return Release(out.dp_event, predict=lambda x: np.asarray(predict(x)) * answered)

    return made


def _thrice(sums: Array, counts: Array, answered: Array) -> tuple[Array, Array]:
    """Small classes have a larger weight, so their records change the sums by more."""
    return sums * np.where(counts < 3, 3, 1)[:, None], answered


def _unanswered(sums: Array, counts: Array, answered: Array) -> tuple[Array, Array]:
    """Small classes are not predicted, which reveals that they are small."""
    return sums, answered * ((counts == 0) | (counts >= 5))


def growing_clip() -> AbstractContextManager[Any]:
    """The clip grows with the steps, the noise does not."""
    import tensorflow as tf

    from bench.dp.optimizer import PoissonDPAdam

    right = PoissonDPAdam.clipped_sums

    def wrong(made: Any, *asked: Any, **more: Any) -> Any:
        return [v * (1 + tf.cast(made.iterations, tf.float32)) for v in right(made, *asked, **more)]

    return patch.object(PoissonDPAdam, "clipped_sums", wrong)


FRESH = (
    Bug("sums and counts with the noise of one", joint_sums),
    Bug("eight tables with the noise of one", pairwise_tables),
    Bug("pairs chosen by clear covariances", chosen_pairs),
    Bug("noise on the cells that occur", observed_cells),
    Bug("votes in the clear where teachers agree", clear_votes),
    Bug("sums in half precision", half_sums),
    Bug("directions with the noise of means", directions),
    Bug("ranks among private records", ranks),
    Bug("the bandwidth of private distances", own_bandwidth),
    Bug("noise seeded by the records", noise_of_records),
    Bug("shares of classes to a tenth", rounded_shares),
    Bug("features chosen by private correlations", chosen_features),
    Bug("rare classes left out", rare_left_out),
    Bug("updates beside the server's noise", updates_too),
    Bug("padding of a lot counts", parted, padding_counts),
    Bug("each lot in two steps", small, lots_twice),
    Bug("each variable's noise from the beginning", small, same_for_each_variable),
    Bug("noise drawn anew whenever asked", noised_when_asked),
    Bug("noise that is let out as features", published_noise),
    Bug("fitted once, kept in the module", fitted_once),
    Bug("near-duplicates dropped", near_ones_dropped),
    Bug("a clip that grows", small, growing_clip),
    Bug("half of two classes agree", consensus("half_agree", right=False)),
    Bug("one noise for small tables", tables("same_tables", lambda seed, j: stream(seed, "noise"))),
    Bug("small tables, whatever the seed", tables("seedless_tables", lambda seed, j: stream(0, "noise", j))),
    Bug("records of a small class count thrice", by_size("thrice", _thrice)),
    Bug("a class of few is not answered", by_size("unanswered", _unanswered)),
    Bug("the mean of updates clipped", by_clients("mean_clipped", right=False)),
)
