"""The insider of Hitaj, Ateniese and Perez-Cruz 2017: a generator trained against the shared model, round by round.

The global model is the discriminator: the generator learns to make what it takes for the victim's class. The insider
sends such pictures back as examples of a class that nobody has, so that the victim's next update must tell its records
from them, and shows more of what they look like. Where the paper's generator is a network of its own, this one is a
Gaussian among the latent numbers of a generator of the insider's own records (Wang et al. 2021, variational model
inversion): it cannot leave what pictures look like, and does not collapse into one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import attack
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.images import SIDE
from bench.core.randomness import derive, stream
from bench.core.release import Release
from bench.dp.networks import Weights
from bench.dp.tensorflow_setup import tensorflow
from bench.dp.training_program import apply_gradients
from bench.games import GAN_LEAKAGE, Insider
from bench.models.evaluation_network import evaluation_network
from bench.models.federated.plan import Config, Reply, Terms
from bench.models.federated.server import largest, norm
from bench.models.image_prior import Prior, prior

BATCH = 64
CANDIDATES = 20  # pictures that are made for each that is handed in
TRIALS = 8  # times that a candidate is looked at, moved anew
SHIFT = 2  # pixels of 28 by which a picture is moved before it is looked at


@attack("insider_gan", game=GAN_LEAKAGE, needs={"join"}, floor=0.4)
def insider_gan(
    release: Release,
    targets: Insider,
    public: Examples,
    *,
    seed: int,
    generator_steps: int = 30,
    learning_rate: float = 0.02,
    closeness: float = 0.05,
    judges: int = 8,
    reject: float = 1.0,
    inject: float = 0.1,
) -> NDArray[Any]:
    """An insider's generator against the global model, whose pictures go back as a class of their own.

    generator_steps: of Adam at learning_rate in each round, against the last `judges` global models, behind the
    published encoder where there is one. closeness: weight of the divergence from the prior. reject: how much the
    pictures that are handed in must not look like the insider's own classes. inject: pictures that go back for each of
    the insider's own records; 0 only watches. Many (1) drive the model, and after it the generator, off the records.
    """
    if min(generator_steps, judges) < 1 or not (learning_rate > 0 and min(closeness, reject, inject) >= 0):
        raise UserError(
            "insider_gan takes generator_steps and judges from 1, learning_rate above 0, and closeness, reject and "
            "inject from 0."
        )
    assert release.join is not None
    entered: list[_Client] = []

    def enter(terms: Terms) -> _Client:
        generator = _Generator(prior(targets.own, derive(seed, "prior")), seed)
        watching = _Judges(terms, targets.label, judges, seed)
        train = _training(generator, watching, generator_steps, learning_rate, closeness)
        entered.append(_Client(terms, targets.own, generator, watching, train, inject, seed))
        return entered[-1]

    release.join(enter)
    pictures = entered[0].generator.pictures(CANDIDATES * targets.n)
    losses = np.mean([entered[0].judges.loss(pictures).numpy() for _ in range(TRIALS)], 0)
    x: NDArray[Any] = np.clip(pictures.numpy(), 0, 1)
    if reject:
        known = evaluation_network(targets.own, derive(seed, "own classes"))(x)
        losses -= reject * np.log(1.001 - np.delete(known, targets.label, 1).max(1))
    answer: NDArray[Any] = x[np.argsort(losses, kind="stable")[: targets.n]]
    return answer


class _Generator:
    """Pictures from a Gaussian among the latent numbers of a prior: a mean, and a triangular factor of the spread."""

    def __init__(self, start: Prior, seed: int) -> None:
        tf = tensorflow()
        self._prior = start
        self.mean, self.factor = tf.Variable(tf.zeros(start.latent)), tf.Variable(tf.zeros([start.latent] * 2))
        self._noise = tf.random.Generator.from_seed(derive(seed, "latent") % 2**31)

    def _triangle(self) -> Any:
        tf = tensorflow()
        return tf.linalg.set_diag(tf.linalg.band_part(self.factor, -1, 0), tf.exp(tf.linalg.diag_part(self.factor)))

    def pictures(self, n: int) -> Any:
        """n pictures (n, *shape) as a tensor."""
        tf = tensorflow()
        draw = self._noise.normal([n, self._prior.latent])
        z = self.mean + tf.matmul(draw, self._triangle(), transpose_b=True)
        return tf.reshape(tf.sigmoid(self._prior.model(z)), [-1, *self._prior.shape])

    def divergence(self) -> Any:
        """Of the Gaussian from the standard normal one of the prior (Kullback and Leibler)."""
        tf = tensorflow()
        squares = tf.reduce_sum(tf.square(self._triangle())) + tf.reduce_sum(tf.square(self.mean))
        return 0.5 * (squares - self._prior.latent) - tf.linalg.trace(self.factor)


class _Judges:
    """The last few global models, each behind the encoder that its clients use."""

    def __init__(self, terms: Terms, label: int, count: int, seed: int) -> None:
        self._label, self._heard = label, 0
        self._models = [terms.model() for _ in range(count)]
        self._encode = terms.encode.model if terms.encode else lambda x: x
        self._moves = tensorflow().random.Generator.from_seed(derive(seed, "moves") % 2**31)

    def hear(self, parameters: Weights) -> None:
        """The global model of one more round, in place of the oldest; the first one in place of all."""
        for model in [self._models[self._heard % len(self._models)]] if self._heard else self._models:
            model.set_weights(parameters)
        self._heard += 1

    def loss(self, x: Any) -> Any:
        """Of each picture (n,), how little the models take it for the label: their mean cross-entropy.

        All are moved by some pixels first: what holds for the picture alone as it lies is a blind spot of the models.
        """
        tf = tensorflow()
        far = [SHIFT * side // SIDE for side in x.shape[1:3]]
        x = tf.roll(x, [self._moves.uniform([], -most, most + 1, tf.int32) for most in far], [1, 2])
        seen, labels = self._encode(x), tf.fill([tf.shape(x)[0]], self._label)
        logits = [model(seen) for model in self._models]
        losses = [tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=each) for each in logits]
        return tf.reduce_mean(losses, 0)


def _training(
    generator: _Generator, against: _Judges, steps: int, learning_rate: float, closeness: float
) -> Callable[[], None]:
    """A function that trains the generator by so many steps against the judges as they are by then."""
    tf = tensorflow()
    optimizer = tf.keras.optimizers.legacy.Adam(learning_rate)
    variables = [generator.mean, generator.factor]

    @tf.function  # type: ignore[untyped-decorator]
    def train() -> None:
        for _ in tf.range(steps):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(against.loss(generator.pictures(BATCH))) + closeness * generator.divergence()
            apply_gradients(optimizer, tape.gradient(loss, variables), variables)

    return lambda: train()


class _Client:
    """The insider as the server sees it: a client that trains on records of its own."""

    def __init__(
        self,
        terms: Terms,
        own: Examples,
        generator: _Generator,
        judges: _Judges,
        train: Callable[[], None],
        inject: float,
        seed: int,
    ) -> None:
        self.terms, self.own, self.generator, self.judges = terms, own, generator, judges
        self._train, self._inject, self._rng = train, inject, stream(seed, "lots")
        self._encode = terms.encode or (lambda x: x)
        self._codes = self._encode(own.x)
        self._model = terms.model()
        self._step = _descent(self._model, terms.plan.learning_rate)

    def get_parameters(self, config: Config) -> Weights:
        found: Weights = self._model.get_weights()
        return found

    def fit(self, parameters: Weights, config: Config) -> Reply:
        self.judges.hear(parameters)
        self._train()
        self._model.set_weights(parameters)
        for _ in range(self.terms.plan.local_steps):
            self._step(*self._lot())
        update = [new - old for new, old in zip(self._model.get_weights(), parameters, strict=True)]
        scale = np.float32(min(1.0, 0.99 * self.terms.policy.norm_bound / (norm(update) or 1.0)))
        update = largest([scale * part for part in update], self.terms.plan.upload)
        sent = [old + part for old, part in zip(parameters, update, strict=True)]
        return sent, self.terms.examples, {"token": config["token"]}

    def evaluate(self, parameters: Weights, config: Config) -> tuple[float, int, dict[str, Any]]:
        return 0.0, len(self.own), {}  # nobody can check what a client says of itself

    def _lot(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Own records and some pictures of the generator, which are said to be of the class that nobody has."""
        rows = self._rng.integers(0, len(self.own), self.terms.plan.batch_size)
        x, y = self._codes[rows], self.own.y[rows]
        count = round(self._inject * len(rows))
        if not count:
            return x, y
        fakes = self._encode(self.generator.pictures(count).numpy())
        return np.concatenate([x, fakes]), np.concatenate([y, np.full(len(fakes), self.terms.classes)])


def _descent(model: Any, learning_rate: float) -> Callable[[Any, Any], None]:
    """One step of gradient descent of a model on a lot."""
    tf = tensorflow()
    weights = model.trainable_weights

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(x: Any, y: Any) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=model(x)))
        for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
            weight.assign_sub(learning_rate * gradient)

    return lambda x, y: step(tf.constant(x, tf.float32), tf.constant(y, tf.int64))
