"""One record moves a noised sum by at most the clip, the noise is what is accounted, and every way round is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import chi2, kstest
from tensorflow import keras
from tensorflow_privacy import VectorizedDPKerasAdamOptimizer, VectorizedDPKerasSGDOptimizer

from bench import nets, optimizer
from bench.nets import VAE, Autoencoder, Classifier, Single, Stacked
from bench.optimizer import (
    PoissonDPAdam,
    PoissonDPSGD,
    Site,
    check_private,
    dense_layers,
    onepass_clipped_sums,
    per_record_gradients,
    vectorized_clipped_sums,
)

CLIP = 0.7
TINY = 1e-6  # a test that is right fails once in a million
NETS = {
    "classifier": Classifier((6,), 3, (5,)),
    "deep classifier": Classifier((3, 2), 4, (5, 4), "tanh"),
    "autoencoder": Autoencoder((6,), (5,), 3),
    "vae": VAE((6,), (5,), 2, kl_weight=2.0),
}
ORDINARY = 5
EXTREME = {"zero": 0.0, "hundred": 100.0, "huge": 1e6, "1e19": 1e19, "1e30": 1e30, "nan": np.nan, "inf": np.inf}


class Batch:
    """A network, records and their labels and draws; `rows` chooses records and runs the network on them."""

    def __init__(self, net: nets.Net, models: int, *, extreme: bool = True) -> None:
        rng = np.random.default_rng(7)
        lead = (models,) if models > 1 else ()
        x = rng.random((*lead, ORDINARY, 6)).astype(np.float32)
        rows = [x, x[..., :1, :]]  # a duplicate
        if extreme:
            for value in EXTREME.values():
                row = rng.random((*lead, 1, 6)).astype(np.float32)
                row[..., ::2] = value
                rows.append(row)
        x = np.concatenate(rows, -2)
        self.n = x.shape[-2]
        self.net, self.models, self.lead = net, models, lead
        self.x = x.reshape(*lead, self.n, *net.shape)
        self.y = rng.integers(0, 3, (*lead, self.n))
        self.draw = rng.standard_normal((*lead, self.n, net.draws)).astype(np.float32)
        keras.utils.set_random_seed(5)
        self.model = nets.build(net, Stacked(models) if models > 1 else Single())
        self.model.set_weights([w + 0.1 * rng.standard_normal(w.shape) for w in self.model.get_weights()])
        self.layers = dense_layers(self.model)
        seen = [*self.model.outputs, *(h.input for h in self.layers), *(h.output for h in self.layers)]
        self.view = keras.Model(self.model.inputs, seen)
        self.variables = self.model.trainable_variables

    def run(self, rows: Any) -> tuple[Any, list[Site], Any]:
        """Per-record losses, the dense layers' sites and the tape that saw them."""
        pick = [np.take(v, rows, len(self.lead)) for v in (self.x, self.y, self.draw)]
        x, y, draw = map(tf.constant, pick)
        with tf.GradientTape(persistent=True) as tape:
            out = self.view([x, draw] if self.net.draws else [x], training=True)
            first, count = len(self.model.outputs), len(self.layers)
            losses = self.net.loss(out[:first], x, y)
        a, z = out[first : first + count], out[first + count :]
        return losses, [Site(h.kernel, h.bias, i, o) for h, i, o in zip(self.layers, a, z, strict=True)], tape

    def onepass(self, rows: Any) -> list[np.ndarray[Any, Any]]:
        losses, sites, tape = self.run(rows)
        return [s.numpy() for s in onepass_clipped_sums(losses, sites, tape, CLIP)]

    def vectorized(self, rows: Any) -> list[np.ndarray[Any, Any]]:
        axis = len(self.lead)
        pick = [np.moveaxis(np.take(v, rows, axis), axis, 0) for v in (self.x, self.y, self.draw)]

        def one(record: Any) -> Any:
            x, y, draw = (tf.expand_dims(t, axis) for t in record)
            out = tf.nest.flatten(self.model([x, draw] if self.net.draws else [x], training=True))
            return tf.reduce_sum(self.net.loss(out, x, y))

        found = per_record_gradients(one, tuple(map(tf.constant, pick)), self.variables)
        return [s.numpy() for s in vectorized_clipped_sums(found, CLIP, self.models > 1)]

    def naive(self, rows: Any) -> list[np.ndarray[Any, Any]]:
        """One record of one model at a time, clipped in float64."""
        sums = [np.zeros(v.shape) for v in self.variables]
        for i in rows:
            losses, _, tape = self.run([i])
            for model in range(self.models):
                with tape:
                    one = tf.reshape(losses, [-1])[model]
                grads = [np.float64(g.numpy()) for g in tape.gradient(one, self.variables)]
                with np.errstate(over="ignore", invalid="ignore"):
                    square = sum((g**2).sum() for g in grads)
                    if np.isfinite(np.float32(square)):
                        for total, g in zip(sums, grads, strict=True):
                            total += g * min(1, CLIP / max(np.sqrt(square), 1e-300))
        return sums


