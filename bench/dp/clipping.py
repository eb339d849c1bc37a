"""Sums of clipped per-record gradients: by ghost clipping in one backward pass, or the reference for any layers.

This module imports TensorFlow: import it inside functions.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tensorflow import keras

from bench.dp.layers import patches, stacked_conv, stacked_dense

# Rounding of a sum of T products, in parts of the sum of their norms, is far below this. Where the products cancel to
# less than it, rounding is what is left, and the norm is taken to be at least as large.
ROUNDING = 3e-5
PIECE = 32  # records whose rows are multiplied in float64 at once


@dataclass(frozen=True)
class Site:
    """One layer in one forward pass: its variables, its input `a` and its output `z` before the activation.

    network: the group of layers that it is clipped with; unfold: what turns the input of a convolution into patches.
    """

    kernel: Any
    bias: Any
    a: Any
    z: Any
    network: str = "whole"
    unfold: Callable[[Any], Any] | None = None


def private_layers(model: Any) -> list[Any]:
    """The layers that are trained on records: those with trainable weights that are not marked unclipped."""
    return [layer for layer in model.layers if layer.trainable_weights and not getattr(layer, "unclipped", False)]


def ghost_layers(model: Any) -> list[Any]:
    """The private layers, if ghost clipping is known to be right in all; ValueError names the first other one."""
    found = private_layers(model)
    for layer in found:
        if len(layer.inbound_nodes) > 1:
            raise ValueError(f"layer {layer.name!r} is used twice: train with engine=vectorized")
        # The very classes: a subclass may do anything with its kernel.
        kind = type(layer)
        plain = kind is keras.layers.Dense or (
            kind is keras.layers.Conv2D
            and layer.groups == 1
            and set(layer.dilation_rate) == {1}
            and layer.data_format == "channels_last"
            and len({*layer.kernel_size}) == len({*layer.strides}) == 1
            and layer.padding in ("same", "valid")
        )
        plain = plain and layer.activation is keras.activations.linear and layer.use_bias
        if not plain and kind not in (stacked_dense(), stacked_conv()):
            raise ValueError(f"ghost clipping does not know layer {layer.name!r}: train with engine=vectorized")
    return found


def site(layer: Any, a: Any, z: Any, *, apart: bool = False) -> Site:
    """What ghost clipping needs of one of `ghost_layers`, with input a and output z in one forward pass.

    apart: clip its network (see `Single.part`) separately.
    """
    unfold = None
    if type(layer) is keras.layers.Conv2D:
        window = {"size": layer.kernel_size[0], "stride": layer.strides[0], "padding": layer.padding}
        unfold = functools.partial(patches, **window)
    elif type(layer) is stacked_conv():
        unfold = functools.partial(patches, **dict(zip(("size", "stride", "padding"), layer.window, strict=True)))
    return Site(layer.kernel, layer.bias, a, z, layer.network if apart else "whole", unfold)


def clip_factors(square_norms: Any, l2_norm_clip: Any) -> Any:
    """What to multiply each record's gradient with so that its norm is at most the clip; 0 where it is not finite."""
    norms = tf.sqrt(tf.cast(square_norms, tf.float32))
    return tf.where(tf.math.is_finite(norms), l2_norm_clip / tf.maximum(norms, l2_norm_clip), 0.0)


def clip_shares(networks: Sequence[str], squares: Sequence[Any], l2_norm_clip: Any) -> list[Any]:
    """Factors of each entry; networks of different names get equal shares of the clip, whose squares add up to it."""
    names = list(dict.fromkeys(networks))
    clip = l2_norm_clip / len(names) ** 0.5
    factors = {
        name: clip_factors(tf.add_n([s for s, network in zip(squares, networks, strict=True) if network == name]), clip)
        for name in names
    }
    return [factors[name] for name in networks]


def _zero_where_dropped(values: Any, factors: Any) -> Any:
    """`values` with the rows of dropped records set to zero, because 0 * NaN is NaN."""
    trailing = tf.ones(tf.rank(values) - tf.rank(factors), tf.int32)
    keep = tf.reshape(factors > 0, tf.concat([tf.shape(factors), trailing], 0))
    return tf.where(keep, values, tf.zeros_like(values))


