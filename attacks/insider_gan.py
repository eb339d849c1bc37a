"""The insider of Hitaj, Ateniese and Perez-Cruz 2017: a generator trained against the shared model, round by round.

The global model is the discriminator: the generator learns to make what it classifies as the victim's class. The
insider sends such pictures back as examples of a class that no client has, so that the victim's next update must
distinguish its records from them, and reveals more of what they look like. The paper's generator is a separate network;
this one is a Gaussian in the latent space of a generator of the insider's records (Wang et al. 2021, variational model
inversion): its samples stay picture-like, and it does not collapse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option, attack
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.images import SIDE
from bench.core.randomness import derive, stream
from bench.core.release import Release
from bench.dp.networks import Weights
from bench.dp.tensorflow_setup import tensorflow
from bench.dp.training_program import apply_gradients
from bench.games import GAN_LEAKAGE, GanLeakageTargets
from bench.models.evaluation_network import evaluation_network
from bench.models.federated.plan import Config, Reply, Terms
from bench.models.federated.server import largest, norm
from bench.models.image_prior import Prior, prior

BATCH = 64
CANDIDATES = 20  # pictures generated per picture of the answer
TRIALS = 8  # random shifts over which a candidate's loss is averaged
SHIFT = 2  # pixels of 28 by which a picture is shifted at most before it is classified


@attack("insider_gan", game=GAN_LEAKAGE, needs={"join"}, required_score=0.4)
def insider_gan(
    release: Release,
    targets: GanLeakageTargets,
    public: Examples,
    *,
    seed: int,
    generator_steps: Annotated[int, Option("training steps of the generator in each round", at_least=1)] = 30,
    learning_rate: Annotated[float, Option("of the generator", above=0)] = 0.02,
    closeness: Annotated[float, Option("weight of the divergence from the prior", at_least=0)] = 0.05,
    judges: Annotated[int, Option("latest global models that the generator is trained against", at_least=1)] = 8,
    reject: Annotated[
        float, Option("how much pictures that resemble the classes of the insider are avoided", at_least=0)
    ] = 1.0,
    inject: Annotated[float, Option("generated pictures sent back per record of the insider", at_least=0)] = 0.1,
) -> NDArray[Any]:
    """An insider's generator against the global model, whose pictures are sent back as an additional class.

    generator_steps: of Adam at learning_rate in each round, against the last `judges` global models, through the
    published encoder where there is one. closeness: weight of the divergence from the prior. reject: weight by which
    pictures that resemble the insider's classes are rejected. inject: pictures sent back per record of the insider; 0
    is a passive attack. Many (1) drive the model, and then the generator, away from the records.
    """
    if min(generator_steps, judges) < 1 or not (learning_rate > 0 and min(closeness, reject, inject) >= 0):
        raise UserError(
            "insider_gan takes generator_steps and judges from 1, learning_rate above 0, and closeness, reject and "
            "inject from 0."
        )
    assert release.join is not None
    insiders: list[_Insider] = []

    def join(terms: Terms) -> _Insider:
        generator = _Generator(prior(targets.records, derive(seed, "prior")), seed)
        discriminators = _Discriminators(terms, targets.label, judges, seed)
        train = _training(generator, discriminators, generator_steps, learning_rate, closeness)
        insiders.append(_Insider(terms, targets.records, generator, discriminators, train, inject, seed))
        return insiders[-1]

    release.join(join)
    pictures = insiders[0].generator.pictures(CANDIDATES * targets.n)
    losses = np.mean([insiders[0].discriminators.loss(pictures).numpy() for _ in range(TRIALS)], 0)
    x: NDArray[Any] = np.clip(pictures.numpy(), 0, 1)
    if reject:
        insider_classes = evaluation_network(targets.records, derive(seed, "own classes"))(x)
        losses -= reject * np.log(1.001 - np.delete(insider_classes, targets.label, 1).max(1))
    answer: NDArray[Any] = x[np.argsort(losses, kind="stable")[: targets.n]]
    return answer


class _Generator:
    """Pictures from a Gaussian in the latent space of a prior: its mean, and a Cholesky factor of its covariance."""

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
        noise = self._noise.normal([n, self._prior.latent])
        z = self.mean + tf.matmul(noise, self._triangle(), transpose_b=True)
        return tf.reshape(tf.sigmoid(self._prior.model(z)), [-1, *self._prior.shape])

    def divergence(self) -> Any:
        """Kullback-Leibler divergence of the Gaussian from the standard normal distribution of the prior."""
        tf = tensorflow()
        squares = tf.reduce_sum(tf.square(self._triangle())) + tf.reduce_sum(tf.square(self.mean))
        return 0.5 * (squares - self._prior.latent) - tf.linalg.trace(self.factor)


class _Discriminators:
    """The last few global models, each with the encoder that its clients use."""

    def __init__(self, terms: Terms, label: int, count: int, seed: int) -> None:
        self._label, self._rounds = label, 0
        self._models = [terms.model() for _ in range(count)]
        self._encode = terms.encode.model if terms.encode else lambda x: x
        self._shifts = tensorflow().random.Generator.from_seed(derive(seed, "moves") % 2**31)

    def update(self, parameters: Weights) -> None:
        """Replace the oldest global model by that of a new round; the first one replaces all."""
        for model in [self._models[self._rounds % len(self._models)]] if self._rounds else self._models:
            model.set_weights(parameters)
        self._rounds += 1

    def loss(self, x: Any) -> Any:
        """Mean cross-entropy (n,) of the models between the label and each picture.

        All pictures are shifted by a few pixels first, so that the generator does not find adversarial pictures.
        """
        tf = tensorflow()
        largest_shifts = [SHIFT * side // SIDE for side in x.shape[1:3]]
        x = tf.roll(x, [self._shifts.uniform([], -most, most + 1, tf.int32) for most in largest_shifts], [1, 2])
        embedded, labels = self._encode(x), tf.fill([tf.shape(x)[0]], self._label)
        logits = [model(embedded) for model in self._models]
        losses = [tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=each) for each in logits]
        return tf.reduce_mean(losses, 0)


def _training(
    generator: _Generator, discriminators: _Discriminators, steps: int, learning_rate: float, closeness: float
) -> Callable[[], None]:
    """A function that trains the generator by `steps` against the current discriminators."""
    tf = tensorflow()
    optimizer = tf.keras.optimizers.legacy.Adam(learning_rate)
    variables = [generator.mean, generator.factor]

    @tf.function  # type: ignore[untyped-decorator]
    def train() -> None:
        for _ in tf.range(steps):
            with tf.GradientTape() as tape:
                mismatch = tf.reduce_mean(discriminators.loss(generator.pictures(BATCH)))
                loss = mismatch + closeness * generator.divergence()
            apply_gradients(optimizer, tape.gradient(loss, variables), variables)

    return lambda: train()


class _Insider:
    """The insider as the server sees it: a client that trains on its records."""

    def __init__(
        self,
        terms: Terms,
        records: Examples,
        generator: _Generator,
        discriminators: _Discriminators,
        train: Callable[[], None],
        inject: float,
        seed: int,
    ) -> None:
        self.terms, self.records, self.generator, self.discriminators = terms, records, generator, discriminators
        self._train, self._inject, self._rng = train, inject, stream(seed, "lots")
        self._encode = terms.encode or (lambda x: x)
        self._embeddings = self._encode(records.x)
        self._model = terms.model()
        self._step = _descent(self._model, terms.plan.learning_rate)

    def get_parameters(self, config: Config) -> Weights:
        parameters: Weights = self._model.get_weights()
        return parameters

    def fit(self, parameters: Weights, config: Config) -> Reply:
        self.discriminators.update(parameters)
        self._train()
        self._model.set_weights(parameters)
        for _ in range(self.terms.plan.local_steps):
            self._step(*self._batch())
        update = [new - old for new, old in zip(self._model.get_weights(), parameters, strict=True)]
        scale = np.float32(min(1.0, 0.99 * self.terms.policy.norm_bound / (norm(update) or 1.0)))
        update = largest([scale * part for part in update], self.terms.plan.upload)
        sent = [old + part for old, part in zip(parameters, update, strict=True)]
        return sent, self.terms.examples, {"token": config["token"]}

    def evaluate(self, parameters: Weights, config: Config) -> tuple[float, int, dict[str, Any]]:
        return 0.0, len(self.records), {}  # the server cannot check what a client reports

    def _batch(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """The insider's records and some generated pictures, which are labelled as the class that no client has."""
        rows = self._rng.integers(0, len(self.records), self.terms.plan.batch_size)
        x, y = self._embeddings[rows], self.records.y[rows]
        count = round(self._inject * len(rows))
        if not count:
            return x, y
        fakes = self._encode(self.generator.pictures(count).numpy())
        return np.concatenate([x, fakes]), np.concatenate([y, np.full(len(fakes), self.terms.classes)])


def _descent(model: Any, learning_rate: float) -> Callable[[Any, Any], None]:
    """One step of gradient descent of a model on a batch."""
    tf = tensorflow()
    weights = model.trainable_weights

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(x: Any, y: Any) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=model(x)))
        for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
            weight.assign_sub(learning_rate * gradient)

    return lambda x, y: step(tf.constant(x, tf.float32), tf.constant(y, tf.int64))
