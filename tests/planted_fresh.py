"""Thirty mistakes more, written down before the probes were read; each docstring says why it breaks the claim."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import numpy as np
from planted import CLAIMS, Bug, noised, parted, recipe, released, small
from planted_defenses import SYNTHETIC, sigma, units, with_x

from bench import accounting, engine, mechanism, nets
from bench.aggregation import Policy
from bench.data import Examples
from bench.federated import Plan, federation
from bench.layers import Single
from bench.nets import VAE
from bench.randomness import derive, stream
from bench.registry import defense
from bench.release import Release
from bench.synthesis import decoder, generator, public_shares
from bench.training import train

Array = np.ndarray[Any, Any]
GENERATES = {"publishes": {"decode", "generate", "synthetic"}, "private": True}


def flat(examples: Examples) -> Array:
    """Features as rows."""
    return np.asarray(examples.x.reshape(len(examples), -1), np.float64)


def by_class(examples: Examples, rows: Array) -> Array:
    """Sums of rows over the records of each class."""
    return np.asarray(np.eye(examples.classes)[examples.y].T @ rows)


def once(noise: float, uses: int = 1) -> Any:
    """What so many noised sums over all records cost."""
    return accounting.training_event(1.0, noise, uses)


def nearest(means: Array, spent: Any, seen: Any = lambda x: units(x.reshape(len(x), -1))) -> Release:
    """The class of whose direction a record has most."""
    means = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)
    return Release(spent, predict=lambda x: np.eye(len(means))[(seen(x) @ means.T).argmax(1)])


def generating(private: Examples, public: Examples, seed: int, epsilon: float, shares: Array, kept: Any) -> Release:
    """A small conditional VAE whose records have these shares of classes, and those of them that are kept."""
    net = VAE(private.shape, (8,), 2, classes=private.classes)
    [fit] = train(recipe(private, len(private), epsilon, net), [private], [derive(seed, "vae")])
    decode = decoder(nets.decoder(net, fit.weights), private.shape, private.classes)
    generate = generator(decode, shares)
    synthetic = generate(500, derive(seed, "synthetic"))
    return Release(fit.spent, decode=decode, generate=generate, synthetic=synthetic[kept(synthetic)])


# Sums of one's own


@defense("joint_sums", **CLAIMS)
def joint_sums(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Class sums beside class counts with the noise of either: a record moves both, by sqrt 2 together."""
    noise = sigma(epsilon, len(private), 1)
    sums = by_class(private, np.column_stack([units(flat(private)), np.ones(len(private))]))
    sums = mechanism.gaussian(sums, 1.0, noise, stream(seed, "noise"))
    return nearest(sums[:, :-1] / np.maximum(sums[:, -1:], 1), once(noise))


def above(examples: Examples, public: Examples) -> Array:
    """Features as 0 and 1, cut at the public medians."""
    return (flat(examples) > np.median(flat(public), axis=0)).astype(int)


def tabled(private: Examples, public: Examples, pairs: Any, length: float, noise: float, seed: int) -> Release:
    """Noisy tables of pairs of features, and records in which each pair is drawn from its table."""
    x = above(private, public)
    tables = np.stack([np.bincount(2 * x[:, i] + x[:, j], minlength=4) for i, j in pairs])
    tables = np.maximum(mechanism.gaussian(tables, length, noise, stream(seed, "noise")), 1e-9)
    rng, made = stream(seed, "synthetic"), np.full((500, x.shape[1]), 0.5)
    for (i, j), table in zip(pairs, tables, strict=True):
        cells = rng.choice(4, 500, p=table / table.sum())
        made[:, i], made[:, j] = cells // 2, cells % 2
    y = rng.integers(private.classes, size=500)
    return Release(once(noise), synthetic=Examples(made.reshape(-1, *private.shape), y, private.classes))


