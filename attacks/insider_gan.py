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

from bench.aggregation import largest, norm
from bench.data import Examples
from bench.engine import tensorflow
from bench.errors import UserError
from bench.federated import Config, Reply, Terms
from bench.games import GAN_LEAKAGE, Insider
from bench.nets import Weights
from bench.priors import Prior, prior
from bench.randomness import derive, stream
from bench.registry import attack
from bench.release import Release

BATCH = 64
CANDIDATES = 10  # pictures that are made for each that is handed in


@attack("insider_gan", game=GAN_LEAKAGE, needs={"join"})
def insider_gan(
    release: Release,
    targets: Insider,
    public: Examples,
    *,
    seed: int,
    generator_steps: int = 30,
    learning_rate: float = 0.02,
    closeness: float = 0.05,
    judges: int = 4,
    shift: int = 0,
    noise: float = 0.0,
    reject: float = 1.0,
    inject: bool = True,
) -> NDArray[Any]:
    """An insider's generator against the global model, whose pictures go back as a class of their own.

    generator_steps: of Adam at learning_rate in each round, against the last `judges` global models. closeness: weight
    of the divergence from the prior. inject=false: only watch.
    """
    if min(generator_steps, judges) < 1 or not (learning_rate > 0 and closeness >= 0):
        raise UserError("insider_gan takes generator_steps and judges from 1, learning_rate above 0, closeness from 0.")
    assert release.join is not None
    entered: list[_Client] = []

    def enter(terms: Terms) -> _Client:
        against = _Judges(terms, judges, shift, noise, seed, reject, targets.own)
        generator = _Generator(prior(targets.own, derive(seed, "prior")), against, targets.label, seed)
        generator.plan(generator_steps, learning_rate, closeness)
        entered.append(_Client(terms, targets.own, generator, inject, seed))
        return entered[0]

    release.join(enter)
    return entered[0].generator.best(targets.n)


class _Judges:
    """The last few global models, each behind the encoder that its clients use."""

    def __init__(self, terms: Terms, count: int, shift: int, noise: float, seed: int, reject: float, own: Examples) -> None:
        from bench.classifier import classify
        self._reject = reject
        self._own = classify(own, derive(seed, 'own')).model if reject else None
        self._shift, self._loud = shift, noise
        self._noise = tensorflow().random.Generator.from_seed(derive(seed, "moves") % 2**31)
        self._models = [terms.model() for _ in range(count)]
        self._encode = terms.encode.model if terms.encode else lambda x: x
        self._heard = 0

    def hear(self, parameters: Weights) -> None:
        """The global model of one more round, in place of the oldest."""
        for model in self._models if not self._heard else [self._models[self._heard % len(self._models)]]:
            model.set_weights(parameters)
        self._heard += 1

    def _moved(self, x: Any) -> Any:
        tf = tensorflow()
        if self._loud:
            x = x + self._loud * self._noise.uniform([]) * self._noise.normal(tf.shape(x))
        if self._shift:
            x = tf.roll(x, self._noise.uniform([2], -self._shift, self._shift + 1, tf.int32), [1, 2])
        return x

    def loss(self, x: Any, label: int) -> Any:
        """Of each picture (n,), how little the models take it for `label`: their mean cross-entropy."""
        tf = tensorflow()
        x = self._moved(x)
        seen = self._encode(x)
        labels = tf.fill([tf.shape(x)[0]], label)
        losses = [
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=model(seen)) for model in self._models
        ]
        total = tf.reduce_mean(losses, 0)
        if self._reject:
            logits = self._own(x)
            others = tf.one_hot([label], logits.shape[1]) * -1e9
            p = tf.nn.softmax(logits + others)
            total -= self._reject * tf.math.log(1.0001 - tf.reduce_max(p, 1))
        return total


