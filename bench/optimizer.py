"""TensorFlow Privacy's DP Keras optimizers, made to do exactly what is accounted.

What is TensorFlow Privacy's: the optimizer classes and the Gaussian sum query. What is replaced, and why (each was
measured to go wrong silently): noise comes from a seed handed in, one stream a model; sums are divided by a public
constant, for a batch's own size tells how many records there are; a record without a finite gradient counts nothing;
gradients that were not clipped and noised are refused; K models side by side are clipped and noised each for itself.
This module imports TensorFlow: import it inside functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tensorflow import keras
from tensorflow_privacy import (
    GaussianSumQuery,
    VectorizedDPKerasAdamOptimizer,
    VectorizedDPKerasSGDOptimizer,
)

from bench.nets import stacked_dense


@dataclass(frozen=True)
class Site:
    """One dense layer in one forward pass: its variables, its input `a` and its output `z` before the activation."""

    kernel: Any
    bias: Any
    a: Any
    z: Any


class SeededGaussianSumQuery(GaussianSumQuery):  # type: ignore[misc]
    """TensorFlow Privacy's Gaussian sum, with noise from seeds (models, 2) and the step instead of a global generator.

    A model's noise depends on its own seed, the step and the place of the number alone, so models that train together
    get the noise that they would get alone, and no two models, steps or variables share any.
    """

    def __init__(self, l2_norm_clip: float, stddev: float, seeds: Any) -> None:
        super().__init__(l2_norm_clip, stddev)
        self._seeds = [tf.constant(seed, tf.int32) for seed in seeds]
        self.step: Any = None

    def get_noised_result(self, sample_state: Any, global_state: Any) -> Any:
        """The clipped sums with one draw of noise a model, cut to the variables' shapes."""
        sizes = [v.shape.num_elements() // len(self._seeds) for v in sample_state]
        noise = tf.stack(
            [
                tf.random.stateless_normal(
                    [sum(sizes)], tf.random.experimental.stateless_fold_in(seed, self.step), alg="philox"
                )
                for seed in self._seeds
            ]
        )
        pieces = tf.split(noise * global_state.stddev, sizes, axis=1)
        noised = [v + tf.reshape(piece, v.shape) for v, piece in zip(sample_state, pieces, strict=True)]
        return noised, global_state, None


def clip_factors(square_norms: Any, l2_norm_clip: float) -> Any:
    """What to multiply each record's gradient with so that its norm is at most the clip; 0 where it is not finite."""
    norms = tf.sqrt(square_norms)
    return tf.where(tf.math.is_finite(norms), l2_norm_clip / tf.maximum(norms, l2_norm_clip), 0.0)


def _square_norm(values: Any) -> Any:
    """Squared norms in float64: in float32 the square of 1e-23 is 0, and its partner of 1e19 would go unclipped."""
    return tf.reduce_sum(tf.square(tf.cast(values, tf.float64)), -1)


def _zero_where_dropped(values: Any, factors: Any) -> Any:
    """`values` with the rows of dropped records set to zero, because 0 * NaN is NaN."""
    trailing = tf.ones(tf.rank(values) - tf.rank(factors), tf.int32)
    keep = tf.reshape(factors > 0, tf.concat([tf.shape(factors), trailing], 0))
    return tf.where(keep, values, tf.zeros_like(values))


def onepass_clipped_sums(loss: Any, sites: Sequence[Site], tape: Any, l2_norm_clip: float) -> list[Any]:
    """Clipped sums of per-record gradients of dense layers from one backward pass, kernels and biases in turn.

    The gradient of a dense layer for one record is the outer product of its input a and its output's gradient d, so its
    squared norm is |a|^2 |d|^2 and the weighted sum of records is one matrix product (Goodfellow 2015; Bu et al. 2022,
    "book-keeping"). Memory is linear in the batch. Works alike on (n, units) and (models, n, units).
    """
    deltas = tape.gradient(loss, [site.z for site in sites])  # of a vector: the gradient of its sum
    if any(d is None for d in deltas):
        raise ValueError("a dense layer takes no part in the loss: nothing of it would be trained but by noise")
    square_norms = tf.add_n(
        [_square_norm(d) * (_square_norm(site.a) + 1.0) for site, d in zip(sites, deltas, strict=True)]
    )
    factors = clip_factors(tf.cast(square_norms, tf.float32), l2_norm_clip)
    sums = []
    for site, d in zip(sites, deltas, strict=True):
        d = _zero_where_dropped(d, factors) * factors[..., None]
        sums.append(tf.matmul(_zero_where_dropped(site.a, factors), d, transpose_a=True))
        sums.append(tf.reshape(tf.reduce_sum(d, -2), site.bias.shape))
    return sums


def per_record_gradients(one: Any, records: Any, variables: Sequence[Any]) -> list[Any]:
    """Gradients (n, *variable) of one(record), a number, for tensors `records` with the records in front; any layers.

    Every record goes through the network alone: in the Jacobian of a batch, which TensorFlow Privacy takes, a record
    that is not finite spoils all rows (0 * NaN), and dropping them all is more than one record may move.
    """

    def gradients(record: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = one(record)
        return tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    return list(tf.vectorized_map(gradients, records))


def vectorized_clipped_sums(gradients: Sequence[Any], l2_norm_clip: float, stacked: bool = False) -> list[Any]:
    """The reference: clipped sums of whole per-record gradients (n, *variable), memory n times the model.

    Where models are stacked, variables have a leading model axis and each model is clipped for itself.
    """
    lead = 2 if stacked else 1
    square_norms = tf.add_n([tf.reduce_sum(tf.square(g), list(range(lead, g.shape.rank))) for g in gradients])
    factors = clip_factors(square_norms, l2_norm_clip)
    letters = "nk" if stacked else "n"
    out = "k..." if stacked else "..."
    return [tf.einsum(f"{letters},{letters}...->{out}", factors, _zero_where_dropped(g, factors)) for g in gradients]


def _poisson(base: Any) -> Any:
    class PoissonDPOptimizer(base):  # type: ignore[misc]
        """A DP Keras optimizer for padded Poisson batches, divided by the public constant `batch_size`.

        noise_seeds: int32 (models, 2), one stream a model; num_microbatches: only None (one a record), since fewer
        double the sensitivity without a word. `minimize(loss, variables, tape=)` takes per-record losses, (n,) for
        one model and (models, n) for several; with `sites` clipping needs one pass, with `gradients` (of
        `per_record_gradients`) it takes any layers, with neither a Jacobian, which refuses records that are not finite.
        """

        def __init__(
            self,
            *,
            l2_norm_clip: float,
            noise_multiplier: float,
            batch_size: float,
            noise_seeds: Any,
            num_microbatches: None = None,
            **keras_options: Any,
        ) -> None:
            if num_microbatches is not None:
                raise ValueError(
                    "num_microbatches must be None (one a record): microbatches of several records "
                    "double the sensitivity that the accountant assumes"
                )
            super().__init__(l2_norm_clip, noise_multiplier, **keras_options)
            self._dp_sum_query = SeededGaussianSumQuery(l2_norm_clip, l2_norm_clip * noise_multiplier, noise_seeds)
            self._models = len(noise_seeds)
            self._batch_size = batch_size
            self._noised: list[Any] = []

        def minimize(
            self,
            loss: Any,
            var_list: Any,
            grad_loss: Any = None,
            name: Any = None,
            tape: Any = None,
            sites: Sequence[Site] | None = None,
            gradients: Sequence[Any] | None = None,
        ) -> Any:
            """One noised step on per-record losses."""
            return self.apply_gradients(self._compute_gradients(loss, var_list, None, tape, sites, gradients))

        def _compute_gradients(
            self,
            loss: Any,
            var_list: Any,
            grad_loss: Any = None,
            tape: Any = None,
            sites: Sequence[Site] | None = None,
            gradients: Sequence[Any] | None = None,
        ) -> list[tuple[Any, Any]]:
            if callable(loss):
                tape = tf.GradientTape(persistent=True)
                with tape:
                    loss = loss()
            self._check_loss(loss)
            if self._noised:
                raise ValueError(
                    "the noise of this step was drawn already: apply its gradients before computing others"
                )
            if sites is None:
                gradients = self._jacobian(loss, var_list, tape) if gradients is None else gradients
                sums = vectorized_clipped_sums(gradients, self._l2_norm_clip, self._models > 1)
            else:
                sums = onepass_clipped_sums(loss, sites, tape, self._l2_norm_clip)
                var_list = [v for site in sites for v in (site.kernel, site.bias)]  # the order of the sums
            self._was_dp_gradients_called = True
            self._dp_sum_query.step = self.iterations
            state = self._dp_sum_query.initial_global_state()
            noised, _, _ = self._dp_sum_query.get_noised_result(sums, state)
            self._noised = [v / self._batch_size for v in noised]
            return list(zip(self._noised, var_list, strict=True))

        def _jacobian(self, loss: Any, variables: Any, tape: Any) -> list[Any]:
            with tape:  # models are apart, so row i of their sum's Jacobian holds record i's gradient in each
                rows = loss if self._models == 1 else tf.reduce_sum(loss, 0)
            found = tape.jacobian(rows, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            return [tf.debugging.check_numerics(j, "a record that is not finite spoils all others") for j in found]

        def _check_loss(self, loss: Any) -> None:
            wanted = 1 if self._models == 1 else 2
            if loss.shape.rank != wanted:
                raise ValueError(
                    f"the loss must be one number a record, shape {'(n,)' if wanted == 1 else '(models, n)'}, "
                    f"not {loss.shape}: "
                    "a reduced loss hides the records and nothing would be clipped"
                )
            if wanted == 2 and loss.shape[0] != self._models:
                raise ValueError(f"the loss has shape {loss.shape}, but noise seeds came for {self._models} models")

        def apply_gradients(self, grads_and_vars: Any, *args: Any, **kwargs: Any) -> Any:
            """Apply what the last `_compute_gradients` returned, once; anything else was not noised and is refused."""
            pairs = list(grads_and_vars)
            if (
                not pairs
                or len(pairs) != len(self._noised)
                or any(g is not n for (g, _), n in zip(pairs, self._noised, strict=True))
            ):
                raise ValueError(
                    "these gradients were not clipped and noised by this optimizer: call minimize() "
                    "(a DP model is never trained through ART or a plain training loop)"
                )
            self._noised = []
            return super().apply_gradients(pairs, *args, **kwargs)

        @classmethod
        def from_config(cls, config: Any, custom_objects: Any = None) -> Any:
            """Refused: a configuration does not carry clip, noise and streams."""
            raise TypeError("a DP optimizer cannot be rebuilt from its configuration: make a new one from the recipe")

    PoissonDPOptimizer.__name__ = f"Poisson{base.__name__}"
    return PoissonDPOptimizer


PoissonDPAdam = _poisson(VectorizedDPKerasAdamOptimizer)
PoissonDPSGD = _poisson(VectorizedDPKerasSGDOptimizer)


def dense_layers(model: Any) -> list[Any]:
    """The trainable layers of a model in which one-pass clipping is known to be right; ValueError names another."""
    found = []
    for layer in model.layers:
        if not layer.trainable_weights:
            continue
        if len(layer.inbound_nodes) > 1:
            raise ValueError(f"layer {layer.name!r} is used twice: train with engine='vectorized'")
        # The very classes: a subclass may do anything with its kernel.
        plain = type(layer) is keras.layers.Dense and layer.activation is keras.activations.linear and layer.use_bias
        if not (plain and layer.input.shape.rank == 2) and type(layer) is not stacked_dense():
            raise ValueError(f"one-pass clipping does not know layer {layer.name!r}: train with engine='vectorized'")
        found.append(layer)
    return found


def check_private(model: Any, losses: Any, x: Any) -> None:
    """Refuse what breaks the clip bound: batch normalisation, add_loss, and any layer through which records mix.

    losses: function of records (…, n, *shape) to per-record losses (…, n), probed on x with n >= 2. The loss of one
    record must not change with any other record, of its own model or of another, nor have a gradient by it. Raises
    ValueError.
    """
    for layer in model.submodules:
        if isinstance(layer, keras.layers.BatchNormalization):
            raise ValueError(f"layer {layer.name!r} keeps raw batch means, which no noise covers: leave it out")
    if model.losses:
        raise ValueError("a loss given through add_loss gets no gradient under DP training: put it in the net's loss")
    for w in model.weights:
        if not w.trainable:
            raise ValueError(f"weight {w.name!r} is changed outside of the noised step: leave its layer out")
    if losses(x).shape.rank not in (1, 2):
        raise ValueError(
            f"the loss must be one number a record, not of shape {losses(x).shape}: nothing would be clipped"
        )
    if _mixes(losses, x):
        raise ValueError("a layer mixes records: the loss of one depends on another, so clipping bounds nothing")


def _mixes(losses: Any, x: Any) -> bool:
    lead = losses(x).shape
    repeats = bool(tf.reduce_all(losses(x) == losses(x)))  # not with Dropout, whose gradient alone can be asked
    for place in ([0] * lead.rank, [size - 1 for size in lead]):  # both ends, for a running sum mixes one way only
        own = tf.scatter_nd([place], [True], lead)
        own = tf.reshape(own, [*lead, *[1] * (x.shape.rank - lead.rank)])
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = losses(x)[tuple(place)]
        by_others = tf.where(own, 0.0, tape.gradient(loss, x, unconnected_gradients="zero"))
        moved = losses(tf.where(own, x, 1.0 - x))[tuple(place)]  # sees through stop_gradient
        if bool(tf.reduce_any(by_others != 0.0)) or (repeats and bool(moved != loss)):
            return True
    return False
