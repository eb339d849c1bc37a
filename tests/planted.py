"""Defenses that claim DP: a few that are right, and people's mistakes, planted in them or in the optimizer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np

from bench import accounting, engine, nets
from bench.component import Choice
from bench.data import Data, Examples, record_keys
from bench.layers import Single
from bench.nets import Classifier, Published
from bench.probes.doors import watching
from bench.probes.lint import Finding, lint, replays
from bench.randomness import derive
from bench.registry import defense
from bench.release import Release
from bench.training import Fit, Recipe, private_training, train

CLAIMS = {"publishes": {"predict"}, "private": True}


def recipe(private: Examples, n: int, epsilon: float, net: nets.Net | None = None, **changes: Any) -> Recipe:
    """A short one of a small classifier, calibrated for `n` records."""
    rate, steps = 0.2, 4
    privacy = private_training(epsilon, n, rate, steps, 1.0)
    made = net or Classifier(private.shape, private.classes, (8,), "tanh")
    plan = {"steps": steps, "rate": rate, "batch_size": rate * n, "learning_rate": 0.1, "privacy": privacy}
    return Recipe(made, **{**plan, **changes})


def released(fits: list[Fit], net: nets.Net, spent: Any = None) -> Release:
    """The mean of classifiers, out as a predictor."""
    models = [nets.build(net, Single()) for _ in fits]
    for model, fit in zip(models, fits, strict=True):
        model.set_weights(fit.weights)
    each = [nets.mapping(model, "softmax") for model in models]
    return Release(spent or fits[0].spent, predict=lambda x: np.mean([predict(x) for predict in each], axis=0))


@defense("small", **CLAIMS)
def small(
    private: Examples,
    public: Examples,
    *,
    seed: int,
    epsilon: float = 8.0,
    engine: str = "onepass",
    activation: str = "tanh",
) -> Release:
    """Right: a small classifier, trained by the one door."""
    net = Classifier(private.shape, private.classes, (8,), activation)
    one = recipe(private, len(private), epsilon, net, engine=engine)
    return released(train(one, [private], [derive(seed, "small")]), one.net)


@defense("parted", **CLAIMS)
def parted(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Right: two classifiers on disjoint halves, by a hash of the record."""
    halves = _halves(private)
    one = recipe(private, len(private), epsilon)
    fits = train(one, [private[rows] for rows in halves], [derive(seed, k) for k in range(2)])
    return released(fits, one.net, accounting.parallel([fit.spent for fit in fits], halves))


