"""One record moves a noised sum by at most the clip, the noise is what is accounted, and every way round is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import chi2, kstest, norm, poisson
from tensorflow import keras
from tensorflow_privacy import VectorizedDPKerasAdamOptimizer, VectorizedDPKerasSGDOptimizer

from bench.dp.clipping import Site
from bench.dp.optimizer import PoissonDPAdam, PoissonDPSGD, check_private, normals

TINY = 1e-6  # a test that is right fails once in a million
# --- noise ---


def dp_optimizer(kind: Any = PoissonDPSGD, **changed: Any) -> Any:
    options = {"l2_norm_clip": 1.0, "noise_multiplier": 0.0, "batch_size": 1.0, "noise_keys": [12]}
    return kind(**{**options, "learning_rate": 1.0, **changed})


def noises(keys: Any, steps: int, shapes: Any, sigma: float = 1.0) -> np.ndarray[Any, Any]:
    """Noise that reached variables of all-zero sums: (steps, variables, models, numbers); all shapes hold as many."""
    made = dp_optimizer(noise_multiplier=sigma, noise_keys=keys)
    lead = (len(keys),) if len(keys) > 1 else ()
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
        found.append([(b - a).reshape(len(keys), -1) for a, b in zip(after, before, strict=True)])
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
        l2_norm_clip=clip, noise_multiplier=sigma, batch_size=divisor, noise_keys=[k + 5 for k in range(models)]
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


def test_each_model_has_its_own_clip_noise_and_divisor() -> None:
    clips, sigmas, divisors = [0.3, 2.0, 0.3], [1.7, 0.6, 5.0], [4.0, 4.0, 9.0]
    made = dp_optimizer(
        l2_norm_clip=clips, noise_multiplier=sigmas, batch_size=divisors, noise_keys=[5, 6, 7], learning_rate=1.0
    )
    variables = [tf.Variable(tf.zeros((3, 100, 200))), tf.Variable(tf.zeros((3, 1, 10_000)))]
    with tf.GradientTape(persistent=True) as tape:
        loss = tf.zeros((3, 1)) * tf.add_n([tf.reduce_sum(v, [1, 2]) for v in variables])[:, None]
    made.minimize(loss, variables, tape=tape)
    for model, (clip, sigma, divisor) in enumerate(zip(clips, sigmas, divisors, strict=True)):
        noise = np.concatenate([np.ravel(v.numpy()[model]) for v in variables]) * divisor / clip
        assert scale_p(noise, sigma) > TINY
        assert scale_p(noise, 0.95 * sigma) < TINY
        assert scale_p(noise, 1.05 * sigma) < TINY
    # And records are clipped to the clip of their own model.
    with tf.GradientTape(persistent=True) as tape:
        loss = 100.0 * tf.reduce_sum(variables[1], [1, 2])[:, None] * tf.ones((3, 1))
    sums = made.clipped_sums(loss, variables[1:], tape)
    np.testing.assert_allclose(np.linalg.norm(sums[0].numpy()[:, 0], axis=-1), clips, rtol=1e-5)


def test_normals_are_normal_far_into_the_tails() -> None:
    many = normals(1, 4_000_001, [3], 7).numpy()[0, 0]
    assert many.shape == (4_000_001,)
    assert kstest(many[:1_000_000], "norm").pvalue > TINY
    assert scale_p(many, 1.0) > TINY
    assert scale_p(many, 1.005) < TINY
    for far in (3.0, 4.5):
        expected = norm.sf(far) * len(many)
        for count in ((many > far).sum(), (many < -far).sum()):
            assert 2 * min(poisson.cdf(count, expected), poisson.sf(count - 1, expected)) > TINY
    assert np.abs(many).max() > 4.8  # at least so far in four million, but for a chance of 2e-3; none beyond 6.8
    assert np.abs(many).max() < 6.8
    # The two numbers of a pair, and neighbours, have nothing to do with one another.
    half = (len(many) + 1) // 2
    for a, b in ((many[: half - 1], many[half:]), (many[:-1], many[1:])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5.5 / len(a) ** 0.5
        assert abs(np.corrcoef(a**2, b**2)[0, 1]) < 5.5 / len(a) ** 0.5


def test_normals_of_more_rows_begin_as_those_of_fewer_and_counters_share_nothing() -> None:
    few, more = normals(3, 5, [1, 2], 4).numpy(), normals(9, 5, [1, 2], 4).numpy()
    assert few.shape == (2, 3, 5)
    np.testing.assert_allclose(few, more[:, :3], rtol=0, atol=1e-6)  # vector and scalar code round alike but for a bit
    assert normals(3, 0, [1, 2], 4).shape == (2, 3, 0)
    streams = np.stack([normals(40, 50, [1], counter).numpy().ravel() for counter in (0, 1, 2, 3, 2**40)])
    assert np.abs(np.corrcoef(streams) - np.eye(5)).max() < 0.13


def test_streams_of_models_steps_and_variables_share_nothing() -> None:
    found = noises([12, 13], steps=3, shapes=[(40, 50), (2000,)])
    streams = found.reshape(-1, 2000)  # 3 steps x 2 variables x 2 models
    assert len(streams) == 12
    together = np.corrcoef(streams) - np.eye(12)
    assert np.abs(together).max() < 0.13  # 5.8 standard errors
    with pytest.raises(ValueError, match="a different noise key"):
        noises([12, 12], steps=1, shapes=[(40, 50)])
    # Mutant: what the same key for both models would have given.
    words = normals(1, 2000, [12, 12], 0).numpy()
    assert np.array_equal(words[0], words[1])


def test_a_model_draws_the_same_noise_alone_and_among_others() -> None:
    together = noises([12, 2**63], steps=2, shapes=[(30, 2), (60,)])
    for model, key in enumerate([12, 2**63]):
        alone = noises([key], steps=2, shapes=[(30, 2), (60,)])
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


def test_a_lot_in_pieces_is_noised_once() -> None:
    whole, pieces = (tf.Variable(tf.zeros(20_000)) for _ in range(2))

    def sums(made: Any, w: Any, rows: Any) -> Any:
        with tf.GradientTape(persistent=True) as tape:
            loss = tf.constant(rows) * tf.reduce_sum(w)
        return made.clipped_sums(loss, [w], tape)

    made = dp_optimizer(noise_multiplier=1.0)
    made.apply_sums(sums(made, whole, [5.0, 0.001, -3.0, 2.0]), [whole])
    made = dp_optimizer(noise_multiplier=1.0)
    first, second = sums(made, pieces, [5.0, 0.001]), sums(made, pieces, [-3.0, 2.0])
    made.apply_sums([first[0] + second[0]], [pieces])
    np.testing.assert_allclose(whole.numpy(), pieces.numpy(), atol=1e-6)
    assert scale_p(pieces.numpy() - pieces.numpy().mean(), 1.0) > TINY
    made, mutant = dp_optimizer(noise_multiplier=1.0), tf.Variable(tf.zeros(20_000))
    for rows in ([5.0, 0.001], [-3.0, 2.0]):  # what accumulating noised gradients would do
        made.apply_sums(sums(made, mutant, rows), [mutant])
    assert scale_p(mutant.numpy() - mutant.numpy().mean(), 1.0) < TINY


def test_sites_must_be_those_of_the_variables() -> None:
    made, (v, w) = dp_optimizer(), (tf.Variable(tf.zeros([2, 2])), tf.Variable(tf.zeros([2])))
    with tf.GradientTape() as tape:
        z = tf.matmul(tf.ones([3, 2]), v) + w
        loss = tf.reduce_sum(z, -1)
    found = [Site(v, w, tf.ones([3, 2]), z)]
    with pytest.raises(ValueError, match="trained by noise"):
        made.clipped_sums(loss, [v, w, tf.Variable(0.0)], tape, sites=found)


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
        with pytest.raises(ValueError, match="one number per record"):
            made.minimize(reduced, [w])
    stacked = dp_optimizer(noise_keys=[12, 34])
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
    with pytest.raises(ValueError, match="one number per record"):
        check_private(model, lambda p: tf.reduce_mean(model(p)), tf.ones([3, 4]))
