"""The noise of the DP optimizer: of the accounted scale, independent between models, steps and variables, used once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from optimizers import dp_optimizer, vector_loss
from scipy.stats import chi2, kstest, norm, poisson
from trainings import TINY

from bench.dp.optimizer import normals


def noises(keys: Any, steps: int, shapes: Any, sigma: float = 1.0) -> np.ndarray[Any, Any]:
    """The noise added to all-zero sums, (steps, variables, models, numbers); all `shapes` have equally many numbers."""
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


def test_every_model_of_a_stack_has_a_separate_clip_noise_and_divisor() -> None:
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
    # Records are clipped to the clip of the model that they train.
    with tf.GradientTape(persistent=True) as tape:
        loss = 100.0 * tf.reduce_sum(variables[1], [1, 2])[:, None] * tf.ones((3, 1))
    sums = made.clipped_sums(loss, variables[1:], tape)
    np.testing.assert_allclose(np.linalg.norm(sums[0].numpy()[:, 0], axis=-1), clips, rtol=1e-5)


def test_normals_are_normal_into_the_tails() -> None:
    many = normals(1, 4_000_001, [3], 7).numpy()[0, 0]
    assert many.shape == (4_000_001,)
    assert kstest(many[:1_000_000], "norm").pvalue > TINY
    assert scale_p(many, 1.0) > TINY
    assert scale_p(many, 1.005) < TINY
    for far in (3.0, 4.5):
        expected = norm.sf(far) * len(many)
        for count in ((many > far).sum(), (many < -far).sum()):
            assert 2 * min(poisson.cdf(count, expected), poisson.sf(count - 1, expected)) > TINY
    assert np.abs(many).max() > 4.8  # true of four million with probability 0.998; none is above 6.8
    assert np.abs(many).max() < 6.8
    # The two numbers of a Box-Muller pair, and neighbours, are uncorrelated, and so are their squares.
    half = (len(many) + 1) // 2
    for a, b in ((many[: half - 1], many[half:]), (many[:-1], many[1:])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5.5 / len(a) ** 0.5
        assert abs(np.corrcoef(a**2, b**2)[0, 1]) < 5.5 / len(a) ** 0.5


def test_normals_do_not_depend_on_the_number_of_rows_and_counters_are_uncorrelated() -> None:
    few, more = normals(3, 5, [1, 2], 4).numpy(), normals(9, 5, [1, 2], 4).numpy()
    assert few.shape == (2, 3, 5)
    np.testing.assert_allclose(few, more[:, :3], rtol=0, atol=1e-6)  # vector and scalar code may differ in the last bit
    assert normals(3, 0, [1, 2], 4).shape == (2, 3, 0)
    streams = np.stack([normals(40, 50, [1], counter).numpy().ravel() for counter in (0, 1, 2, 3, 2**40)])
    assert np.abs(np.corrcoef(streams) - np.eye(5)).max() < 0.13


def test_noise_of_models_steps_and_variables_is_uncorrelated() -> None:
    found = noises([12, 13], steps=3, shapes=[(40, 50), (2000,)])
    streams = found.reshape(-1, 2000)  # 3 steps x 2 variables x 2 models
    assert len(streams) == 12
    correlations = np.corrcoef(streams) - np.eye(12)
    assert np.abs(correlations).max() < 0.13  # 5.8 standard errors
    with pytest.raises(ValueError, match="a different noise key"):
        noises([12, 12], steps=1, shapes=[(40, 50)])
    # Mutant: one key for both models gives both the same noise.
    same = normals(1, 2000, [12, 12], 0).numpy()
    assert np.array_equal(same[0], same[1])


def test_a_model_draws_the_same_noise_alone_and_in_a_stack() -> None:
    stacked = noises([12, 2**63], steps=2, shapes=[(30, 2), (60,)])
    for model, key in enumerate([12, 2**63]):
        alone = noises([key], steps=2, shapes=[(30, 2), (60,)])
        np.testing.assert_allclose(stacked[:, :, model], alone[:, :, 0], rtol=0, atol=1e-6)


def test_noise_of_a_step_is_used_once() -> None:
    made, w = dp_optimizer(noise_multiplier=1.0), tf.Variable([0.5, -0.5])
    pairs = made._compute_gradients(lambda: vector_loss(w), [w])
    # The difference of two sums with the same noise would be a private sum without noise.
    with pytest.raises(ValueError, match="drawn already"):
        made._compute_gradients(lambda: 2 * vector_loss(w), [w])
    made.apply_gradients(pairs)
    with pytest.raises(ValueError, match="not clipped and noised"):
        made.apply_gradients(pairs)
    made.minimize(lambda: vector_loss(w), [w])


def test_a_poisson_batch_in_pieces_is_noised_once() -> None:
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
    for rows in ([5.0, 0.001], [-3.0, 2.0]):  # the mutant accumulates gradients that are noised piece by piece
        made.apply_sums(sums(made, mutant, rows), [mutant])
    assert scale_p(mutant.numpy() - mutant.numpy().mean(), 1.0) < TINY