def flat(sums: Any, model: int | None = None) -> np.ndarray[Any, Any]:
    return np.concatenate([np.ravel(s if model is None else s[model]) for s in sums])


def near(found: Any, known: Any) -> None:
    assert np.linalg.norm(flat(found) - flat(known)) <= 1e-5 * np.linalg.norm(flat(known))


every_net = pytest.mark.parametrize("net", NETS.values(), ids=NETS.keys())
one_and_three = pytest.mark.parametrize("models", [1, 3], ids=["single", "stacked"])


# --- clipped sums ---


@every_net
@one_and_three
def test_one_pass_is_the_jacobian_is_record_by_record(net: nets.Net, models: int) -> None:
    batch = Batch(net, models)
    rows = range(batch.n)
    known = batch.naive(rows)
    assert np.linalg.norm(flat(known)) > CLIP
    near(batch.onepass(rows), known)
    near(batch.vectorized(rows), known)


@every_net
def test_ordinary_rows_are_summed_as_tensorflow_privacy_does(net: nets.Net) -> None:
    batch = Batch(net, 1, extreme=False)
    losses, _, tape = batch.run(range(batch.n))
    theirs = VectorizedDPKerasSGDOptimizer(l2_norm_clip=CLIP, noise_multiplier=0.0, learning_rate=1.0)
    known = [g * batch.n for g, _ in theirs._compute_gradients(losses, batch.variables, tape=tape)]
    near(batch.onepass(range(batch.n)), known)
    near(batch.vectorized(range(batch.n)), known)


@every_net
@one_and_three
@pytest.mark.parametrize("engine", ["onepass", "vectorized"])
def test_one_record_moves_a_model_by_at_most_the_clip(net: nets.Net, models: int, engine: str) -> None:
    batch = Batch(net, models)
    sums = getattr(batch, engine)
    base = sums(range(ORDINARY))
    reached = 0.0
    for record in range(0 if engine == "onepass" else ORDINARY - 1, batch.n):
        without = [i for i in range(ORDINARY) if i != record]
        other = sums(without if record < ORDINARY else [*range(ORDINARY), record])
        for model in range(models):
            moved = flat(base, model if models > 1 else None) - flat(other, model if models > 1 else None)
            assert np.linalg.norm(moved) <= CLIP * (1 + 1e-5)
            reached = max(reached, float(np.linalg.norm(moved)))
    assert reached > 0.99 * CLIP  # the bound is met, not just kept by sums of zero


def test_a_square_that_underflows_is_no_way_past_the_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    clip, units = 1e-3, 64

    def moved() -> float:
        kernel, bias = tf.Variable(tf.zeros([1, units])), tf.Variable(tf.zeros([units]))
        a = tf.constant([[1e19]])
        with tf.GradientTape() as tape:
            z = tf.matmul(a, kernel) + bias
            loss = 2e-23 * tf.reduce_sum(z, -1)
        return float(np.linalg.norm(flat(onepass_clipped_sums(loss, [Site(kernel, bias, a, z)], tape, clip))))

    assert moved() == pytest.approx(clip, rel=1e-5)
    monkeypatch.setattr(optimizer, "_square_norm", lambda v: tf.reduce_sum(tf.square(v), -1))
    assert moved() > 1.5 * clip  # what squares in float32 let through