def _square(values: Any) -> Any:
    return tf.reduce_sum(tf.square(values), -1)


def _wide_square(values: Any) -> Any:
    """Squared norms in float64 of float32 rows: in float32 the square of 1e-23 is 0, and its partner 1e19 unclipped.

    By the largest number of a row, for casting all of them would take twice the memory.
    """
    largest = tf.maximum(tf.reduce_max(tf.abs(values), -1, keepdims=True), 1e-37)
    scaled = _square(values / largest)
    return tf.cast(scaled, tf.float64) * tf.square(tf.cast(largest[..., 0], tf.float64))


def _square_of_record(values: Any, lead: int) -> Any:
    return tf.reduce_sum(tf.square(values), list(range(lead, values.shape.rank)))


@dataclass(frozen=True)
class OuterForm:
    """A dense layer on one row per record: the gradient is the outer product of a (…, n, p) and d (…, n, q)."""

    a: Any
    d: Any

    def square_norms(self) -> Any:
        return _wide_square(self.d) * (_wide_square(self.a) + 1)

    def sums(self, factors: Any) -> tuple[Any, Any]:
        weighted = self.d * factors[..., None]
        return tf.matmul(self.a, weighted, transpose_a=True), tf.reduce_sum(weighted, -2)


@dataclass(frozen=True)
class ExplicitForm:
    """A layer on many rows per record and with few weights: a^T d of every record, (…, n, p * q), is smaller than a."""

    a: Any
    d: Any

    @functools.cached_property
    def gradients(self) -> tuple[Any, Any]:
        products = tf.matmul(self.a, self.d, transpose_a=True)
        lead = _axes(products, products.shape.rank - 2)
        kernels = tf.reshape(products, [*lead, products.shape[-2] * products.shape[-1]])
        return kernels, tf.reduce_sum(self.d, -2)

    def square_norms(self) -> Any:
        return tf.cast(tf.add_n([_square(g) for g in self.gradients]), tf.float64)

    def sums(self, factors: Any) -> tuple[Any, Any]:
        kernels, biases = (tf.matmul(factors[..., None, :], g)[..., 0, :] for g in self.gradients)
        return kernels, biases


