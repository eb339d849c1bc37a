"""Correct defenses in styles that no defense of the project has; written after the probes.

A table of short, independent examples that is read as a whole: therefore longer than 300 lines.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import dp_accounting as dp
import numpy as np

from bench.core.component import defense
from bench.core.dataset import Examples
from bench.core.randomness import derive, stream
from bench.core.release import Release
from bench.dp import accounting, gaussian_mechanism, networks, vae
from bench.dp.layers import Single
from bench.dp.networks import Classifier
from bench.dp.recipe import Privacy, Recipe, private_training
from bench.dp.tensorflow_setup import tensorflow
from bench.dp.train import train
from bench.dp.vae import VAE
from bench.models.classifier import classify, standard
from bench.models.federated.plan import Plan
from bench.models.federated.protocol import federation
from bench.models.federated.server import Policy

from .bug import CLAIMS, Array, Bug, by_class, event_of, flat, recipe, released, sigma, units
from .fresh import by_clients, consensus, tables

GENERATES = {"publishes": {"generate", "synthetic"}, "private": True}
BINS = 8


def softmax(scores: Array) -> Array:
    """Rows of probabilities."""
    p = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(p / p.sum(1, keepdims=True))


# Noised statistics


@defense("marginals", publishes={"predict", "generate", "synthetic"}, private=True)
def marginals(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: noised histograms over public bins of each feature by class; a record is in one bin per feature."""
    noise, d = sigma(epsilon, len(private), 1), int(np.prod(private.shape))
    bins = np.minimum((flat(private.x) * BINS).astype(int), BINS - 1)
    counts = by_class(np.eye(BINS)[bins], private.y, private.classes)
    counts = np.maximum(gaussian_mechanism.gaussian(counts, d**0.5, noise, stream(seed, "counts")), 1e-3)
    shares = counts.sum((1, 2)) / counts.sum()

    def generate(n: int, seed: int) -> Examples:
        rng = stream(seed, "records")
        y = rng.choice(len(shares), n, p=shares)
        cumulated = (counts / counts.sum(2, keepdims=True)).cumsum(2)[y]
        place = np.minimum((rng.random((n, d, 1)) > cumulated).sum(2), BINS - 1)
        return Examples(((place + rng.random((n, d))) / BINS).reshape(n, *private.shape), y, private.classes)

    synthetic = generate(500, derive(seed, "synthetic"))
    head = classify(synthetic, derive(seed, "head"), standard(synthetic, hidden=(16,), steps=30))
    return Release(event_of(noise), predict=head.predict, generate=generate, synthetic=synthetic)