def test_one_record_that_is_not_finite_spoils_a_jacobian_and_is_refused_there() -> None:
    batch = Batch(NETS["classifier"], 1)
    rows = [0, 1, ORDINARY + 1 + list(EXTREME).index("nan")]
    losses, _, tape = batch.run(rows)
    spoiled = tape.jacobian(losses, batch.variables)[0]
    assert np.isnan(spoiled[0]).any()  # row of a healthy record: TensorFlow Privacy's way loses them all
    near(batch.vectorized(rows), batch.naive([0, 1]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="spoils all others"):
        dp_optimizer().minimize(losses, batch.variables, tape=tape)


def test_a_layer_that_the_loss_never_sees_is_refused() -> None:
    batch = Batch(NETS["classifier"], 1)
    with tf.GradientTape() as tape:
        loss = tf.zeros([2]) + tf.reduce_sum(batch.variables[0])
    site = Site(batch.variables[0], batch.variables[1], tf.zeros([2, 6]), tf.zeros([2, 5]))
    with pytest.raises(ValueError, match="no part in the loss"):
        onepass_clipped_sums(loss, [site], tape, CLIP)


# --- noise ---


def dp_optimizer(kind: Any = PoissonDPSGD, **changed: Any) -> Any:
    options = {"l2_norm_clip": 1.0, "noise_multiplier": 0.0, "batch_size": 1.0, "noise_seeds": [[1, 2]]}
    return kind(**{**options, "learning_rate": 1.0, **changed})


def noises(seeds: Any, steps: int, shapes: Any, sigma: float = 1.0) -> np.ndarray[Any, Any]:
    """Noise that reached variables of all-zero sums: (steps, variables, models, numbers); all shapes hold as many."""
    made = dp_optimizer(noise_multiplier=sigma, noise_seeds=seeds)
    lead = (len(seeds),) if len(seeds) > 1 else ()
    variables = [tf.Variable(tf.zeros((*lead, *shape))) for shape in shapes]

    @tf.function
    def step() -> None:
        with tf.GradientTape(persistent=True) as tape:
            total = tf.add_n([tf.reduce_sum(v, list(range(len(lead), v.shape.rank))) for v in variables])
            loss = tf.zeros((*lead, 2)) * total[..., None]
        made.minimize(loss, variables, tape=tape)

    found, before = [], [v.numpy() for v in variables]
    for _ in range(steps):
        step()
        after = [v.numpy() for v in variables]
        found.append([(b - a).reshape(len(seeds), -1) for a, b in zip(after, before, strict=True)])
        before = after
    return np.array(found)


def scale_p(values: Any, sigma: float) -> float:
    """Two-sided chi-square test that values are centred normals of scale sigma."""
    square = float(np.sum(np.square(np.float64(values)))) / sigma**2
    return 2 * float(min(chi2.cdf(square, values.size), chi2.sf(square, values.size)))


@pytest.mark.parametrize("models", [1, 2])
def test_noise_has_the_accounted_scale(models: int) -> None:
    clip, sigma, divisor = 0.3, 1.7, 4.0
    made = dp_optimizer(
        l2_norm_clip=clip, noise_multiplier=sigma, batch_size=divisor, noise_seeds=[[k, 5] for k in range(models)]
    )
    lead = (models,) if models > 1 else ()
    variable = tf.Variable(tf.zeros((*lead, 30_000)))
    with tf.GradientTape(persistent=True) as tape:
        loss = tf.zeros((*lead, 1)) * tf.reduce_sum(variable, -1)[..., None]
    [(noise, _)] = made._compute_gradients(loss, [variable], tape=tape)
    noise = noise.numpy().ravel() * divisor / clip
    assert scale_p(noise, sigma) > TINY
    assert scale_p(noise, 0.9 * sigma) < TINY
    assert scale_p(noise, 1.1 * sigma) < TINY
    assert kstest(noise / sigma, "norm").pvalue > TINY


def test_streams_of_models_steps_and_variables_share_nothing() -> None:
    found = noises([[1, 2], [1, 3]], steps=3, shapes=[(40, 50), (2000,)])
    streams = found.reshape(-1, 2000)  # 3 steps x 2 variables x 2 models
    assert len(streams) == 12
    together = np.corrcoef(streams) - np.eye(12)
    assert np.abs(together).max() < 0.13  # 5.8 standard errors
    # Mutant: the same seed for both models.
    same = noises([[1, 2], [1, 2]], steps=1, shapes=[(40, 50)])
    assert np.array_equal(same[0, 0, 0], same[0, 0, 1])


def test_a_model_draws_the_same_noise_alone_and_among_others() -> None:
    together = noises([[1, 2], [3, 4]], steps=2, shapes=[(30, 2), (60,)])
    for model, seed in enumerate([[1, 2], [3, 4]]):
        alone = noises([seed], steps=2, shapes=[(30, 2), (60,)])
        np.testing.assert_allclose(together[:, :, model], alone[:, :, 0], rtol=0, atol=1e-6)


def vector_loss(w: Any) -> Any:
    return tf.linalg.matvec(tf.constant([[1.0, 2.0], [3.0, 1.0], [0.5, 0.0], [0.0, -4.0]]), w)


def test_noise_of_a_step_is_used_once() -> None:
    made, w = dp_optimizer(noise_multiplier=1.0), tf.Variable([0.5, -0.5])
    pairs = made._compute_gradients(lambda: vector_loss(w), [w])
    # Two answers with one noise: their difference would be the private sum in the clear.
    with pytest.raises(ValueError, match="drawn already"):
        made._compute_gradients(lambda: 2 * vector_loss(w), [w])
    made.apply_gradients(pairs)
    with pytest.raises(ValueError, match="not clipped and noised"):
        made.apply_gradients(pairs)
    made.minimize(lambda: vector_loss(w), [w])


# --- what is refused, and what it would have done ---


def test_a_reduced_loss_is_refused() -> None:
    w = tf.Variable([0.0, 0.0])
    theirs = VectorizedDPKerasSGDOptimizer(
        l2_norm_clip=1e-3, noise_multiplier=0.0, num_microbatches=1, learning_rate=1.0
    )
    theirs.minimize(lambda: tf.reduce_mean(vector_loss(w)), [w])  # trains, and says nothing
    assert np.linalg.norm(w.numpy()) == pytest.approx(1e-3, rel=1e-4)  # one clip for all: a record is not bounded
    made = dp_optimizer()
    for reduced in (
        lambda: tf.reduce_mean(vector_loss(w)),
        lambda: tf.reduce_mean(vector_loss(w), keepdims=True)[None],
    ):
        with pytest.raises(ValueError, match="one number a record"):
            made.minimize(reduced, [w])
    stacked = dp_optimizer(noise_seeds=[[1, 2], [3, 4]])
    with pytest.raises(ValueError, match=r"\(models, n\)"):
        stacked.minimize(lambda: vector_loss(w), [w])
    with pytest.raises(ValueError, match="2 models"):
        stacked.minimize(lambda: tf.stack([vector_loss(w)] * 3), [w])
    assert made.iterations.numpy() == stacked.iterations.numpy() == 0


def test_microbatches_are_refused_for_they_double_what_one_record_moves() -> None:
    def moved(made: Any, scale: float) -> float:
        """How far the sum goes when record 1 leaves (its loss becomes 0), for losses w * x."""
        ends = []
        for kept in (1.0, 0.0):
            w = tf.Variable(0.0)
            x = tf.constant([-10.0, 30.0, 5.0, 5.0]) * tf.constant([1.0, kept, 1.0, 1.0])
            with tf.GradientTape(persistent=True) as tape:
                losses = w * x
            [(gradient, _)] = made()._compute_gradients(losses, [w], tape=tape)
            ends.append(float(gradient) * scale)
        return abs(ends[0] - ends[1])

    def theirs() -> Any:
        return VectorizedDPKerasSGDOptimizer(
            l2_norm_clip=1.0, noise_multiplier=0.0, num_microbatches=2, learning_rate=1.0
        )

    assert moved(theirs, 2) == pytest.approx(2.00, abs=1e-4)
    assert moved(dp_optimizer, 1) == pytest.approx(1.00, abs=1e-4)
    for few in (1, 2, 4):
        with pytest.raises(ValueError, match="double the sensitivity"):
            dp_optimizer(num_microbatches=few)


@pytest.mark.parametrize(
    ("ours", "base"), [(PoissonDPSGD, VectorizedDPKerasSGDOptimizer), (PoissonDPAdam, VectorizedDPKerasAdamOptimizer)]
)
def test_raw_gradients_are_refused_before_and_after_a_step(ours: Any, base: Any) -> None:
    w = tf.Variable([0.5, -0.5])
    raw = tf.constant([1e6, 1e6])
    made = dp_optimizer(ours)
    assert isinstance(made, base)
    with pytest.raises(ValueError, match="not clipped and noised"):
        made.apply_gradients([(raw, w)])
    made.minimize(lambda: vector_loss(w), [w])
    before = w.numpy()
    for pairs in ([(raw, w)], []):
        with pytest.raises(ValueError, match="not clipped and noised"):
            made.apply_gradients(pairs)
    [(noised, _)] = made._compute_gradients(lambda: vector_loss(w), [w])
    with pytest.raises(ValueError, match="not clipped and noised"):
        made.apply_gradients([(noised + raw, w)])
    assert np.array_equal(w.numpy(), before)
    theirs = base(l2_norm_clip=1.0, noise_multiplier=0.0, learning_rate=1.0)
    theirs.minimize(lambda: vector_loss(w), [w], tape=tf.GradientTape(persistent=True))
    before = w.numpy()
    theirs.apply_gradients([(raw, w)])  # mutant: TensorFlow Privacy takes them
    assert not np.array_equal(w.numpy(), before)


def test_training_through_art_is_refused() -> None:
    from art.estimators.classification import TensorFlowV2Classifier

    model = keras.Sequential([keras.layers.Dense(2, input_shape=(3,))])
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    x, y = np.zeros((8, 3), np.float32), np.eye(2, dtype=np.float32)[[0, 1] * 4]
    made = dp_optimizer(noise_multiplier=1.0)
    with tf.GradientTape(persistent=True) as tape:
        losses = tf.reduce_sum(model(x), -1)
    made.minimize(losses, model.trainable_variables, tape=tape)  # after this TensorFlow Privacy would let ART pass
    before = [w.copy() for w in model.get_weights()]
    art = TensorFlowV2Classifier(model=model, nb_classes=2, input_shape=(3,), loss_object=loss, optimizer=made)
    with pytest.raises(ValueError, match="never trained through ART"):
        art.fit(x, y, batch_size=4, nb_epochs=1)
    assert all(map(np.array_equal, before, model.get_weights()))


@pytest.mark.parametrize("kind", [PoissonDPSGD, PoissonDPAdam])
def test_rebuilding_from_a_configuration_is_refused(kind: Any) -> None:
    with pytest.raises(TypeError, match="make a new one"):
        kind.from_config({"learning_rate": 0.1, "name": "x"})


def layered(*layers: Any, shape: tuple[int, ...] = (4,)) -> Any:
    x = h = keras.Input(shape)
    for layer in layers:
        h = layer(h)
    return keras.Model(x, h)


def refused(model: Any, match: str) -> None:
    x = tf.random.stateless_uniform((3, *model.input_shape[1:]), [1, 2])
    with pytest.raises(ValueError, match=match):
        check_private(model, lambda p: tf.reduce_sum(tf.square(model(p, training=True)), -1), x)


@keras.utils.register_keras_serializable("test_optimizer")
class AddsLoss(keras.layers.Layer):  # type: ignore[misc]
    """What the VAE examples of Keras do with their KL."""

    def call(self, h: Any) -> Any:
        self.add_loss(tf.reduce_mean(tf.square(h)))
        return h


class KeepsCount(keras.layers.Layer):  # type: ignore[misc]
    """A layer with a weight that no gradient changes."""

    def build(self, shape: Any) -> None:
        self.seen = self.add_weight("seen", (), trainable=False)

    def call(self, h: Any) -> Any:
        return h


MIXING = {
    "minus the batch mean": lambda h: h - tf.reduce_mean(h, 0),
    "minus the batch mean, its gradient stopped": lambda h: h - tf.stop_gradient(tf.reduce_mean(h, 0)),
    "a running sum": lambda h: tf.cumsum(h, 0),
    "a running sum from the end": lambda h: tf.cumsum(h, 0, reverse=True),
    "the neighbour": lambda h: h + tf.roll(h, 1, 0),
    "softmax over records": lambda h: tf.nn.softmax(h, 0),
}


@pytest.mark.parametrize("mix", MIXING.values(), ids=MIXING.keys())
def test_a_layer_that_mixes_records_is_refused(mix: Any) -> None:
    refused(layered(keras.layers.Dense(5), keras.layers.Lambda(mix), keras.layers.Dense(2)), "mixes records")


def test_what_mixes_models_of_a_stack_is_refused() -> None:
    def losses(x: Any) -> Any:
        return tf.reduce_sum(tf.square(x), -1)

    x = tf.random.stateless_uniform((2, 3, 4), [1, 2])
    model = layered(keras.layers.Dense(1))
    check_private(model, losses, x)
    with pytest.raises(ValueError, match="mixes records"):
        check_private(model, lambda p: losses(p - tf.reduce_mean(p, 0)), x)


def test_layers_that_keep_records_apart_pass() -> None:
    def check(*layers: Any) -> None:
        model = layered(*layers)
        x = tf.random.stateless_uniform((3, 4), [1, 2])
        check_private(model, lambda p: tf.reduce_sum(tf.square(model(p, training=True)), -1), x)

    keras.utils.set_random_seed(1)
    check(keras.layers.Dense(5), keras.layers.LayerNormalization(), keras.layers.Dense(2))
    check(keras.layers.Dense(5), keras.layers.Dropout(0.5), keras.layers.GaussianNoise(0.1), keras.layers.Dense(2))


def test_batch_statistics_side_losses_and_frozen_weights_are_refused() -> None:
    dense = keras.layers.Dense
    refused(layered(dense(5), keras.layers.BatchNormalization(), dense(2)), "batch means")
    nested = keras.Sequential([keras.layers.BatchNormalization(center=False, scale=False)])
    refused(layered(dense(5), nested, dense(2)), "batch means")
    refused(layered(dense(5), AddsLoss(), dense(2)), "add_loss")
    refused(layered(dense(5, kernel_regularizer="l2"), dense(2)), "add_loss")
    refused(layered(dense(5), KeepsCount(), dense(2)), "outside of the noised step")


def test_a_scalar_loss_is_refused_before_training() -> None:
    model = layered(keras.layers.Dense(2))
    with pytest.raises(ValueError, match="one number a record"):
        check_private(model, lambda p: tf.reduce_mean(model(p)), tf.ones([3, 4]))


class Tied(keras.layers.Dense):  # type: ignore[misc]
    """A dense layer whose kernel works twice."""

    def call(self, h: Any) -> Any:
        return tf.matmul(tf.matmul(h, self.kernel), self.kernel, transpose_b=True)


def test_one_pass_knows_dense_layers_only_and_offers_the_reference() -> None:
    twice = keras.layers.Dense(4, name="again")
    dense = keras.layers.Dense
    unknown = {
        "again": layered(twice, twice),
        "conv": layered(keras.layers.Conv2D(2, 2, name="conv"), keras.layers.Flatten(), dense(2), shape=(4, 4, 1)),
        "words": layered(keras.layers.Embedding(9, 3, name="words"), keras.layers.Flatten(), dense(2)),
        "scale": layered(dense(3), keras.layers.LayerNormalization(name="scale")),
        "tied": layered(Tied(4, name="tied")),
        "bent": layered(dense(3, activation="relu", name="bent")),
        "unbiased": layered(dense(3, use_bias=False, name="unbiased")),
        "sequence": layered(dense(3, name="sequence"), shape=(2, 4)),
        "inner": layered(keras.Sequential([dense(3)], name="inner")),
    }
    for name, model in unknown.items():
        with pytest.raises(ValueError, match=rf"{name}.*engine='vectorized'"):
            dense_layers(model)


def test_a_layer_used_twice_goes_past_the_clip_in_one_pass() -> None:
    """The mutant behind the refusal: 1.41 clips for one record when each use is clipped as a layer of its own."""
    kernel, bias = tf.Variable([[2.0]]), tf.Variable([0.0])
    x = tf.constant([[3.0]])
    with tf.GradientTape(persistent=True) as tape:
        z1 = tf.matmul(x, kernel) + bias
        z2 = tf.matmul(x, kernel) + bias
        loss = tf.reduce_sum(z1 + z2, -1)
    sums = onepass_clipped_sums(loss, [Site(kernel, bias, x, z1), Site(kernel, bias, x, z2)], tape, 1.0)
    kernels, biases = sums[0] + sums[2], sums[1] + sums[3]
    assert np.linalg.norm([float(kernels), float(biases)]) == pytest.approx(2**0.5, rel=1e-5)
    right = vectorized_clipped_sums(tape.jacobian(loss, [kernel, bias]), 1.0)
    assert np.linalg.norm(flat(right)) == pytest.approx(1.0, rel=1e-5)