@defense("sampling", publishes={"decode"}, private=True)
def sampling(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Right: a small VAE."""
    net = nets.VAE(private.shape, (8,), 2)
    [fit] = train(recipe(private, len(private), epsilon, net), [private], [derive(seed, "vae")])
    model = nets.decoder(net, fit.weights)
    return Release(fit.spent, decode=Published(model, nets.mapping(model)))


def _halves(private: Examples) -> list[np.ndarray[Any, Any]]:
    side = np.array([key[0] % 2 for key in record_keys(private)], int)
    return [np.flatnonzero(side == k) for k in range(2)]


# In the optimizer


def noised(change: Callable[[Any, Any, Any], Any]) -> AbstractContextManager[Any]:
    """Each noised sum is change(sum, what it should be, the query)."""
    from bench.optimizer import SeededGaussianSumQuery

    right = SeededGaussianSumQuery.get_noised_result

    def wrong(query: Any, sums: Any, state: Any) -> Any:
        out, *rest = right(query, sums, state)
        return [change(a, b, query) for a, b in zip(sums, out, strict=True)], *rest

    return patch.object(SeededGaussianSumQuery, "get_noised_result", wrong)


def no_noise() -> AbstractContextManager[Any]:
    return noised(lambda before, after, query: before)


def divided_noise() -> AbstractContextManager[Any]:
    return noised(lambda before, after, query: before + (after - before) / 36)


def same_noise() -> AbstractContextManager[Any]:
    """Of every model that of the first."""
    return noised(lambda before, after, query: before + (after - before)[:1])


def doubled() -> AbstractContextManager[Any]:
    from bench import clipping

    right = clipping.clip_factors
    return patch.object(clipping, "clip_factors", lambda squares, clip: right(squares, 2 * clip))


def _dense_gradients(sites: Any, deltas: Any) -> list[Any]:
    """Per-record gradients (n, *variable) of dense layers, kernels and biases in turn."""
    import tensorflow as tf

    pairs = []
    for site, d in zip(sites, deltas, strict=True):
        if d.shape.rank == 2:
            pairs.append((tf.einsum("np,nq->npq", site.a, d), d))
        else:  # of models side by side
            pairs.append((tf.einsum("knp,knq->nkpq", site.a, d), tf.transpose(d, (1, 0, 2))[:, :, None]))
    return [g for pair in pairs for g in pair]


def in_pairs() -> AbstractContextManager[Any]:
    """num_microbatches at half of the lot: the mean gradient of every two records is clipped, in either engine."""
    import tensorflow as tf

    from bench import optimizer

    right = optimizer.vectorized_clipped_sums

    def means(gradient: Any) -> Any:
        odd = tf.shape(gradient)[0] % 2
        padded = tf.concat([gradient, tf.zeros_like(gradient[:odd])], 0)
        return tf.reduce_mean(tf.reshape(padded, (-1, 2, *gradient.shape[1:])), 1)

    def vectorized(gradients: Any, clip: Any, *rest: Any) -> Any:
        return [2 * total for total in right([means(g) for g in gradients], clip, *rest)]

    def onepass(loss: Any, sites: Any, tape: Any, clip: Any) -> Any:
        gradients = _dense_gradients(sites, tape.gradient(loss, [s.z for s in sites]))
        return vectorized(gradients, clip, loss.shape.rank == 2)

    both = {"vectorized_clipped_sums": vectorized, "onepass_clipped_sums": onepass}
    return patch.multiple(optimizer, **both)


@contextmanager
def own_size() -> Iterator[None]:
    """Sums and noise are divided by how many records the lot holds."""
    import tensorflow as tf

    from bench import optimizer

    held: list[Any] = []
    right = engine._clipped

    def clipped(*asked: Any) -> Any:
        plain = right(*asked)

        def counted(bx: Any, by: Any, draw: Any, present: Any) -> Any:
            if not (held and held[0].graph in _outer(present.graph)):  # of a lot in pieces, the first piece
                held[:] = [tf.maximum(tf.reduce_sum(tf.cast(present, tf.float32), -1), 1.0)]
            return plain(bx, by, draw, present)

        return counted

    def divisor(made: Any, rank: int) -> Any:
        [size] = held
        return size if size.shape.rank == 0 else tf.reshape(size, [-1, *[1] * (rank - 1)])

    with patch.object(engine, "_clipped", clipped), patch.object(optimizer.PoissonDPAdam, "_divisor", divisor):
        yield


def _outer(graph: Any) -> list[Any]:
    """The graphs that a graph lies in."""
    found = []
    while graph := getattr(graph, "outer_graph", None):
        found.append(graph)
    return found


def second_pass() -> AbstractContextManager[Any]:
    """A record's factor comes from one forward pass, its gradient from another, with other draws."""
    import tensorflow as tf

    from bench import clipping

    def clipped(asked: Any, forward: Any, optimizer: Any, layers: Any) -> Any:
        variables = [w for layer in layers for w in layer.trainable_weights]

        def twice(bx: Any, by: Any, draw: Any, present: Any) -> Any:
            with tf.GradientTape() as tape:
                losses, a, z = forward(bx, by, draw)
                losses = tf.where(present, losses, 0.0)
            sites = [clipping.site(*each) for each in zip(layers, a, z, strict=True)]
            gradients = _dense_gradients(sites, tape.gradient(losses, z))
            squares = tf.add_n([clipping._square_of_record(g, 1) for g in gradients])
            factors = tf.where(present, clipping.clip_factors(squares, optimizer._l2_norm_clip), 0.0)
            with tf.GradientTape() as tape:
                again, _, _ = forward(bx, by, 3.0 * tf.reverse(draw, [-1]))
                total = tf.reduce_sum(factors * again)
            return tape.gradient(total, variables)

        return twice

    return patch.object(engine, "_clipped", clipped)


def last_layer_alone() -> AbstractContextManager[Any]:
    return noised(lambda before, after, query: after if before.shape[-1] == 2 else before)


def square_root() -> AbstractContextManager[Any]:
    """Noise of the root of its standard deviation."""
    return noised(lambda before, after, query: before + (after - before) / np.sqrt(np.maximum(query._stddev, 1e-9)))


def layer_by_layer() -> AbstractContextManager[Any]:
    """Each layer is clipped to the whole clip."""
    from bench import clipping

    def shares(networks: Any, squares: Any, clip: Any) -> Any:
        return [clipping.clip_factors(square, clip) for square in squares]

    return patch.object(clipping, "_shares", shares)


def fixed_noise() -> AbstractContextManager[Any]:
    """Whatever the seed, the same streams of noise."""
    from bench import optimizer

    right = optimizer.SeededGaussianSumQuery.__init__

    def wrong(query: Any, clip: Any, stddev: Any, keys: Any) -> None:
        right(query, clip, stddev, list(range(len(keys))))

    return patch.object(optimizer.SeededGaussianSumQuery, "__init__", wrong)


def every_step_alike() -> AbstractContextManager[Any]:
    from bench import optimizer

    right = optimizer.SeededGaussianSumQuery.get_noised_result

    def wrong(query: Any, sums: Any, state: Any) -> Any:
        query.step = 0
        return right(query, sums, state)

    return patch.object(optimizer.SeededGaussianSumQuery, "get_noised_result", wrong)


def clipped_mean() -> AbstractContextManager[Any]:
    """The mean over the lot is clipped, no record's gradient."""
    import tensorflow as tf

    from bench import optimizer

    def onepass(loss: Any, sites: Any, tape: Any, clip: Any) -> Any:
        sums = [tf.reduce_sum(g, 0) for g in _dense_gradients(sites, tape.gradient(loss, [s.z for s in sites]))]
        return list(tf.clip_by_global_norm(sums, clip)[0])

    return patch.object(optimizer, "onepass_clipped_sums", onepass)


def lots(draw: Callable[[float, int, np.random.Generator, int], Any]) -> AbstractContextManager[Any]:
    """Rows of a lot are draw(rate, n, generator, number of the lot)."""

    def rows(rates: Any, sizes: Any, generators: Any, steps: int) -> Any:
        drawn = [[draw(*own, t) for own in zip(rates, sizes, generators, strict=True)] for t in range(steps)]
        width = max(1, max(len(r) for step in drawn for r in step))
        out = np.full((steps, len(sizes), width), -1, np.int32)
        for t, step in enumerate(drawn):
            for k, r in enumerate(step):
                out[t, k, : len(r)] = r
        return out

    return patch.object(engine, "poisson_rows", rows)


def fixed_size() -> AbstractContextManager[Any]:
    return lots(lambda rate, n, rng, t: rng.permutation(n)[: max(1, round(rate * n))])


def shuffled() -> AbstractContextManager[Any]:
    """Epochs: every record in turn, in an order that is drawn once."""

    def draw(rate: float, n: int, rng: np.random.Generator, t: int) -> Any:
        size = max(1, round(rate * n))
        return (np.random.default_rng(0).permutation(n)[np.arange(t * size, (t + 1) * size) % max(1, n)])[:n]

    return lots(draw)


def twice_in_a_lot() -> AbstractContextManager[Any]:
    return lots(lambda rate, n, rng, t: rng.integers(0, max(1, n), rng.binomial(n, rate)))


# In a defense


@defense("scaled", **CLAIMS)
def scaled(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Scales by the private maximum, for training alone."""
    own = Examples(private.x / private.x.max(), private.y, private.classes)
    return small(own, public, seed=seed, epsilon=epsilon)


@defense("scaled_outside", **CLAIMS)
def scaled_outside(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Scales by the private maximum, in the predictor too."""
    top, made = private.x.max(), scaled(private, public, seed=seed, epsilon=epsilon)
    return Release(made.spent, predict=lambda x: made.predict(x / top))


@defense("own_loop", **CLAIMS)
def own_loop(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """TensorFlow Privacy's optimizer in a loop of its own, with half as many microbatches as records."""
    tf = engine.tensorflow()
    from tensorflow_privacy import VectorizedDPKerasSGDOptimizer

    one = recipe(private, len(private), epsilon)
    model = engine.build(one.net, [np.random.default_rng(seed)])
    loss = tf.keras.losses.SparseCategoricalCrossentropy(True, reduction="none")
    tf.random.set_seed(seed)
    optimizer = VectorizedDPKerasSGDOptimizer(
        l2_norm_clip=1.0, noise_multiplier=one.privacy.noise_multiplier, num_microbatches=18, learning_rate=0.1
    )
    rng = np.random.default_rng(seed)
    for _ in range(one.steps):
        rows = rng.permutation(len(private))[:36]
        with tf.GradientTape(persistent=True) as tape:
            losses = loss(private.y[rows], model(private.x[rows]))
        optimizer.minimize(losses, model.trainable_weights, tape=tape)
    spent = accounting.training_event(one.rate, one.privacy.noise_multiplier, one.steps)
    return Release(spent, predict=nets.mapping(model, "softmax"))


@defense("class_by_class", **CLAIMS)
def class_by_class(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """A training a half, each started with the seed of the release."""
    halves, one = _halves(private), recipe(private, len(private), epsilon)
    fits = [train(one, [private[rows]], [derive(seed, "half")])[0] for rows in halves]
    return released(fits, one.net, accounting.parallel([fit.spent for fit in fits], halves))


@defense("overlapping", **CLAIMS)
def overlapping(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Parts that share records, accounted as if they shared none."""
    one, third = recipe(private, len(private), epsilon), np.array([key[0] % 3 for key in record_keys(private)])
    fits = train(one, [private[third != k] for k in range(2)], [derive(seed, k) for k in range(2)])
    return released(fits, one.net)


@defense("doubled_records", **CLAIMS)
def doubled_records(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Every record twice, the second one turned around, as in data augmentation."""
    x, y = np.concatenate([private.x, private.x[:, ::-1]]), np.tile(private.y, 2)
    return small(Examples(x, y, private.classes), public, seed=seed, epsilon=epsilon)


@defense("fewer_steps", **CLAIMS)
def fewer_steps(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Four times as many steps as are accounted."""
    one = recipe(private, len(private), epsilon, steps=16)
    fits = train(one, [private], [derive(seed, "small")])
    return released(fits, one.net, accounting.training_event(one.rate, one.privacy.noise_multiplier, 4))


@defense("other_rate", **CLAIMS)
def other_rate(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Samples with five times the rate that is accounted."""
    one = recipe(private, len(private), epsilon, rate=1.0)
    fits = train(one, [private], [derive(seed, "small")])
    return released(fits, one.net, accounting.training_event(0.2, one.privacy.noise_multiplier, 4))


@defense("checkpoint", **CLAIMS)
def checkpoint(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """The better of two trainings by the private loss; both are accounted, the choice is not."""
    import dp_accounting as dp

    one = recipe(private, len(private), epsilon / 2)
    fits = [train(one, [private], [derive(seed, k)])[0] for k in range(2)]
    both = [released([fit], one.net) for fit in fits]
    right = [(made.predict(private.x).argmax(1) == private.y).mean() for made in both]
    return Release(dp.ComposedDpEvent([fit.spent for fit in fits]), predict=both[int(np.argmax(right))].predict)


@defense("remembering", **CLAIMS)
def remembering(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Answers for private records what it knows, once it is asked."""
    made, known = small(private, public, seed=seed, epsilon=epsilon), {row.tobytes() for row in private.x}

    def predict(x: Any) -> Any:
        own = np.array([row.tobytes() in known for row in np.asarray(x, np.float32)])
        return np.where(own[:, None], 1 / private.classes, made.predict(x))

    return Release(made.spent, predict=predict)


@defense("filtered", publishes={"synthetic"}, private=True)
def filtered(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Synthetic records, but those that are near a private one."""
    made = sampling(private, public, seed=seed, epsilon=epsilon)
    z = np.random.default_rng(seed).standard_normal((100, 2), np.float32)
    x = 1 / (1 + np.exp(-made.decode(z)))
    distances = np.linalg.norm(x[:, None] - private.x[None], axis=2).min(1)
    kept = x[distances > 1e-3 * math.sqrt(x.shape[1])]
    return Release(made.spent, synthetic=Examples(kept, np.arange(len(kept)) % private.classes, private.classes))


@defense("shares", **CLAIMS)
def shares(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Predictions times the private shares of the classes."""
    made, prior = small(private, public, seed=seed, epsilon=epsilon), np.bincount(private.y, minlength=private.classes)
    return Release(made.spent, predict=lambda x: made.predict(x) * prior)


@defense("means", **CLAIMS)
def means(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Noisy sums of features, each of which is taken to move by 1 alone."""
    from bench import mechanism

    sigma = accounting.noise_multiplier(epsilon, accounting.delta_for(len(private)), 1.0, 1)
    sums = mechanism.gaussian(private.x.sum(0), 1.0, sigma, np.random.default_rng(seed))
    event = accounting.training_event(1.0, sigma, 1)
    return Release(event, predict=lambda x: np.eye(private.classes)[(x @ sums > 0).astype(int)])


@dataclass(frozen=True)
class Bug:
    """A mistake: in a defense of its own, or in what ships while this one is tried."""

    name: str
    defense: Any
    planted: Callable[[], AbstractContextManager[Any]] = nullcontext
    options: tuple[tuple[str, Any], ...] = ()
    whole: bool = False  # where the probes of trainings alone do not meet it

    @property
    def choice(self) -> Choice:
        """What is probed."""
        return Choice(self.defense.component, dict(self.options))

    @property
    def deep(self) -> bool:
        """Whether it is in the optimizer, where it shows in every training."""
        return self.planted is not nullcontext

    def found(self, data: Data, seed: int, *, whole: bool = False, most: int = 1) -> tuple[Finding, ...]:
        """What the linter says of it, or of what is deep, unless the `whole` is wanted, the probes of trainings."""
        with self.planted():
            if whole or self.whole or not self.deep:
                return lint(self.choice, data, seed, most=most)
            with watching(blindfold=True) as seen:
                self.defense(data.private, data.public, seed=seed, **dict(self.options))
            return tuple(itertools.islice(replays(seen.trained, seed), most))


CORRECT = (
    Bug("small", small), Bug("small, vectorized", small, options=(("engine", "vectorized"),)), Bug("parted", parted),
    Bug("sampling", sampling),
)  # fmt: skip
BAR = (
    Bug("no noise", small, no_noise),
    Bug("noise divided by the batch", small, divided_noise),
    Bug("doubled sensitivity", small, doubled),
    Bug("num_microbatches at half", small, in_pairs),
    Bug("num_microbatches at half, vectorized", small, in_pairs, (("engine", "vectorized"),)),
    Bug("num_microbatches at half, a loop of its own", own_loop),
    Bug("the same noise for each class", parted, same_noise),
    Bug("the same noise for each class, one by one", class_by_class),
    Bug("scaling by the private maximum", scaled),
    Bug("scaling by the private maximum, in the release", scaled_outside),
    Bug("a partial batch divided by its own size", small, own_size),
    Bug("second forward pass of a sampling layer", sampling, second_pass),
)
MORE = (
    Bug("noise on the last layer alone", small, last_layer_alone),
    Bug("the root of the noise", small, square_root),
    Bug("each layer clipped to the whole clip", small, layer_by_layer),
    Bug("the mean clipped, not the records", small, clipped_mean),
    Bug("a fixed noise seed", small, fixed_noise),
    Bug("the same noise in each step", small, every_step_alike),
    Bug("lots of a fixed size", small, fixed_size),
    Bug("shuffled epochs", small, shuffled),
    Bug("lots drawn with replacement", small, twice_in_a_lot),
    Bug("parts that overlap", overlapping),
    Bug("records used twice", doubled_records),
    Bug("fewer steps accounted than run", fewer_steps),
    Bug("another rate accounted", other_rate),
    Bug("the best by private accuracy", checkpoint),
    Bug("private records looked up later", remembering),
    Bug("synthetic records filtered by private ones", filtered),
    Bug("class counts in the clear", shares),
    Bug("sensitivity of one number for a vector", means),
)