@dataclass(frozen=True)
class GramForm:
    """A layer on few rows per record and with many weights: |a^T d|^2 from the rows' products among themselves."""

    a: Any
    d: Any

    def square_norms(self) -> Any:
        # Some records at a time, because in float64 those of a whole batch would take twice the memory of the rows.
        lead = _axes(self.a, self.a.shape.rank - 2)
        flat = [tf.reshape(v, (-1, *v.shape[-2:])) for v in (self.a, self.d)]
        count = tf.shape(flat[0])[0]
        pieces = tf.TensorArray(tf.float64, (count + PIECE - 1) // PIECE, infer_shape=False, element_shape=[None])

        def more(i: Any, pieces: Any) -> Any:
            a, d = (v[i * PIECE : (i + 1) * PIECE] for v in flat)
            return i + 1, pieces.write(i, self._square_norms(a, d))

        _, pieces = tf.while_loop(lambda i, _: i * PIECE < count, more, (0, pieces), parallel_iterations=1)
        return tf.reshape(pieces.concat(), lead)

    @staticmethod
    def _square_norms(a: Any, d: Any) -> Any:
        a, d = (tf.cast(v, tf.float64) for v in (a, d))  # the terms may cancel
        aa, dd = (tf.matmul(v, v, transpose_b=True) for v in (a, d))
        product = aa * dd
        terms = tf.reduce_sum(tf.sqrt(tf.linalg.diag_part(product)), -1)
        kernels = tf.maximum(tf.reduce_sum(product, [-2, -1]), 0) + tf.square(ROUNDING * terms)
        return kernels + _square(tf.reduce_sum(d, -2))

    def sums(self, factors: Any) -> tuple[Any, Any]:
        lead = _axes(self.a, self.a.shape.rank - 3)  # of models; rows of all records become one
        a, d = (tf.reshape(v, [*lead, -1, v.shape[-1]]) for v in (self.a, self.d * factors[..., None, None]))
        return tf.matmul(a, d, transpose_a=True), tf.reduce_sum(d, -2)


def _axes(values: Any, count: int) -> list[Any]:
    """The first axes of a tensor, as numbers where they are known before the batch is."""
    return [values.shape[i] if values.shape[i] is not None else tf.shape(values)[i] for i in range(count)]


def form_of(a: Any, d: Any, lead: int) -> OuterForm | ExplicitForm | GramForm:
    """The form of one layer's per-record gradients that needs no more memory than the rows themselves.

    Between the last two Bu et al. 2022 ("mixed ghost clipping") choose alike, by the memory that either adds.
    """
    if a.shape.rank == lead + 1:
        return OuterForm(a, d)
    rows, p, q = a.shape[-2], a.shape[-1], d.shape[-1]
    return ExplicitForm(a, d) if p * q <= rows * (p + q) else GramForm(a, d)


def ghost_clipped_sums(loss: Any, sites: Sequence[Site], tape: Any, l2_norm_clip: Any) -> list[Any]:
    """Clipped sums of per-record gradients from one backward pass, kernels and biases of the sites in turn.

    The gradient of a layer for one record is a^T d, of its input rows a and its output gradients d, so norms and
    weighted sums follow from these two without a gradient per record (Goodfellow 2015; Bu et al. 2022, "book-keeping").
    A record whose gradient is not finite counts nothing. Memory is linear in the batch. loss: (n,), or (models, n)
    with the clip (models, 1) or one for all.
    """
    deltas = tape.gradient(loss, [s.z for s in sites])  # of a vector: the gradient of its sum
    if any(d is None for d in deltas):
        raise ValueError("a layer does not affect the loss: only noise would train it")
    lead = loss.shape.rank
    rows = [as_rows(s, d, lead) for s, d in zip(sites, deltas, strict=True)]
    forms = [form_of(a, d, lead) for a, d in rows]
    factors = clip_shares([s.network for s in sites], [form.square_norms() for form in forms], l2_norm_clip)

    def summed(forms: Sequence[Any]) -> list[Any]:
        pairs = zip(sites, [form.sums(f) for form, f in zip(forms, factors, strict=True)], strict=True)
        return [tf.reshape(v, w.shape) for s, both in pairs for v, w in zip(both, (s.kernel, s.bias), strict=True)]

    def tidied() -> list[Any]:
        cleaned = [[_zero_where_dropped(v, f) for v in pair] for pair, f in zip(rows, factors, strict=True)]
        return summed([form_of(a, d, lead) for a, d in cleaned])

    # A record is hardly ever dropped, and setting rows to zero costs as much as clipping.
    kept = tf.reduce_all([tf.reduce_all(f > 0) for f in factors])
    return list(tf.cond(kept, lambda: summed(forms), tidied))


def as_rows(s: Site, d: Any, lead: int) -> tuple[Any, Any]:
    """Input and output gradient of a layer, (…, n, features), or (…, n, rows, features) where it meets many rows."""
    a = s.unfold(s.a) if s.unfold else s.a
    if a.shape.rank == lead + 1:
        return a, d
    shape = [*_axes(a, lead), math.prod(a.shape[lead:-1])]
    return tf.reshape(a, [*shape, a.shape[-1]]), tf.reshape(d, [*shape, d.shape[-1]])


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


def vectorized_clipped_sums(
    gradients: Sequence[Any], l2_norm_clip: Any, stacked: bool = False, networks: Sequence[str] | None = None
) -> list[Any]:
    """The reference: clipped sums of whole per-record gradients (n, *variable), memory n times the model.

    Where models are stacked, variables have a leading model axis and each model is clipped separately. networks: the
    group that each variable is clipped with, by default one for all.
    """
    lead = 2 if stacked else 1
    clip = tf.reshape(l2_norm_clip, [-1]) if stacked else l2_norm_clip  # (models,) against (n, models)
    squares = [_square_of_record(g, lead) for g in gradients]
    factors = clip_shares(networks or ["whole"] * len(squares), squares, clip)
    letters = "nk" if stacked else "n"
    out = "k..." if stacked else "..."
    return [
        tf.einsum(f"{letters},{letters}...->{out}", f, _zero_where_dropped(g, f))
        for g, f in zip(gradients, factors, strict=True)
    ]