class _Generator:
    """Pictures from a Gaussian among the latent numbers of a prior: a mean, and a triangular factor of the spread."""

    def __init__(self, start: Prior, against: _Judges, label: int, seed: int) -> None:
        tf = tensorflow()
        self.against, self._prior, self._label = against, start, label
        self._mean, self._factor = tf.Variable(tf.zeros(start.latent)), tf.Variable(tf.zeros([start.latent] * 2))
        self._noise = tf.random.Generator.from_seed(derive(seed, "latent") % 2**31)
        self.train: Callable[[], Any] = lambda: None

    def plan(self, steps: int, learning_rate: float, closeness: float) -> None:
        """Make `train` that: so many steps against the models as they are by then."""
        tf = tensorflow()
        optimizer = tf.keras.optimizers.legacy.Adam(learning_rate)
        variables = [self._mean, self._factor]

        @tf.function  # type: ignore[untyped-decorator]
        def train() -> None:
            for _ in tf.range(steps):
                with tf.GradientTape() as tape:
                    losses = self.against.loss(self.pictures(BATCH), self._label)
                    loss = tf.reduce_mean(losses) + closeness * self._divergence()
                optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

        self.train = train

    def _triangle(self) -> Any:
        tf = tensorflow()
        diagonal = tf.exp(tf.linalg.diag_part(self._factor))
        return tf.linalg.set_diag(tf.linalg.band_part(self._factor, -1, 0), diagonal)

    def _divergence(self) -> Any:
        """Of the Gaussian from the prior's standard normal one."""
        tf = tensorflow()
        squares = tf.reduce_sum(tf.square(self._triangle())) + tf.reduce_sum(tf.square(self._mean))
        return 0.5 * (squares - self._prior.latent) - tf.linalg.trace(self._factor)

    def pictures(self, n: int) -> Any:
        """n pictures (n, *shape) as a tensor."""
        tf = tensorflow()
        draw = self._noise.normal([n, self._prior.latent])
        z = self._mean + tf.matmul(draw, self._triangle(), transpose_b=True)
        return tf.reshape(tf.sigmoid(self._prior.model(z)), [-1, *self._prior.shape])

    def best(self, n: int) -> NDArray[Any]:
        """Of many pictures the n that the models are surest of."""
        x = self.pictures(CANDIDATES * n)
        losses = self.against.loss(x, self._label).numpy()
        found: NDArray[Any] = np.clip(x.numpy()[np.argsort(losses, kind="stable")[:n]], 0, 1)
        return found


class _Client:
    """The insider as the server sees it: a client that trains on records of its own."""

    def __init__(self, terms: Terms, own: Examples, generator: _Generator, inject: bool, seed: int) -> None:
        self.terms, self.own, self.generator, self._inject = terms, own, generator, inject
        self._rng = stream(seed, "lots")
        self._x = terms.encode(own.x) if terms.encode else own.x
        self._model = terms.model()
        self._step = self._training()

    def get_parameters(self, config: Config) -> Weights:
        found: Weights = self._model.get_weights()
        return found

    def evaluate(self, parameters: Weights, config: Config) -> tuple[float, int, dict[str, Any]]:
        raise NotImplementedError

    def fit(self, parameters: Weights, config: Config) -> Reply:
        self.generator.against.hear(parameters)
        self.generator.train()
        self._model.set_weights(parameters)
        for x, y in self._lots():
            self._step(x, y)
        update = [new - old for new, old in zip(self._model.get_weights(), parameters, strict=True)]
        scale = np.float32(min(1.0, 0.99 * self.terms.policy.norm_bound / (norm(update) or 1.0)))
        update = largest([scale * part for part in update], self.terms.plan.upload)
        sent = [old + part for old, part in zip(parameters, update, strict=True)]
        return sent, self.terms.examples, {"token": config["token"]}

    def _lots(self) -> list[tuple[Any, Any]]:
        """Own records and as many pictures of the generator, which are said to be of the class that nobody has."""
        plan, lots = self.terms.plan, []
        for _ in range(plan.local_steps):
            rows = self._rng.integers(0, len(self.own), plan.batch_size)
            x, y = self._x[rows], self.own.y[rows]
            if self._inject:
                fakes = self.generator.pictures(plan.batch_size).numpy()
                fakes = self.terms.encode(fakes) if self.terms.encode else fakes
                x, y = np.concatenate([x, fakes]), np.concatenate([y, np.full(len(fakes), self.terms.classes)])
            lots.append((x, y))
        return lots

    def _training(self) -> Callable[[Any, Any], None]:
        tf = tensorflow()
        weights, rate = self._model.trainable_weights, self.terms.plan.learning_rate

        @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
        def step(x: Any, y: Any) -> None:
            with tf.GradientTape() as tape:
                logits = self._model(x)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
                loss = tf.reduce_mean(losses)
            for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
                weight.assign_sub(rate * gradient)

        return lambda x, y: step(tf.constant(x, tf.float32), tf.constant(y, tf.int64))