@defense("pairwise_tables", **SYNTHETIC)
def pairwise_tables(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Eight tables, each with the noise of one, accounted once: a record is in all, and moves them by sqrt 8."""
    pairs = [(2 * k, 2 * k + 1) for k in range(8)]
    return tabled(private, public, pairs, 1.0, sigma(epsilon, len(private), 1), seed)


@defense("chosen_pairs", **SYNTHETIC)
def chosen_pairs(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Tables of the pairs that vary together most among private records: which those are leaves without noise."""
    found = np.triu(np.abs(np.cov(flat(private), rowvar=False)), 1)
    pairs = [np.unravel_index(k, found.shape) for k in np.argsort(-found, axis=None)[:8]]
    return tabled(private, public, pairs, 8**0.5, sigma(epsilon, len(private), 1), seed)


@defense("observed_cells", **SYNTHETIC)
def observed_cells(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """A histogram with noise on the cells that occur: a cell is there, or is not, with the one record in it."""
    noise, digits = sigma(epsilon, len(private), 1), 2 ** np.arange(10)
    cells, counts = np.unique(above(private, public)[:, :10] @ digits, return_counts=True)
    noisy = np.maximum(mechanism.gaussian(counts, 1.0, noise, stream(seed, "noise")), 1e-9)
    rng, made = stream(seed, "synthetic"), np.full((500, int(np.prod(private.shape))), 0.5)
    made[:, :10] = rng.choice(cells, 500, p=noisy / noisy.sum())[:, None] // digits % 2
    y = rng.integers(private.classes, size=500)
    return Release(once(noise), synthetic=Examples(made.reshape(-1, *private.shape), y, private.classes))


@defense("clear_votes", **CLAIMS)
def clear_votes(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """PATE that spares the noise where nine in ten teachers agree: a vote more or less decides that in the clear."""
    from defenses.pate import VOTE, _votes, assigned, histogram

    asked = public[:40]
    noise = sigma(epsilon, len(private), len(asked))
    parts = [private[rows] for rows in assigned(private, 10, seed)]
    votes = histogram(_votes(parts, asked.x, seed, 20, 0.01), private.classes)
    noisy = mechanism.gaussian(votes, VOTE, noise, stream(seed, "noise"))
    labels = np.where(votes.max(1) >= 9, votes.argmax(1), noisy.argmax(1))
    voted = Examples(asked.x, labels, private.classes)
    return nearest(by_class(voted, units(flat(voted))), once(noise, len(asked)))


@defense("half_sums", **CLAIMS)
def half_sums(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Sums added up in half precision: their rounding moves by more than the one record does."""
    noise, x = sigma(epsilon, len(private), 1), units(flat(private)).astype(np.float16)
    own = [x[private.y == k] for k in range(private.classes)]
    sums = np.stack([np.add.accumulate(rows, dtype=np.float16)[-1:].sum(0) for rows in own])
    return nearest(mechanism.gaussian(sums, 1.0, noise, stream(seed, "noise")), once(noise))


@defense("directions", **CLAIMS)
def directions(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Class sums made unit vectors, with the 1/n of a mean: a small class, or a short sum, turns much further."""
    noise, each = sigma(epsilon, len(private), 1), len(private) / private.classes
    sums = by_class(private, units(flat(private)))
    sums = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    return nearest(mechanism.gaussian(sums, 1 / each, noise, stream(seed, "noise")), once(noise))


@defense("ranks", **CLAIMS)
def ranks(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """A copula's ranks in place of values: a record moves the ranks of all that lie above it."""
    from scipy.stats import rankdata

    noise = sigma(epsilon, len(private), 1)
    sums = by_class(private, units(rankdata(flat(private), axis=0) / max(1, len(private))))
    return nearest(mechanism.gaussian(sums, 1.0, noise, stream(seed, "noise")), once(noise))


@defense("own_bandwidth", **CLAIMS)
def own_bandwidth(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """DP-MERF with the median distance of private records for its kernel: the bandwidth leaves without noise."""
    from scipy.spatial.distance import pdist

    noise, width = sigma(epsilon, len(private), 1), np.median(pdist(flat(private)))
    waves = stream(0, "waves").standard_normal((flat(private).shape[1], 100)) / width

    def features(x: Any) -> Array:
        phase = x.reshape(len(x), -1) @ waves
        return np.concatenate([np.cos(phase), np.sin(phase)], axis=1) / 10

    sums = by_class(private, features(private.x))
    return nearest(mechanism.gaussian(sums, 1.0, noise, stream(seed, "noise")), once(noise), features)


@defense("noise_of_records", **CLAIMS)
def noise_of_records(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Noise seeded by the records, so that runs repeat: who has all but one of them tries that one and knows."""
    noise, content = sigma(epsilon, len(private), 1), derive(0, np.sort(flat(private), axis=None).tobytes().hex())
    sums = by_class(private, units(flat(private)))
    return nearest(mechanism.gaussian(sums, 1.0, noise, np.random.default_rng(content)), once(noise))


# Around `train`


@defense("class_rates", publishes={"decode"}, private=True)
def class_rates(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """A VAE a class, each with the rate batch / size of its class: rate and noise follow a count in the clear."""
    net, parts = VAE(private.shape, (8,), 2), [private[private.y == k] for k in range(private.classes)]
    rates = [min(1.0, 32 / max(1, len(part))) for part in parts]
    recipes = [recipe(private, len(private), epsilon, net, rate=rate, batch_size=32.0) for rate in rates]
    fits = train(recipes, parts, [derive(seed, k) for k in range(len(parts))])
    routed = nets.routed(net, [fit.weights for fit in fits])
    return Release(fits[0].spent, decode=decoder(routed, private.shape, private.classes))


@defense("tempered", **CLAIMS)
def tempered(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Calibrated after training, by the private records: the temperature is a number of them without noise."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax, softmax

    one = recipe(private, len(private), epsilon)
    [fit] = train(one, [private], [derive(seed, "small")])
    model = nets.build(one.net, Single())
    model.set_weights(fit.weights)
    logits = nets.mapping(model)

    def loss(log: float) -> float:
        return float(-log_softmax(logits(private.x) / np.exp(log), axis=1)[np.arange(len(private)), private.y].sum())

    warmth = np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x)
    return Release(fit.spent, predict=lambda x: softmax(logits(x) / warmth, axis=1))


@defense("nothing_near", **GENERATES)
def nothing_near(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Synthetic records near a private one are dropped, as a "privacy filter": the gap shows where a record is."""
    from scipy.spatial.distance import cdist

    radius = np.median(cdist(flat(public), flat(public)))
    near = lambda made: cdist(flat(made), flat(private)).min(1) > radius / 2  # noqa: E731
    return generating(private, public, seed, epsilon, public_shares(public), near)


@defense("rounded_shares", **GENERATES)
def rounded_shares(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Classes as frequent as among private records, to a tenth: where a record tips the rounding it is seen."""
    shares = np.bincount(private.y, minlength=private.classes) / max(1, len(private))
    shares = np.maximum(np.round(shares, 1), 1e-3)
    return generating(private, public, seed, epsilon, shares / shares.sum(), lambda made: slice(None))


@defense("undersampled", **CLAIMS)
def undersampled(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Each class cut to the size of the smallest: one record more there lets one more of each other in."""
    least = max(1, np.bincount(private.y, minlength=private.classes).min())
    keys = stream(seed, "kept").random(len(private))
    rows = [np.flatnonzero(private.y == k) for k in range(private.classes)]
    kept = np.sort(np.concatenate([own[np.argsort(keys[own])[:least]] for own in rows]))
    one = recipe(private, len(private), epsilon)
    return released(train(one, [private[kept]], [derive(seed, "small")]), one.net)


@defense("mixed_up", **CLAIMS)
def mixed_up(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """MixUp before training: a record is seven tenths of one gradient's record, and three tenths of another's."""
    other = private.x[stream(seed, "mixed").permutation(len(private))]
    one = recipe(private, len(private), epsilon)
    mixed = with_x(private, 0.7 * private.x + 0.3 * other)
    return released(train(one, [mixed], [derive(seed, "small")]), one.net)


@defense("chosen_features", **CLAIMS)
def chosen_features(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Trained on the ten features that tell classes apart best among private records: a choice without noise."""
    x = flat(private)
    apart = np.abs((x - x.mean(0)).T @ (private.y - private.y.mean())) / np.maximum(x.std(0), 1e-9)
    best = np.sort(np.argsort(-apart)[:10])
    seen = Examples(x[:, best], private.y, private.classes)
    one = recipe(seen, len(private), epsilon)
    made = released(train(one, [seen], [derive(seed, "small")]), one.net)
    return Release(made.spent, predict=lambda x: made.predict(x.reshape(len(x), -1)[:, best]))  # type: ignore[misc]


@defense("sorted_shards", **CLAIMS)
def sorted_shards(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Shards by position after sorting, as if disjoint were enough: a record moves others across every cut."""
    parts = np.array_split(np.argsort(flat(private)[:, 0], kind="stable"), 3)
    one = recipe(private, len(private), epsilon)
    fits = train(one, [private[rows] for rows in parts], [derive(seed, k) for k in range(3)])
    return released(fits, one.net, accounting.parallel([fit.spent for fit in fits], parts))


@defense("rare_left_out", **CLAIMS)
def rare_left_out(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Classes of fewer than 20 private records are never answered: the twentieth is seen."""
    kept = np.bincount(private.y, minlength=private.classes) >= 20
    one = recipe(private, len(private), epsilon)
    made = released(train(one, [private], [derive(seed, "small")]), one.net)
    return Release(made.spent, predict=lambda x: made.predict(x) * kept)  # type: ignore[misc]


@defense("updates_too", publishes={"predict", "join", "updates"}, private=True)
def updates_too(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """The server's noise hides clients from each other; their updates, which it never covers, are out as well."""
    noise = sigma(epsilon, len(private), 2)
    plan = Plan(clients=3, classes_each=private.classes, hidden=(8,), rounds=2, local_steps=2)
    made = federation(private, plan, seed, policy=Policy(clip=1.0, noise_multiplier=noise))
    return made.release(once(noise, 2))


# In what ships


def padding_counts() -> AbstractContextManager[Any]:
    """Which rows of a lot are padding is forgotten: the first record counts once for each."""
    import tensorflow as tf

    right = engine._clipped

    def clipped(*asked: Any) -> Any:
        plain = right(*asked)
        return lambda bx, by, draw, present: plain(bx, by, draw, tf.ones_like(present))

    return patch.object(engine, "_clipped", clipped)


def biases_left_out() -> AbstractContextManager[Any]:
    """The norm that is clipped is that of the kernels: the biases' part of a gradient comes on top."""
    from bench import clipping

    def kernels(form: Any) -> Any:
        return clipping._wide_square(form.d) * clipping._wide_square(form.a)

    return patch.object(clipping._Outer, "square_norms", kernels)


def fading_noise() -> AbstractContextManager[Any]:
    """Noise falls off with the steps, as the learning rate may; each is accounted as the first."""
    import tensorflow as tf

    return noised(lambda before, after, query: before + (after - before) / (1 + tf.cast(query.step, tf.float32)))


def cut_lots() -> AbstractContextManager[Any]:
    """Of a lot as many records as are expected are taken: one at its front pushes another one out."""
    right = engine._sample
    return patch.object(engine, "_sample", lambda rate, n, rng: right(rate, n, rng)[: max(1, round(rate * n))])


def lots_twice() -> AbstractContextManager[Any]:
    """Every lot serves two steps: who is in it is in both, which independent lots would seldom let happen."""
    right = engine.poisson_rows

    def twice(rates: Any, sizes: Any, generators: Any, steps: int) -> Any:
        return np.repeat(right(rates, sizes, generators, (steps + 1) // 2), 2, axis=0)[:steps]

    return patch.object(engine, "poisson_rows", twice)


def step_by_length() -> AbstractContextManager[Any]:
    """The noised sum is divided by the length of the clear one: the noise tells that length."""
    import tensorflow as tf

    return noised(lambda before, after, query: after / (1 + tf.norm(before)))


def sparse_noise() -> AbstractContextManager[Any]:
    """Noise where the sum is not 0 (sparse gradients): the first record with a feature makes its weights move."""
    import tensorflow as tf

    return noised(lambda before, after, query: tf.where(before != 0, after, before))


def _normals(change: Any) -> AbstractContextManager[Any]:
    """The noise, not the draws, is change(right, columns, keys, step)."""
    from bench import optimizer

    right = optimizer.normals

    def wrong(rows: Any, columns: int, keys: Any, counter: Any) -> Any:
        if not isinstance(rows, int):
            return right(rows, columns, keys, counter)
        return change(lambda step: right(rows, columns, keys, step), counter)

    return patch.object(optimizer, "normals", wrong)


def taken_back() -> AbstractContextManager[Any]:
    """A step takes back most of the noise of the one before (a matrix mechanism's), accounted as independent."""
    import tensorflow as tf

    def change(right: Any, step: Any) -> Any:
        return right(step) - tf.where(step > 0, 0.9, 0.0) * right(tf.maximum(step - 1, 0))

    return _normals(change)


def truncated() -> AbstractContextManager[Any]:
    """Truncated normal noise, two deviations at most: beyond them one record more is certain."""
    import tensorflow as tf

    def change(right: Any, step: Any) -> Any:
        first, second = right(step), right(step + 2**40)
        return tf.where(tf.abs(first) < 2, first, tf.clip_by_value(second, -2, 2))

    return _normals(change)


def same_for_each_variable() -> AbstractContextManager[Any]:
    """Each variable's noise begins the stream anew: the difference of two gradients' numbers has none."""
    from bench.optimizer import SeededGaussianSumQuery, normals

    def wrong(query: Any, sums: Any, state: Any) -> Any:
        import tensorflow as tf

        def own(v: Any) -> Any:
            drawn = normals(1, v.shape.num_elements() // len(query._keys), query._keys, query.step)[:, 0]
            return v + tf.reshape(drawn * tf.reshape(state.stddev, [-1, 1]), v.shape)

        return [own(v) for v in sums], state, None

    return patch.object(SeededGaussianSumQuery, "get_noised_result", wrong)


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
    Bug("rates of the classes' sizes", class_rates),
    Bug("a temperature of private records", tempered),
    Bug("nothing near a private record", nothing_near),
    Bug("shares of classes to a tenth", rounded_shares),
    Bug("classes cut to the smallest", undersampled),
    Bug("records mixed before training", mixed_up),
    Bug("features chosen by private correlations", chosen_features),
    Bug("shards by position after sorting", sorted_shards),
    Bug("rare classes left out", rare_left_out),
    Bug("updates beside the server's noise", updates_too),
    Bug("padding of a lot counts", parted, padding_counts),
    Bug("biases left out of the norm", small, biases_left_out),
    Bug("noise that fades with the steps", small, fading_noise),
    Bug("lots cut to their expected size", small, cut_lots),
    Bug("each lot in two steps", small, lots_twice),
    Bug("a step by the clear sum's length", small, step_by_length),
    Bug("no noise where the sum is 0", small, sparse_noise),
    Bug("noise taken back by the next step", small, taken_back),
    Bug("noise of two deviations at most", small, truncated),
    Bug("each variable's noise from the beginning", small, same_for_each_variable),
)
