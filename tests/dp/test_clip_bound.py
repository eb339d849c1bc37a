"""Records and implementations that could exceed the clip: extreme scales, rounding, layers used twice, two passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from clipped_batches import (
    EXTREME,
    ORDINARY,
    batch,
    dense_site,
    distance,
    flat,
    release_batches,  # noqa: F401 - an autouse fixture
)

from bench.dp import clipping
from bench.dp.clipping import _square, ghost_clipped_sums, vectorized_clipped_sums


def test_a_squared_norm_that_underflows_does_not_exceed_the_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    clip, units = 1e-3, 64

    def moved() -> float:
        kernel, bias = tf.Variable(tf.zeros([1, units])), tf.Variable(tf.zeros([units]))
        with tf.GradientTape() as tape:
            made = dense_site(tf.constant([[1e19]]), kernel, bias)
            loss = 2e-23 * tf.reduce_sum(made.z, -1)
        return float(np.linalg.norm(flat(ghost_clipped_sums(loss, [made], tape, clip))))

    assert moved() == pytest.approx(clip, rel=1e-5)

    def in_float32(self: Any) -> Any:
        return tf.cast(_square(self.d) * (_square(self.a) + 1), tf.float64)

    monkeypatch.setattr(clipping.OuterForm, "square_norms", in_float32)
    assert moved() > 1.5 * clip  # the mutant, whose squares are in float32


@pytest.mark.parametrize("exponent", range(-22, 23, 2))
def test_a_record_is_clipped_at_every_scale(exponent: int) -> None:
    """Input times 10^e, output gradient times 10^-e: the squares of one underflow and those of the other overflow."""
    rng = np.random.default_rng(exponent + 100)
    scale = 10.0**exponent
    kernel, bias = tf.Variable(tf.zeros([7, 9])), tf.Variable(tf.zeros([9]))
    with tf.GradientTape() as tape:
        made = dense_site(tf.constant(rng.normal(size=(1, 7)) * scale, tf.float32), kernel, bias)
        loss = tf.reduce_sum(made.z * tf.constant(rng.normal(size=9) / scale, tf.float32), -1)
    sums = ghost_clipped_sums(loss, [made], tape, 0.01)
    # Below 1e-18 the gradient of the bias, 10^-e, has a square that is not finite in float32: dropped, as documented.
    assert np.linalg.norm(flat(sums)) == pytest.approx(0.01 if exponent >= -18 else 0, rel=1e-5)


def test_rounding_where_rows_cancel_does_not_exceed_the_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows of a record whose products cancel up to float32 rounding."""
    rng = np.random.default_rng(0)
    v, u = np.float32(rng.normal(size=(20, 400))), np.float32(rng.normal(size=(20, 300)))

    def moved() -> float:
        a = tf.constant(np.stack([v, np.nextafter(v, np.float32(9))], 1))
        d = tf.constant(np.stack([u, -u], 1))
        worst = 0.0
        for k in range(20):  # record by record: the clip bounds each
            form = clipping.form_of(a[k : k + 1], d[k : k + 1], 1)
            assert isinstance(form, clipping.GramForm)
            factors = clipping.clip_factors(form.square_norms(), 1e-9)
            worst = max(worst, float(np.linalg.norm(form.sums(factors)[0])) / 1e-9)
        return worst

    assert moved() <= 1 + 1e-5
    monkeypatch.setattr(clipping, "ROUNDING", 0.0)
    assert moved() > 1.01


def test_one_record_that_is_not_finite_does_not_affect_the_others() -> None:
    made = batch("classifier", 1)
    rows = [0, 1, ORDINARY + 1 + list(EXTREME).index("nan")]
    losses, _, tape = made.run(rows)
    jacobian = tape.jacobian(losses, made.variables)[0]
    # The row of a finite record: a Jacobian, which TensorFlow Privacy computes, loses every record.
    assert np.isnan(jacobian[0]).any()
    assert distance(made.vectorized(rows), made.naive([0, 1])) <= 1e-5
    assert distance(made.onepass(rows), made.naive([0, 1])) <= 1e-5


def test_ghost_clipping_of_a_layer_used_twice_would_exceed_the_clip() -> None:
    """The mutant that the refusal prevents: 1.41 clips for one record where each use is clipped as a separate layer."""
    kernel, bias = tf.Variable([[2.0]]), tf.Variable([0.0])
    x = tf.constant([[3.0]])
    with tf.GradientTape(persistent=True) as tape:
        first, second = dense_site(x, kernel, bias), dense_site(x, kernel, bias)
        loss = tf.reduce_sum(first.z + second.z, -1)
    sums = ghost_clipped_sums(loss, [first, second], tape, 1.0)
    kernels, biases = sums[0] + sums[2], sums[1] + sums[3]
    assert np.linalg.norm([float(kernels), float(biases)]) == pytest.approx(2**0.5, rel=1e-5)
    reference = vectorized_clipped_sums(tape.jacobian(loss, [kernel, bias]), 1.0)
    assert np.linalg.norm(flat(reference)) == pytest.approx(1.0, rel=1e-5)


def test_a_second_forward_pass_of_a_sampling_layer_would_exceed_the_clip() -> None:
    """Two passes through a VAE take norms from one noise input and sums from another, which exceeds the clip."""
    made = batch("vae", 1, extreme=False)
    x, y, noise = made.select([0])
    worst = 0.0
    for scale in (3.0, 10.0):
        losses, others, tape = made.run_on(x, y, scale * noise)
        right = ghost_clipped_sums(losses, others, tape, 0.01)
        assert np.linalg.norm(flat(right)) <= 0.01 * (1 + 1e-5)
        deltas = tape.gradient(losses, [s.z for s in others])
        first_losses, first_sites, first_tape = made.run_on(x, y, noise)
        first = first_tape.gradient(first_losses, [s.z for s in first_sites])
        forms = [clipping.form_of(s.a, d, 1) for s, d in zip(first_sites, first, strict=True)]
        factors = clipping.clip_factors(tf.add_n([f.square_norms() for f in forms]), 0.01)
        again = [clipping.form_of(s.a, d, 1).sums(factors) for s, d in zip(others, deltas, strict=True)]
        worst = max(worst, float(np.linalg.norm(flat([v for pair in again for v in pair]))) / 0.01)
    assert worst > 1.1
