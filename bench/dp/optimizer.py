"""TensorFlow Privacy's DP Keras optimizers, made to do exactly what is accounted.

What is TensorFlow Privacy's: the optimizer classes and the Gaussian sum query. What is replaced, and why (each was
measured to go wrong silently, or to be slow): the clipped sums are computed by `bench.dp.clipping`; noise comes from
keys, one stream per model; sums are divided by a public constant, because the size of a batch reveals how many records
there are; gradients that were not clipped and noised are refused; K models side by side are clipped and noised
separately. This module imports TensorFlow: import it inside functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import keras
from tensorflow_privacy import (
    GaussianSumQuery,
    VectorizedDPKerasAdamOptimizer,
    VectorizedDPKerasSGDOptimizer,
)

from bench.dp.clipping import Site, ghost_clipped_sums, vectorized_clipped_sums

PHILOX = 1


def normals(rows: Any, columns: int, keys: Any, counter: Any) -> Any:
    """Standard normal numbers (keys, rows, columns): a stream per key, another stretch of it per counter (below 2**63).

    keys: numbers below 2**64, or a uint64 tensor. More rows leave the first ones as they are. Philox words, 32 bits
    each, are made normal by Box and Muller's rule on whole tensors: faster than the generator of TensorFlow, and
    further into the tails (6.7 against 5.7 deviations).
    """
    pairs = (columns + 1) // 2
    keys = tf.convert_to_tensor(keys, tf.uint64)
    if not pairs:
        return tf.zeros((keys.shape[0], rows, 0))

    def uniform(word: int) -> Any:
        # The counter is the high half of Philox's, so no two share a word however many numbers one takes.
        place = tf.cast(counter, tf.uint64) * 2 + word
        start = tf.stack([tf.zeros((), tf.uint64), place])
        words = [
            tf.raw_ops.StatelessRandomUniformFullIntV2(
                shape=[rows, pairs], key=keys[k : k + 1], counter=start, alg=PHILOX, dtype=tf.uint32
            )
            for k in range(keys.shape[0])
        ]
        return tf.cast(tf.stack(words), tf.float32)

    radius = tf.sqrt(-2 * tf.math.log((uniform(0) + 0.5) * 2.0**-32))  # never of 0
    angle = uniform(1) * (2 * math.pi * 2.0**-32)
    return tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], -1)[..., :columns]


class SeededGaussianSumQuery(GaussianSumQuery):  # type: ignore[misc]
    """TensorFlow Privacy's Gaussian sum, with noise from a key per model and the step instead of a global generator.

    The noise of a model depends on its key, the step and the place of the number alone, so models that train together
    get the noise that they would get alone, and no two models, steps or variables share any. stddev: one number, or
    one per model.
    """

    def __init__(self, l2_norm_clip: Any, stddev: Any, keys: Any, models: int) -> None:
        super().__init__(l2_norm_clip, stddev)
        self._keys, self._models = keys, models
        self.step: Any = None

    def get_noised_result(self, sample_state: Any, global_state: Any) -> Any:
        """The clipped sums with one draw of noise per model, cut to the variables' shapes."""
        sizes = [v.shape.num_elements() // self._models for v in sample_state]
        noise = normals(1, sum(sizes), self._keys, self.step)[:, 0] * tf.reshape(global_state.stddev, [-1, 1])
        pieces = tf.split(noise, sizes, axis=1)
        noised = [v + tf.reshape(piece, v.shape) for v, piece in zip(sample_state, pieces, strict=True)]
        return noised, global_state, None


def _each(values: Sequence[float]) -> Any:
    """One number where all models have the same, else one per model: float32, () or (models, 1)."""
    found = np.array(values, np.float32)
    return found[0] if len(set(values)) == 1 else found[:, None]


def _variables(sites: Sequence[Site]) -> list[Any]:
    return [v for site in sites for v in (site.kernel, site.bias)]


class PoissonDPMixin:
    """Makes a DP Keras optimizer one for padded Poisson batches, divided by the public constant `batch_size`.

    noise_keys: numbers below 2**64, one per model; l2_norm_clip, noise_multiplier, batch_size: a number, or one per
    model; num_microbatches: only None (one per record), since fewer double the sensitivity silently.
    `minimize(loss, variables, tape=)` takes per-record losses, (n,) for one model and (models, n) for several;
    with `sites` it uses ghost clipping, with `gradients` (of `per_record_gradients`) it takes any layers, with
    neither a Jacobian, which refuses records that are not finite. A batch that comes in pieces is clipped with
    `clipped_sums`, added up, and noised once by `apply_sums`.
    """

    # Of the Keras optimizer that this is mixed into.
    iterations: Any
    _l2_norm_clip: Any

    def __init__(
        self,
        *,
        l2_norm_clip: float | Sequence[float],
        noise_multiplier: float | Sequence[float],
        batch_size: float | Sequence[float],
        noise_keys: Sequence[int],
        num_microbatches: None = None,
        **keras_options: Any,
    ) -> None:
        if num_microbatches is not None:
            raise ValueError(
                "num_microbatches must be None (one per record): microbatches of several records "
                "double the sensitivity that the accountant assumes"
            )
        clip, multiplier, size = (
            _each(np.broadcast_to(np.asarray(v, np.float64), len(noise_keys)).tolist())
            for v in (l2_norm_clip, noise_multiplier, batch_size)
        )
        super().__init__(clip, multiplier, **keras_options)  # type: ignore[call-arg]
        self._models = len(noise_keys)
        self._keys = tf.Variable(tf.zeros(self._models, tf.uint64), trainable=False)
        self.set_noise_keys(noise_keys)
        self._dp_sum_query = SeededGaussianSumQuery(clip, clip * multiplier, self._keys, self._models)
        self._batch_size = size
        self._noised: list[Any] = []

    def set_noise_keys(self, noise_keys: Sequence[int]) -> None:
        """Noise comes from these keys from now on, one per model. Raises ValueError where two are equal."""
        if len({int(key) for key in noise_keys}) < self._models:
            raise ValueError("every model needs a different noise key: equal keys give equal noise")
        self._keys.assign(np.array(noise_keys, np.uint64))

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

    def clipped_sums(
        self,
        loss: Any,
        var_list: Sequence[Any],
        tape: Any,
        sites: Sequence[Site] | None = None,
        gradients: Sequence[Any] | None = None,
        networks: Sequence[str] | None = None,
    ) -> list[Any]:
        """Sums of clipped gradients of the records of one piece of a batch, in the order of var_list; no noise yet.

        networks: the group that each variable is clipped with (`Site.network` where there are sites).
        """
        self._check_loss(loss)
        if sites is None:
            gradients = self._jacobian(loss, var_list, tape) if gradients is None else gradients
            return vectorized_clipped_sums(gradients, self._l2_norm_clip, self._models > 1, networks)
        sums = ghost_clipped_sums(loss, sites, tape, self._l2_norm_clip)
        by_variable = {v.ref(): total for v, total in zip(_variables(sites), sums, strict=True)}
        if by_variable.keys() != {v.ref() for v in var_list}:
            raise ValueError("the sites are not those of the variables: what is missing would be trained by noise")
        return [by_variable[v.ref()] for v in var_list]

    def apply_sums(self, sums: Sequence[Any], var_list: Sequence[Any]) -> Any:
        """One step on the clipped sums of a whole batch, with one draw of noise."""
        return self.apply_gradients(self.noised_gradients(sums, var_list))

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
        return self.noised_gradients(self.clipped_sums(loss, var_list, tape, sites, gradients), var_list)

    def noised_gradients(self, sums: Sequence[Any], var_list: Sequence[Any]) -> list[tuple[Any, Any]]:
        """Pairs of a noised and divided sum and its variable, with one draw of noise for all."""
        if self._noised:
            raise ValueError("the noise of this step was drawn already: apply its gradients before computing others")
        self._was_dp_gradients_called = True
        self._dp_sum_query.step = self.iterations
        noised, _, _ = self._dp_sum_query.get_noised_result(sums, self._dp_sum_query.initial_global_state())
        self._noised = [v / self.divisor(v.shape.rank) for v in noised]
        return list(zip(self._noised, var_list, strict=True))

    def divisor(self, rank: int) -> Any:
        """What sums of this rank are divided by: a number, or one per model."""
        size: NDArray[Any] = self._batch_size
        return size if size.ndim == 0 else size.reshape(-1, *[1] * (rank - 1))

    def _jacobian(self, loss: Any, variables: Any, tape: Any) -> list[Any]:
        with tape:  # models are apart, so row i of their sum's Jacobian holds record i's gradient in each
            rows = loss if self._models == 1 else tf.reduce_sum(loss, 0)
        found = tape.jacobian(rows, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [tf.debugging.check_numerics(j, "a record that is not finite spoils all others") for j in found]

    def _check_loss(self, loss: Any) -> None:
        wanted = 1 if self._models == 1 else 2
        if loss.shape.rank != wanted:
            raise ValueError(
                f"the loss must be one number per record, shape {'(n,)' if wanted == 1 else '(models, n)'}, "
                f"not {loss.shape}: "
                "a reduced loss hides the records and nothing would be clipped"
            )
        if wanted == 2 and loss.shape[0] != self._models:
            raise ValueError(f"the loss has shape {loss.shape}, but noise keys came for {self._models} models")

    def apply_gradients(self, grads_and_vars: Any, *args: Any, **kwargs: Any) -> Any:
        """Apply what the last `_compute_gradients` returned, once; anything else was not noised and is refused.

        There is one replica, so gradients are not summed over replicas: TensorFlow would register the gradient of that
        sum for good, and with it the whole program.
        """
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
        kwargs.setdefault("experimental_aggregate_gradients", False)
        return super().apply_gradients(pairs, *args, **kwargs)  # type: ignore[misc]

    @classmethod
    def from_config(cls, config: Any, custom_objects: Any = None) -> Any:
        """Refused: a configuration does not carry clip, noise and streams."""
        raise TypeError("a DP optimizer cannot be rebuilt from its configuration: make a new one from the recipe")


class PoissonDPAdam(PoissonDPMixin, VectorizedDPKerasAdamOptimizer):  # type: ignore[misc]
    """Adam (Kingma and Ba 2015) on noised sums."""


class PoissonDPSGD(PoissonDPMixin, VectorizedDPKerasSGDOptimizer):  # type: ignore[misc]
    """Gradient descent, with momentum or without, on noised sums."""


def check_private(model: Any, losses: Any, x: Any) -> None:
    """Refuse what breaks the clip bound: batch normalisation, add_loss, and any layer through which records mix.

    losses: function of records (…, n, *shape) to per-record losses (…, n), probed on x with n >= 2. The loss of one
    record must not change with any other record, of the same model or of another, nor have a gradient by it. Raises
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
            f"the loss must be one number per record, not of shape {losses(x).shape}: nothing would be clipped"
        )
    if _mixes(losses, x):
        raise ValueError("a layer mixes records: the loss of one depends on another, so clipping bounds nothing")


def _mixes(losses: Any, x: Any) -> bool:
    lead = losses(x).shape
    repeats = bool(tf.reduce_all(losses(x) == losses(x)))  # not with Dropout, of which only the gradient is checked
    for place in (
        [0] * lead.rank,
        [size - 1 for size in lead],
    ):  # both ends, because a running sum mixes in one direction
        here = tf.scatter_nd([place], [True], lead)
        here = tf.reshape(here, [*lead, *[1] * (x.shape.rank - lead.rank)])
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = losses(x)[tuple(place)]
        by_others = tf.where(here, 0.0, tape.gradient(loss, x, unconnected_gradients="zero"))
        moved = losses(tf.where(here, x, 1.0 - x))[tuple(place)]  # sees through stop_gradient
        if bool(tf.reduce_any(by_others != 0.0)) or (repeats and bool(moved != loss)):
            return True
    return False