@defense("gaussians", **GENERATES)
def gaussians(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: noised sums, squares and counts by class, of norm 2 per record; one normal distribution per class."""
    noise, d = sigma(epsilon, len(private), 1), int(np.prod(private.shape))
    bounded = np.column_stack([units(flat(private.x) - 0.5), np.ones(len(private))])
    moments = by_class(bounded[:, :, None] * bounded[:, None], private.y, private.classes)
    moments = gaussian_mechanism.gaussian(moments, 2.0, noise, stream(seed, "moments"))
    count = np.maximum(moments[:, -1, -1], 2.0)
    mean = moments[:, -1, :-1] / count[:, None]
    spread = moments[:, :-1, :-1] / count[:, None, None] - mean[:, :, None] * mean[:, None]
    values, vectors = np.linalg.eigh((spread + spread.transpose(0, 2, 1)) / 2)
    roots = vectors * np.sqrt(np.clip(values, 1e-4, 1))[:, None]

    def generate(n: int, seed: int) -> Examples:
        rng = stream(seed, "records")
        y = rng.choice(len(count), n, p=count / count.sum())
        x = 0.5 + mean[y] + np.einsum("nij,nj->ni", roots[y], rng.standard_normal((n, d)))
        return Examples(np.clip(x, 0, 1).reshape(n, *private.shape), y, private.classes)

    return Release(event_of(noise), generate=generate, synthetic=generate(300, derive(seed, "synthetic")))


@defense("bayes", **CLAIMS)
def bayes(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: naive Bayes of noised counts, sums and squares, each a separate use with a separate bound."""
    n, noise, d = len(private), sigma(epsilon, len(private), 3), int(np.prod(private.shape))
    x, rng = flat(private.x), stream(seed, "moments")
    counts = gaussian_mechanism.gaussian(np.bincount(private.y, minlength=private.classes), 1.0, noise, rng)
    sums = gaussian_mechanism.gaussian(by_class(x, private.y, private.classes), d**0.5, noise, rng)
    squares = gaussian_mechanism.gaussian(by_class(x**2, private.y, private.classes), d**0.5, noise, rng)
    counts = np.maximum(counts, 0.01 * n)[:, None]
    mean = np.clip(sums / counts, 0, 1)
    spread = np.maximum(squares / counts - mean**2, 0.01)

    def predict(asked: Any) -> Array:
        far = (flat(asked)[:, None] - mean) ** 2 / spread + np.log(spread)
        return softmax(np.log(counts.T) - far.sum(2) / 2)

    return Release(event_of(noise, 3), predict=predict)


@defense("regression", **CLAIMS)
def regression(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: ridge regression on labels from one noised matrix of products of records of norm 1 and their labels."""
    noise, classes = sigma(epsilon, len(private), 1), private.classes
    bounded = np.column_stack([units(flat(private.x) - 0.5), np.eye(classes)[private.y]])
    products = gaussian_mechanism.gaussian(bounded.T @ bounded, 2.0, noise, stream(seed, "products"))
    square, cross = products[:-classes, :-classes], products[:-classes, -classes:]
    weights = np.linalg.solve((square + square.T) / 2 + 10 * noise * np.eye(len(square)), cross)
    return Release(event_of(noise), predict=lambda x: softmax(4 * units(flat(x) - 0.5) @ weights))


@defense("centred", **CLAIMS)
def centred(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: records centred by a noised sum over their number, and a noised matrix of second moments."""
    noise, n = sigma(epsilon, len(private), 3), len(private)
    mean = gaussian_mechanism.gaussian(units(flat(private.x)).sum(0), 1.0, noise, stream(seed, "sum")) / n
    bounded = units(units(flat(private.x)) - mean)
    moments = gaussian_mechanism.gaussian(bounded.T @ bounded, 1.0, noise, stream(seed, "moments"))
    axes = np.linalg.eigh((moments + moments.T) / 2)[1][:, -3:]
    sums = gaussian_mechanism.gaussian(
        by_class(bounded @ axes, private.y, private.classes), 1.0, noise, stream(seed, "classes")
    )
    return Release(event_of(noise, 3), predict=lambda x: softmax(units(units(flat(x)) - mean) @ axes @ sums.T / n))


@defense("forest", **CLAIMS)
def forest(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: twenty trees whose splits are drawn from public records; a record is in one noised leaf of each."""
    trees, depth, rng = 20, 3, stream(seed, "trees")
    noise, seen = sigma(epsilon, len(private), 1), flat(public.x)
    features = rng.integers(0, seen.shape[1], (trees, depth))
    cuts = seen[rng.integers(0, len(seen), (trees, depth)), features]

    def leaves(x: Any) -> Array:
        return np.asarray((flat(x)[:, features] > cuts) @ 2 ** np.arange(depth))

    counts = by_class(np.eye(2**depth)[leaves(private.x)], private.y, private.classes)
    counts = np.maximum(gaussian_mechanism.gaussian(counts, trees**0.5, noise, stream(seed, "leaves")), 0.1)
    shares = counts / counts.sum(0)

    def predict(x: Any) -> Array:
        return np.asarray(shares[:, np.arange(trees), leaves(x)].mean(2).T)

    return Release(event_of(noise), predict=predict)


@defense("k_means", publishes={"predict", "generate", "synthetic"}, private=True)
def k_means(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: k-means from public first centres, noised sums and counts in each round, and the labels at the end."""
    rounds, k = 3, 6
    noise, bounded = sigma(epsilon, len(private), rounds + 1), units(flat(private.x) - 0.5)
    centres = units(flat(public.x) - 0.5)[stream(seed, "first").permutation(len(public))[:k]]

    def nearest(x: Array) -> Array:
        return np.asarray(np.linalg.norm(x[:, None] - centres, axis=2).argmin(1))

    for t in range(rounds):
        beside = np.column_stack([bounded, np.ones(len(bounded))])
        sums = gaussian_mechanism.gaussian(
            by_class(beside, nearest(bounded), k), 2**0.5, noise, stream(seed, "round", t)
        )
        centres = units(sums[:, :-1] / np.maximum(sums[:, -1:], 1))
    labels = by_class(np.eye(private.classes)[private.y], nearest(bounded), k)
    labels = np.maximum(gaussian_mechanism.gaussian(labels, 1.0, noise, stream(seed, "labels")), 0.1)

    def predict(x: Any) -> Array:
        found = labels[nearest(units(flat(x) - 0.5))]
        return np.asarray(found / found.sum(1, keepdims=True))

    def generate(n: int, seed: int) -> Examples:
        rng = stream(seed, "records")
        place = rng.choice(labels.size, n, p=labels.ravel() / labels.sum())
        x = 0.5 + centres[place // labels.shape[1]] + rng.normal(0, 0.1, (n, centres.shape[1]))
        return Examples(np.clip(x, 0, 1).reshape(n, *private.shape), place % labels.shape[1], private.classes)

    made = generate(200, derive(seed, "synthetic"))
    return Release(event_of(noise, rounds + 1), predict=predict, generate=generate, synthetic=made)


@defense("chosen", **CLAIMS)
def chosen(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: of four models of public records, the one with the largest noised count of correct predictions."""
    noise = sigma(epsilon, len(private), 1)
    plain = [replace(standard(public, hidden=(8,), steps=10), learning_rate=pace) for pace in (0.1, 0.03, 0.01, 0.003)]
    each = [classify(public, derive(seed, "public", k), one).predict for k, one in enumerate(plain)]
    right = np.array([(predict(private.x).argmax(1) == private.y).sum() for predict in each])
    best = gaussian_mechanism.gaussian(right, len(each) ** 0.5, noise, stream(seed, "right")).argmax()
    return Release(event_of(noise), predict=each[int(best)])


def _regressed(private: Examples, rate: float, noise: float, steps: int, seed: int) -> Any:
    """Logistic regression in NumPy: sums of clipped gradients over Poisson batches, noised by the mechanism.

    The divisor is a constant: with the number of records, the linter could not separate its influence from that of the
    random batches.
    """
    x = np.column_stack([flat(private.x), np.ones(len(private))])
    weights = np.zeros((x.shape[1], private.classes))
    for t in range(steps):
        batch = stream(seed, "lot", t).random(len(x)) < rate
        slopes = softmax(x[batch] @ weights) - np.eye(private.classes)[private.y[batch]]
        each = units((x[batch][:, :, None] * slopes[:, None]).reshape(batch.sum(), -1))
        total = gaussian_mechanism.gaussian(each.sum(0), 1.0, noise, stream(seed, "noise", t))
        weights = weights - total.reshape(weights.shape) / (rate * 200)
    return lambda asked: softmax(np.column_stack([flat(asked), np.ones(len(asked))]) @ weights)


@defense("descent", **CLAIMS)
def descent(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: DP gradient descent in NumPy, all records in each of five steps, noised by the mechanism."""
    noise = sigma(epsilon, len(private), 5)
    return Release(event_of(noise, 5), predict=_regressed(private, 1.0, noise, 5, seed))


@defense("descent_in_lots", **CLAIMS)
def descent_in_lots(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: DP-SGD in NumPy on Poisson batches, accounted as if every record were in each."""
    noise = sigma(epsilon, len(private), 5)
    return Release(event_of(noise, 5), predict=_regressed(private, 0.3, noise, 5, seed))


# Statistics, then trainings


@defense("normalised", **CLAIMS)
def normalised(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: records are centred and scaled by a noised mean and a noised deviation, which are accounted."""
    n, d, rng = len(private), int(np.prod(private.shape)), stream(seed, "moments")
    noise, x = sigma(epsilon / 2, n, 2), flat(private.x)
    mean = gaussian_mechanism.gaussian(x.sum(0), d**0.5, noise, rng) / n
    square = gaussian_mechanism.gaussian(np.clip(x - mean, -1, 1).__pow__(2).sum(0), d**0.5, noise, rng) / n
    scale = np.sqrt(np.maximum(square, 1e-2))

    def before(asked: Any) -> Array:
        return np.clip((flat(asked) - mean) / scale, -4, 4).astype(np.float32)

    scaled_records = Examples(before(private.x), private.y, private.classes)
    one = recipe(scaled_records, n, epsilon / 2, optimizer="sgd", momentum=0.9, schedule="linear", ema=0.9)
    [fit] = train(one, [scaled_records], [derive(seed, "normalised")])
    made = released([fit], one.net)
    dp_event = dp.ComposedDpEvent([event_of(noise, 2), fit.dp_event])
    return Release(dp_event, predict=lambda asked: made.predict(before(asked)))


@defense("projected", publishes={"predict", "encode"}, private=True)
def projected(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: axes of a noised matrix of second moments, then DP-SGD on projections, which are released."""
    n, noise = len(private), sigma(epsilon / 4, len(private), 1)
    bounded = units(flat(private.x) - 0.5)
    moments = gaussian_mechanism.gaussian(bounded.T @ bounded, 1.0, noise, stream(seed, "moments"))
    axes = np.linalg.eigh((moments + moments.T) / 2)[1][:, -4:].astype(np.float32)
    tf = tensorflow()
    layer = tf.keras.layers.Dense(4, use_bias=False)
    encoder = tf.keras.Sequential([tf.keras.Input(private.shape), tf.keras.layers.Flatten(), layer])
    encoder.set_weights([axes])
    encode = networks.published(encoder)
    codes = Examples(encode(private.x), private.y, private.classes)
    one = recipe(codes, n, 3 * epsilon / 4, Classifier(codes.shape, codes.classes, ()))
    [fit] = train(one, [codes], [derive(seed, "projected")])
    made = released([fit], one.net)
    dp_event = dp.ComposedDpEvent([event_of(noise), fit.dp_event])
    return Release(dp_event, predict=lambda x: made.predict(encode(x)), encode=encode)


@defense("class_vaes", publishes={"decode", "generate", "synthetic"}, private=True)
def class_vaes(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: noised class counts, then a VAE per class with divisor and shares by these; all accounted."""
    n, classes, noise = len(private), private.classes, sigma(epsilon / 4, len(private), 1)
    counts = gaussian_mechanism.gaussian(np.bincount(private.y, minlength=classes), 1.0, noise, stream(seed, "counts"))
    counts = np.maximum(counts, 10.0)
    net = VAE(private.shape, (8,), 2)
    rows = [np.flatnonzero(private.y == k) for k in range(classes)]
    many = [recipe(private, n, 3 * epsilon / 4, net, batch_size=float(0.2 * count)) for count in counts]
    fits = train(many, [private[part] for part in rows], [derive(seed, "vae", k) for k in range(classes)])
    model = vae.routed(net, [fit.weights for fit in fits])
    decode = networks.Published(model, networks.mapping(model, "sigmoid", private.shape), classes)

    def generate(n: int, seed: int) -> Examples:
        rng = stream(seed, "records")
        y = rng.choice(classes, n, p=counts / counts.sum())
        z = np.concatenate([rng.standard_normal((n, 2)), np.eye(classes)[y]], 1)
        return Examples(decode(z), y, classes)

    dp_event = dp.ComposedDpEvent([event_of(noise), accounting.parallel([fit.dp_event for fit in fits], rows)])
    return Release(dp_event, decode=decode, generate=generate, synthetic=generate(200, derive(seed, "synthetic")))


@defense("paced", **CLAIMS)
def paced(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: a training per class with a rate by its noised count; on disjoint data, the largest rate counts."""
    n, noise = len(private), sigma(epsilon / 4, len(private), 1)
    counts = gaussian_mechanism.gaussian(
        np.bincount(private.y, minlength=private.classes), 1.0, noise, stream(seed, "counts")
    )
    rates = np.clip(20 / np.maximum(counts, 1), 0.05, 0.5)
    one = recipe(private, n, epsilon / 2)
    assert one.privacy
    most = private_training(3 * epsilon / 4, n, 0.5, one.steps, 1.0)
    many = [replace(one, rate=float(rate), batch_size=20.0, privacy=most) for rate in rates]
    rows = [np.flatnonzero(private.y == k) for k in range(private.classes)]
    fits = train(many, [private[part] for part in rows], [derive(seed, k) for k in range(len(rows))])
    return released(fits, one.net, dp.ComposedDpEvent([event_of(noise), fits[int(rates.argmax())].dp_event]))


@defense("norm_first", **CLAIMS)
def norm_first(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: the clip is the median of a noised histogram of norms over public bins; both are accounted."""
    n, noise = len(private), sigma(epsilon / 4, len(private), 1)
    edges = np.linspace(0, float(np.sqrt(np.prod(private.shape))), 33)
    places = np.histogram(np.linalg.norm(flat(private.x), axis=1), edges)[0]
    counts = gaussian_mechanism.gaussian(places, 1.0, noise, stream(seed, "norms"))
    clip = float(edges[1:][np.argmax(np.cumsum(counts) >= counts.sum() / 2)])
    one = recipe(private, n, 3 * epsilon / 4)
    assert one.privacy
    one = replace(one, privacy=Privacy(clip, one.privacy.noise_multiplier), learning_rate=0.1)
    [fit] = train(one, [private], [derive(seed, "norm_first")])
    return released([fit], one.net, dp.ComposedDpEvent([event_of(noise), fit.dp_event]))


# Several trainings


@defense("bagged", **CLAIMS)
def bagged(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: three models of random, overlapping parts; each is accounted in full."""
    one, rng = recipe(private, len(private), epsilon / 3), stream(seed, "bags")
    parts = [np.flatnonzero(rng.random(len(private)) < 0.6) for _ in range(3)]
    fits = train(one, [private[part] for part in parts], [derive(seed, "bag", k) for k in range(3)])
    return released(fits, one.net, accounting.parallel([fit.dp_event for fit in fits], parts))


@defense("dealt_by_coins", **CLAIMS)
def dealt_by_coins(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: three models of disjoint parts; the part of a record is drawn independently of other records."""
    one = recipe(private, len(private), epsilon, schedule="cosine")
    owner = stream(seed, "owner").integers(0, 3, len(private))
    parts = [np.flatnonzero(owner == k) for k in range(3)]
    fits = train(one, [private[part] for part in parts], [derive(seed, "part", k) for k in range(3)])
    return released(fits, one.net, accounting.parallel([fit.dp_event for fit in fits], parts))


@defense("best_in_public", **CLAIMS)
def best_in_public(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: three learning rates, all accounted, of which the best on public records is released."""
    ones = [recipe(private, len(private), epsilon / 3, learning_rate=pace) for pace in (0.3, 0.1, 0.03)]
    fits = [train(one, [private], [derive(seed, "try", k)])[0] for k, one in enumerate(ones)]
    each = [released([fit], ones[0].net) for fit in fits]
    right = [(made.predict(public.x).argmax(1) == public.y).mean() for made in each]
    return Release(dp.ComposedDpEvent([fit.dp_event for fit in fits]), predict=each[int(np.argmax(right))].predict)


@dataclass(frozen=True)
class Warm(Classifier):
    """A classifier that starts from given weights."""

    given: tuple[float, ...] = ()

    def start(self, weights: networks.Weights) -> networks.Weights:
        ends = np.cumsum([w.size for w in weights])[:-1]
        pieces = np.split(np.float32(self.given), ends)
        return [piece.reshape(w.shape) for piece, w in zip(pieces, weights, strict=True)]


def _warm(fit: Any, private: Examples) -> Warm:
    given = tuple(np.concatenate([w.ravel() for w in fit.weights]).tolist())
    return Warm(private.shape, private.classes, (8,), "tanh", given=given)


@defense("fine_tuned", publishes={"predict", "model"}, private=True)
def fine_tuned(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: a model of public records, fine-tuned with DP-SGD."""
    plain = replace(recipe(public, len(public), epsilon), privacy=None, steps=20)
    [first] = train(plain, [public], [derive(seed, "public")])
    one = recipe(private, len(private), epsilon, _warm(first, private), learning_rate=0.01)
    [fit] = train(one, [private], [derive(seed, "private")])
    model = networks.build(one.net, Single())
    model.set_weights(fit.weights)
    return Release(fit.dp_event, predict=networks.mapping(model, "softmax"), model=model)


@defense("in_two_phases", **CLAIMS)
def in_two_phases(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: a training that starts from another, with other batches, clip and rates; both are accounted."""
    n = len(private)
    privacy = private_training(epsilon / 2, n, 0.5, 4, 2.0)
    one = recipe(private, n, epsilon / 2, rate=0.5, batch_size=0.5 * n, privacy=privacy)
    [first] = train(one, [private], [derive(seed, "first")])
    two = recipe(private, n, epsilon / 2, _warm(first, private), learning_rate=0.02, optimizer="sgd")
    [second] = train(two, [private], [derive(seed, "second")])
    return released([second], two.net, dp.ComposedDpEvent([first.dp_event, second.dp_event]))


# Networks


@dataclass(frozen=True)
class Wide(networks.Net):
    """A classifier whose layers are clipped separately."""

    classes: int

    def connect(self, layers: Any, x: Any, draw: Any, label: Any) -> list[Any]:
        h = layers.flatten(x)
        for k, units_ in enumerate((12, 8)):
            h = layers.part(f"layer {k}").dense(h, units_, "gelu")
        return [layers.part("head").dense(h, self.classes)]

    def loss(self, outputs: list[Any], x: Any, y: Any) -> Any:
        import tensorflow as tf

        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=outputs[0])


@defense("layers_apart", **CLAIMS)
def layers_apart(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: each layer is clipped to its share of the clip."""
    one = recipe(private, len(private), epsilon, Wide(private.shape, private.classes), clip_networks=True)
    return released(train(one, [private], [derive(seed, "apart")]), one.net)


@dataclass(frozen=True)
class Normed(Classifier):
    """A classifier with a layer norm, which ghost clipping does not support."""

    def connect(self, layers: Any, x: Any, draw: Any, label: Any) -> list[Any]:
        import tensorflow as tf

        h = layers.flatten(x)
        h = h - tf.reduce_mean(h, -1, keepdims=True)
        h = h / tf.sqrt(tf.reduce_mean(tf.square(h), -1, keepdims=True) + 1e-3)
        return [layers.dense(layers.dense(h, 8, "relu"), self.classes)]


@defense("layer_norm", **CLAIMS)
def layer_norm(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: a network that normalises each record separately, with vectorized clipping."""
    net = Normed(private.shape, private.classes)
    one = recipe(private, len(private), epsilon, net, engine="vectorized")
    return released(train(one, [private], [derive(seed, "norm")]), one.net)


@dataclass(frozen=True)
class Seen2(Classifier):
    """A classifier on each record and a darker copy, with their mean loss (De et al. 2022)."""

    def connect(self, layers: Any, x: Any, draw: Any, label: Any) -> list[Any]:
        import tensorflow as tf

        x = layers.flatten(x)
        h = layers.dense(tf.stack([x, 0.8 * x], -2), 8, "tanh")
        return [layers.dense(h, self.classes)]

    def loss(self, outputs: list[Any], x: Any, y: Any) -> Any:
        import tensorflow as tf

        both = tf.stack([y, y], -1)
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=both, logits=outputs[0])
        return tf.reduce_mean(each, -1)


@defense("augmented", **CLAIMS)
def augmented(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: two views of a record in one loss, so that their mean gradient is clipped."""
    one = recipe(private, len(private), epsilon, Seen2(private.shape, private.classes))
    [fit] = train(one, [private], [derive(seed, "views")])
    return released([fit], Classifier(private.shape, private.classes, (8,), "tanh"), fit.dp_event)


@defense("one_step", **CLAIMS)
def one_step(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: one step of gradient descent on all records."""
    n = len(private)
    one = Recipe(Classifier(private.shape, private.classes, ()), 1, 1.0, n, 2.0, "sgd", momentum=0.0)
    one = replace(one, privacy=private_training(epsilon, n, 1.0, 1, 0.5))
    return released(train(one, [private], [derive(seed, "step")]), one.net)


@defense("small_lots", **CLAIMS)
def small_lots(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: thirty batches of two expected records, some empty; the noise does not depend on epsilon."""
    n = len(private)
    one = recipe(private, n, epsilon, steps=30, rate=2 / n, batch_size=2.0)
    return released(train(replace(one, privacy=Privacy(0.1, 0.7)), [private], [derive(seed, "lots")]), one.net)


@defense("gan", **GENERATES)
def gan(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: a GAN of records with their labels as features."""
    n, classes = len(private), private.classes
    labelled = np.column_stack([flat(private.x), np.eye(classes)[private.y]])
    joint = Examples(labelled, np.zeros(n, int), 1)
    net = networks.GAN(joint.shape, (12,), 3)
    [fit] = train(recipe(joint, n, epsilon, net, learning_rate=0.01), [joint], [derive(seed, "gan")])
    draw = networks.mapping(networks.generator(net, fit.weights))

    def generate(n: int, seed: int) -> Examples:
        made = draw(stream(seed, "z").standard_normal((n, 3)))
        x = made[:, :-classes].reshape(n, *private.shape)
        return Examples(x, made[:, -classes:].argmax(1), classes)

    return Release(fit.dp_event, generate=generate, synthetic=generate(100, derive(seed, "synthetic")))


@defense("everything", publishes={"predict", "model", "encode", "decode", "generate", "synthetic"}, private=True)
def everything(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: an autoencoder, records decoded from public embeddings, and a classifier of public embeddings."""
    net = networks.Autoencoder(private.shape, (8,), 3, "tanh")
    [fit] = train(recipe(private, len(private), epsilon, net), [private], [derive(seed, "ae")])
    encoder, half = networks.halves(net, fit.weights)
    encode = networks.published(encoder)
    decode = networks.published(half, "sigmoid", private.shape)
    codes = encode(public.x)
    encoded = Examples(codes, public.y, public.classes)
    head = classify(encoded, derive(seed, "head"), standard(encoded, hidden=(8,), steps=30))
    model = networks.chained(encoder, head.model)

    def generate(n: int, seed: int) -> Examples:
        rng = stream(seed, "codes")
        rows = rng.integers(0, len(codes), n)
        z = codes[rows] + rng.normal(0, 0.05, (n, codes.shape[1]))
        return Examples(decode(z), public.y[rows], public.classes)

    made = generate(150, derive(seed, "synthetic"))
    predict = networks.mapping(model, "softmax")
    return Release(
        fit.dp_event, predict=predict, model=model, encode=encode, decode=decode, generate=generate, synthetic=made
    )


# Clients


@defense("two_clients", publishes={"predict", "join", "updates"}, private=True)
def two_clients(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: two clients with all classes each, DP-SGD in each; half of each update is sent."""
    plan = Plan(2, private.classes, (8,), 2, 2, 60, 0.5, upload=0.5, download=0.5)
    rate = plan.rate(len(private))
    privacy = private_training(epsilon, len(private), rate, plan.steps, 0.5)
    assert privacy
    made = federation(private, plan, seed, privacy=privacy)
    dp_event = accounting.training_event(rate, privacy.noise_multiplier, plan.steps)
    return made.release(accounting.parallel([dp_event] * 2, made.rows))


@defense("asked_clients", publishes={"predict", "join"}, private=True)
def asked_clients(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: a server that selects half of six clients, clips and noises updates; no amplification is claimed."""
    plan = Plan(6, private.classes, (), 3, 2, 20, 0.5)
    noise = sigma(epsilon, len(private), 3)
    policy = Policy(clip=0.3, noise_multiplier=noise, client_rate=0.5)
    return federation(private, plan, seed, policy=policy).release(event_of(noise, 3), observed=False)


# Public records


@defense("jittered", **GENERATES)
def jittered(private: Examples, public: Examples, *, seed: int) -> Release:
    """Correct: public records with noise, without access to private records."""

    def generate(n: int, seed: int) -> Examples:
        rng = stream(seed, "records")
        rows = rng.integers(0, len(public), n)
        x = np.clip(public.x[rows] + rng.normal(0, 0.05, (n, *public.shape)), 0, 1)
        return Examples(x, public.y[rows], private.classes)

    return Release(accounting.no_access(), generate=generate, synthetic=public)


@defense("tried_again", **CLAIMS)
def tried_again(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: random features are drawn until they separate public records, then a noised sum is released."""
    noise, k = sigma(epsilon, len(private), 1), 0
    while True:
        axes = stream(seed, "axes", k).standard_normal((int(np.prod(private.shape)), 6))
        seen, k = np.tanh(flat(public.x) @ axes), k + 1
        if np.linalg.cond(np.cov(seen.T)) < 300 or k == 50:
            break
    features = units(np.tanh(flat(private.x) @ axes))
    means = gaussian_mechanism.gaussian(
        by_class(features, private.y, private.classes), 1.0, noise, stream(seed, "sums")
    )
    return Release(event_of(noise), predict=lambda x: softmax(0.1 * units(np.tanh(flat(x) @ axes)) @ means.T))


@defense("mixed_in", **CLAIMS)
def mixed_in(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: trained on private and public records in one data set, sampled and clipped equally."""
    both = Examples(np.concatenate([public.x, private.x]), np.concatenate([public.y, private.y]), private.classes)
    one = recipe(both, len(both), epsilon)
    one = replace(one, privacy=private_training(epsilon, len(private), one.rate, one.steps, 1.0))
    return released(train(one, [both], [derive(seed, "both")]), one.net)


EPSILON = {"small": (("epsilon", 0.5),), "large": (("epsilon", 20.0),)}
ALSO_RIGHT = (
    Bug("marginals over public bins", marginals), Bug("a normal distribution a class", gaussians),
    Bug("naive Bayes", bayes), Bug("ridge regression, epsilon 0.5", regression, options=EPSILON["small"]),
    Bug("components about a noised sum over n", centred), Bug("a forest of public splits", forest),
    Bug("k-means, epsilon 20", k_means, options=EPSILON["large"]),
    Bug("a noised choice", chosen), Bug("descent by the mechanism", descent),
    Bug("descent by the mechanism in lots", descent_in_lots),
    Bug("standardised by noised sums over n", normalised), Bug("noised components, then a training", projected),
    Bug("counts, then a VAE a class", class_vaes), Bug("a rate a class by noised counts", paced),
    Bug("a clip by noised norms", norm_first),
    Bug("parts that overlap, each accounted", bagged), Bug("records dealt out by coins", dealt_by_coins),
    Bug("the best on public records", best_in_public),
    Bug("fine-tuned from public records", fine_tuned), Bug("a training that goes on from another", in_two_phases),
    Bug("layers clipped apart", layers_apart), Bug("a layer norm, vectorized", layer_norm),
    Bug("two views of a record, epsilon 20", augmented, options=EPSILON["large"]),
    Bug("one step, epsilon 0.5", one_step, options=EPSILON["small"]),
    Bug("small lots", small_lots),
    Bug("a GAN of records with labels", gan), Bug("everything is let out", everything),
    Bug("two clients that send halves", two_clients), Bug("a server that asks some clients", asked_clients),
    Bug("public records with noise", jittered), Bug("draws until public records fit", tried_again),
    Bug("public records among the private", mixed_in),
    Bug("half of two classes agree, with noise", consensus("half_agree_noised", right=True)),
    Bug("small tables, each with its noise", tables("small_tables", lambda seed, j: stream(seed, "noise", j))),
    Bug("updates clipped by hand", by_clients("each_clipped", right=True)),
)  # fmt: skip
