"""Clipped sums: one pass, the reference and a loop over records agree, and a record moves a sum by at most the clip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras
from tensorflow_privacy import VectorizedDPKerasSGDOptimizer

from bench.dp import clipping, networks, vae
from bench.dp.clipping import (
    Site,
    _square,
    ghost_clipped_sums,
    ghost_layers,
    per_record_gradients,
    private_layers,
    site,
    vectorized_clipped_sums,
)
from bench.dp.layers import Single, Stacked
from bench.dp.networks import GAN, Autoencoder, Classifier, Net
from bench.dp.vae import VAE

CLIP = 0.7
ORDINARY = 5
EXTREME = {"zero": 0.0, "hundred": 100.0, "huge": 1e6, "1e19": 1e19, "1e30": 1e30, "nan": np.nan, "inf": np.inf}


@dataclass(frozen=True)
class Tutorial(Classifier):
    """The small convolutional network of TensorFlow Privacy's tutorial: unpadded convolutions and pooling too."""

    def connect(self, layers: Any, x: Any, draw: Any, label: Any) -> list[Any]:
        h = layers.pool(layers.conv(x, 4, 3, 1, "same", "tanh"), 2, 1)
        h = layers.pool(layers.conv(h, 3, 2, 2, "valid", "tanh"), 2, 1)
        return [layers.dense(layers.flatten(h), self.classes)]


NETS: dict[str, Net] = {
    "classifier": Classifier((6,), 3, (5,)),
    "deep classifier": Classifier((3, 2), 4, (5, 4), "tanh"),
    "tempered classifier": Classifier((6,), 3, (5,), "tempered_sigmoid"),
    "linear classifier": Classifier((6,), 3, ()),
    "convolutions": Classifier((6, 6, 2), 3, (4,), "tanh", (3, 8)),
    "tutorial": Tutorial((5, 5, 1), 3),
    "autoencoder": Autoencoder((6,), (5,), 3),
    "vae": VAE((6,), (5,), 2, kl_weight=2.0),
    "conditional vae": VAE((6,), (5,), 2, classes=3),
    "vae of cosines": VAE((8, 8, 2), (5,), 2, classes=3, encoder=(4,), cosines=3, seen=2, decay=0.5),
    "gan": GAN((6,), (5,), 2, "tanh"),
}


class Batch:
    """A network, records and their labels and draws; `rows` chooses records and runs the network on them."""

    def __init__(self, net: Net, models: int, *, extreme: bool = True) -> None:
        rng = np.random.default_rng(7)
        lead = (models,) if models > 1 else ()
        features = int(np.prod(net.shape))
        x = rng.random((*lead, ORDINARY, features)).astype(np.float32)
        rows = [x, x[..., :1, :]]  # a duplicate
        if extreme:
            for value in EXTREME.values():
                row = rng.random((*lead, 1, features)).astype(np.float32)
                row[..., ::2] = value
                rows.append(row)
        x = np.concatenate(rows, -2)
        self.n = x.shape[-2]
        self.net, self.models, self.lead = net, models, lead
        self.x = x.reshape(*lead, self.n, *net.shape)
        self.y = rng.integers(0, 3, (*lead, self.n))
        self.draw = rng.standard_normal((*lead, self.n, net.noise_inputs)).astype(np.float32)
        keras.utils.set_random_seed(5)
        self.model = networks.build(net, Stacked(models) if models > 1 else Single())
        self.model.set_weights([w + 0.1 * rng.standard_normal(w.shape) for w in self.model.get_weights()])
        self.layers = ghost_layers(self.model)
        seen = [*self.model.outputs, *(h.input for h in self.layers), *(h.output for h in self.layers)]
        self.view = keras.Model(self.model.inputs, seen)
        self.variables = [v for layer in self.layers for v in layer.trainable_weights]
        self.networks = [layer.network for layer in self.layers for _ in layer.trainable_weights]

    def pick(self, rows: Any) -> list[Any]:
        return [tf.constant(np.take(v, rows, len(self.lead))) for v in (self.x, self.y, self.draw)]

    def losses(self, model: Any, x: Any, y: Any, draw: Any) -> tuple[Any, list[Any]]:
        inputs = [x, *([draw] if self.net.noise_inputs else []), *([tf.one_hot(y, 3)] if self.net.labels else [])]
        out = tf.nest.flatten(model(inputs, training=True))
        first = len(self.model.outputs)
        return self.net.loss(out[:first], x, y), out[first:]

    def run(self, rows: Any, apart: bool = False) -> tuple[Any, list[Site], Any]:
        """Per-record losses, the sites of the layers and the tape that saw them."""
        return self._run(*self.pick(rows), apart)

    def _run(self, x: Any, y: Any, draw: Any, apart: bool = False) -> tuple[Any, list[Site], Any]:
        with tf.GradientTape(persistent=True) as tape:
            losses, seen = self.losses(self.view, x, y, draw)
        pairs = zip(self.layers, seen[: len(self.layers)], seen[len(self.layers) :], strict=True)
        return losses, [site(layer, a, z, apart=apart) for layer, a, z in pairs], tape

    def onepass(self, rows: Any, clip: Any = CLIP, apart: bool = False) -> list[np.ndarray[Any, Any]]:
        losses, sites, tape = self.run(rows, apart)
        return [s.numpy() for s in ghost_clipped_sums(losses, sites, tape, clip)]

    def one(self, record: Any) -> Any:
        x, y, draw = (tf.expand_dims(t, len(self.lead)) for t in record)
        return tf.reduce_sum(self.losses(self.model, x, y, draw)[0])

    def vectorized(self, rows: Any, clip: Any = CLIP, apart: bool = False) -> list[np.ndarray[Any, Any]]:
        axis = len(self.lead)
        pick = tuple(tf.constant(np.moveaxis(v.numpy(), axis, 0)) for v in self.pick(rows))
        found = per_record_gradients(self.one, pick, self.variables)
        sums = vectorized_clipped_sums(found, clip, self.models > 1, self.networks if apart else None)
        return [s.numpy() for s in sums]

    def naive(self, rows: Any, clip: Any = CLIP, apart: bool = False) -> list[np.ndarray[Any, Any]]:
        """One record of one model at a time, clipped in float64."""
        sums = [np.zeros(v.shape) for v in self.variables]
        clips = np.broadcast_to(np.ravel(clip), self.models)
        for i in rows:
            losses, _, tape = self.run([i])
            for model in range(self.models):
                with tape:
                    one = tf.reshape(losses, [-1])[model]
                grads = [np.float64(g.numpy()) for g in tape.gradient(one, self.variables)]
                names = self.networks if apart else ["whole"] * len(grads)
                share = clips[model] / len(set(names)) ** 0.5
                for name in set(names):
                    mine = [k for k, network in enumerate(names) if network == name]
                    with np.errstate(over="ignore", invalid="ignore"):
                        square = sum((grads[k] ** 2).sum() for k in mine)
                        if np.isfinite(np.float32(square)):
                            for k in mine:
                                sums[k] += grads[k] * min(1, share / max(np.sqrt(square), 1e-300))
        return sums


@cache
def batch(name: str, models: int, extreme: bool = True) -> Batch:
    return Batch(NETS[name], models, extreme=extreme)


@pytest.fixture(scope="module", autouse=True)
def _let_go() -> Iterator[None]:
    """TensorFlow complains of functions that outlive it."""
    yield
    batch.cache_clear()


def flat(sums: Any, model: int | None = None) -> np.ndarray[Any, Any]:
    return np.concatenate([np.ravel(s if model is None else s[model]) for s in sums])


def distance(found: Any, known: Any) -> float:
    return float(np.linalg.norm(flat(found) - flat(known)) / np.linalg.norm(flat(known)))


def nets(*quick: str) -> pytest.MarkDecorator:
    """Every network; all but the `quick` ones are marked slow."""
    names = [pytest.param(name, marks=[] if name in quick else [pytest.mark.slow]) for name in NETS]
    return pytest.mark.parametrize("name", names)


def single_and_stacked(models: int, quick: int) -> pytest.MarkDecorator:
    """One model and several of them; `quick` says which is not marked slow."""
    sizes = [
        pytest.param(size, id=kind, marks=[] if size == quick else [pytest.mark.slow])
        for size, kind in ((1, "single"), (models, "stacked"))
    ]
    return pytest.mark.parametrize("models", sizes)


def test_every_shipped_network_and_every_form_is_among_them() -> None:
    named = [*vars(networks).values(), *vars(vae).values()]
    shipped = {kind for kind in named if isinstance(kind, type) and issubclass(kind, Net)} - {Net}
    assert VAE in shipped
    assert shipped <= {type(net) for net in NETS.values()}
    forms = set()
    for name in NETS:
        _, sites, _ = batch(name, 1).run([0])
        forms |= {type(clipping.form_of(*clipping.as_rows(s, s.z, 1), 1)) for s in sites}
    assert forms == {clipping.OuterForm, clipping.ExplicitForm, clipping.GramForm}


# --- the sums ---


@nets("vae of cosines", "tutorial")
@single_and_stacked(3, quick=3)
@pytest.mark.parametrize("apart", [False, True], ids=["together", "by network"])
def test_ghost_clipping_is_the_reference_is_record_by_record(name: str, models: int, apart: bool) -> None:
    made = batch(name, models)
    if apart and len(set(made.networks)) < 2:
        pytest.skip("one network only")
    rows = range(made.n)
    clip = np.float32([[0.7], [0.2], [1.3]]) if models > 1 else CLIP
    known = made.naive(rows, clip, apart)
    assert np.linalg.norm(flat(known)) > CLIP
    assert distance(made.onepass(rows, clip, apart), known) <= 1e-5
    assert distance(made.vectorized(rows, clip, apart), known) <= 1e-5


@nets("vae")
@single_and_stacked(2, quick=2)
def test_a_hundred_random_batches_with_rows_of_every_kind(name: str, models: int) -> None:
    """Against the reference, traced once; the loop over records checks that one above."""
    made = batch(name, models)
    rng = np.random.default_rng(3)
    axis = len(made.lead)

    @tf.function
    def both(x: Any, y: Any, draw: Any) -> Any:
        losses, sites, tape = made._run(x, y, draw)
        front = [tf.transpose(v, [axis, *range(axis), *range(axis + 1, v.shape.rank)]) for v in (x, y, draw)]
        known = vectorized_clipped_sums(per_record_gradients(made.one, tuple(front), made.variables), CLIP, models > 1)
        return ghost_clipped_sums(losses, sites, tape, CLIP), known

    worst = 0.0
    for _ in range(100):
        rows = rng.integers(0, made.n, 8)  # duplicates, and more extreme rows than ordinary ones
        x, y, draw = made.pick(rows)
        noise = tf.constant(rng.random(x.shape), tf.float32)
        found, known = both(x * noise, y, draw)
        if np.linalg.norm(flat(known)) > 0:
            worst = max(worst, distance(found, known))
    assert 0 < worst <= 1e-5


@nets("vae")
def test_ordinary_rows_are_summed_as_tensorflow_privacy_does(name: str) -> None:
    made = batch(name, 1, extreme=False)
    losses, _, tape = made.run(range(made.n))
    theirs = VectorizedDPKerasSGDOptimizer(l2_norm_clip=CLIP, noise_multiplier=0.0, learning_rate=1.0)
    known = [g * made.n for g, _ in theirs._compute_gradients(losses, made.variables, tape=tape)]
    assert distance(made.onepass(range(made.n)), known) <= 1e-5
    assert distance(made.vectorized(range(made.n)), known) <= 1e-5


@nets("vae")
@single_and_stacked(3, quick=3)
@pytest.mark.parametrize("apart", [False, True], ids=["together", "by network"])
@pytest.mark.parametrize("engine", ["onepass", "vectorized"])
def test_one_record_moves_a_model_by_at_most_the_clip(name: str, models: int, engine: str, apart: bool) -> None:
    made = batch(name, models)
    if apart and len(set(made.networks)) < 2:
        pytest.skip("one network only")

    def sums(rows: Any) -> Any:
        return getattr(made, engine)(rows, CLIP, apart)

    base = sums(range(ORDINARY))
    reached = 0.0
    for record in range(0 if engine == "onepass" and not apart else ORDINARY - 1, made.n):
        without = [i for i in range(ORDINARY) if i != record]
        other = sums(without if record < ORDINARY else [*range(ORDINARY), record])
        for model in range(models):
            moved = flat(base, model if models > 1 else None) - flat(other, model if models > 1 else None)
            assert np.linalg.norm(moved) <= CLIP * (1 + 1e-5)
            reached = max(reached, float(np.linalg.norm(moved)))
    # The bound is met, not just kept by sums of zero; a small part of a network may stay below its own share.
    assert reached > (0.5 if apart else 0.99) * CLIP


def test_the_unclipped_layers_of_a_gan_are_not_trained_on_records() -> None:
    made = batch("gan", 1)
    assert set(made.networks) == {"discriminator"}
    unclipped = [layer for layer in made.model.layers if layer.trainable_weights and layer not in made.layers]
    assert {layer.network for layer in unclipped} == {"generator"}
    assert private_layers(made.model) == made.layers


# --- what would go past the clip ---


def dense_site(a: Any, kernel: Any, bias: Any) -> Site:
    return Site(kernel, bias, a, tf.matmul(a, kernel) + bias)


def test_a_square_that_underflows_is_no_way_past_the_clip(monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert moved() > 1.5 * clip  # what squares in float32 let through


@pytest.mark.parametrize("exponent", range(-22, 23, 2))
def test_whatever_the_scale_a_record_moves_by_the_clip(exponent: int) -> None:
    """Input times 10^e, output gradient times 10^-e: squares of one underflow, of the other overflow."""
    rng = np.random.default_rng(exponent + 100)
    scale = 10.0**exponent
    kernel, bias = tf.Variable(tf.zeros([7, 9])), tf.Variable(tf.zeros([9]))
    with tf.GradientTape() as tape:
        made = dense_site(tf.constant(rng.normal(size=(1, 7)) * scale, tf.float32), kernel, bias)
        loss = tf.reduce_sum(made.z * tf.constant(rng.normal(size=9) / scale, tf.float32), -1)
    sums = ghost_clipped_sums(loss, [made], tape, 0.01)
    # Beyond 1e-18 the bias' own gradient, 10^-e, has a square that is not finite in float32: dropped, as documented.
    assert np.linalg.norm(flat(sums)) == pytest.approx(0.01 if exponent >= -18 else 0, rel=1e-5)


def test_rounding_where_rows_cancel_is_no_way_past_the_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows of a record whose products are one another's negative but for float32's rounding."""
    rng = np.random.default_rng(0)
    v, u = np.float32(rng.normal(size=(20, 400))), np.float32(rng.normal(size=(20, 300)))

    def moved() -> float:
        a = tf.constant(np.stack([v, np.nextafter(v, np.float32(9))], 1))
        d = tf.constant(np.stack([u, -u], 1))
        worst = 0.0
        for k in range(20):  # record by record, for the clip bounds each of them
            form = clipping.form_of(a[k : k + 1], d[k : k + 1], 1)
            assert isinstance(form, clipping.GramForm)
            factors = clipping.clip_factors(form.square_norms(), 1e-9)
            worst = max(worst, float(np.linalg.norm(form.sums(factors)[0])) / 1e-9)
        return worst

    assert moved() <= 1 + 1e-5
    monkeypatch.setattr(clipping, "ROUNDING", 0.0)
    assert moved() > 1.01


def test_one_record_that_is_not_finite_spoils_a_jacobian() -> None:
    made = batch("classifier", 1)
    rows = [0, 1, ORDINARY + 1 + list(EXTREME).index("nan")]
    losses, _, tape = made.run(rows)
    spoiled = tape.jacobian(losses, made.variables)[0]
    assert np.isnan(spoiled[0]).any()  # row of a healthy record: TensorFlow Privacy's way loses them all
    assert distance(made.vectorized(rows), made.naive([0, 1])) <= 1e-5
    assert distance(made.onepass(rows), made.naive([0, 1])) <= 1e-5


def test_a_layer_that_the_loss_never_sees_is_refused() -> None:
    made = batch("classifier", 1)
    with tf.GradientTape() as tape:
        loss = tf.zeros([2]) + tf.reduce_sum(made.variables[0])
    lonely = Site(made.variables[0], made.variables[1], tf.zeros([2, 6]), tf.zeros([2, 5]))
    with pytest.raises(ValueError, match="does not affect the loss"):
        ghost_clipped_sums(loss, [lonely], tape, CLIP)


class Tied(keras.layers.Dense):  # type: ignore[misc]
    """A dense layer whose kernel works twice."""

    def call(self, h: Any) -> Any:
        return tf.matmul(tf.matmul(h, self.kernel), self.kernel, transpose_b=True)


def layered(*layers: Any, shape: tuple[int, ...] = (4,)) -> Any:
    x = h = keras.Input(shape)
    for layer in layers:
        h = layer(h)
    return keras.Model(x, h)


def test_one_pass_names_what_it_does_not_know_and_offers_the_reference() -> None:
    twice = keras.layers.Dense(4, name="again")
    dense, conv = keras.layers.Dense, keras.layers.Conv2D

    def end() -> tuple[Any, Any]:
        return keras.layers.Flatten(), dense(2)

    unknown = {
        "again": layered(twice, twice),
        "words": layered(keras.layers.Embedding(9, 3, name="words"), keras.layers.Flatten(), dense(2)),
        "scale": layered(dense(3), keras.layers.LayerNormalization(name="scale")),
        "tied": layered(Tied(4, name="tied")),
        "bent": layered(dense(3, activation="relu", name="bent")),
        "unbiased": layered(dense(3, use_bias=False, name="unbiased")),
        "inner": layered(keras.Sequential([dense(3)], name="inner")),
        "grouped": layered(conv(2, 2, groups=2, name="grouped"), *end(), shape=(4, 4, 2)),
        "dilated": layered(conv(2, 2, dilation_rate=2, name="dilated"), *end(), shape=(4, 4, 1)),
        "curved": layered(conv(2, 2, activation="tanh", name="curved"), *end(), shape=(4, 4, 1)),
        "oblong": layered(conv(2, (2, 3), name="oblong"), *end(), shape=(4, 4, 1)),
        "deep": layered(keras.layers.DepthwiseConv2D(2, name="deep"), *end(), shape=(4, 4, 1)),
    }
    for name, model in unknown.items():
        with pytest.raises(ValueError, match=rf"'{name}'.*engine=vectorized"):
            ghost_layers(model)
    known = layered(conv(2, 2, name="conv"), dense(3), *end(), shape=(4, 4, 1))
    assert next(layer.name for layer in ghost_layers(known)) == "conv"


def test_dense_layers_on_sequences_are_clipped_over_all_their_rows() -> None:
    x = keras.Input((3, 4))
    model = keras.Model(x, keras.layers.Dense(2)(keras.layers.Dense(5)(x)))
    rows = tf.constant(np.random.default_rng(0).random((6, 3, 4)), tf.float32)
    view = keras.Model(x, [model.output, *(h.input for h in model.layers[1:]), *(h.output for h in model.layers[1:])])
    with tf.GradientTape(persistent=True) as tape:
        out, *seen = view(rows)
        loss = tf.reduce_sum(tf.square(out), [1, 2])
    sites = [site(h, a, z) for h, a, z in zip(ghost_layers(model), seen[:2], seen[2:], strict=True)]
    known = vectorized_clipped_sums(tape.jacobian(loss, model.trainable_variables), CLIP)
    assert distance(ghost_clipped_sums(loss, sites, tape, CLIP), known) <= 1e-5


# --- mutants: what the comparison with the reference must catch ---


def _swapped(patch: pytest.MonkeyPatch) -> None:
    real = clipping.OuterForm.sums

    def sums(self: Any, factors: Any) -> Any:
        kernel, bias = real(self, factors)
        return tf.reverse(kernel, [-1]), bias

    patch.setattr(clipping.OuterForm, "sums", sums)


def _no_bias(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        clipping.OuterForm, "square_norms", lambda self: tf.cast(_square(self.d) * _square(self.a), tf.float64)
    )


def _rows_apart(patch: pytest.MonkeyPatch) -> None:
    """A convolution's places taken for records of their own."""

    def square_norms(self: Any) -> Any:
        return tf.cast(tf.reduce_sum(_square(self.a) * _square(self.d), -1), tf.float64)

    patch.setattr(clipping.ExplicitForm, "square_norms", square_norms)


def _batch_mean(patch: pytest.MonkeyPatch) -> None:
    real = clipping.clip_factors

    def factors(square_norms: Any, clip: Any) -> Any:
        return real(tf.ones_like(square_norms) * tf.reduce_mean(square_norms), clip)

    patch.setattr(clipping, "clip_factors", factors)


@pytest.mark.parametrize(
    ("name", "mutant"),
    [("classifier", _swapped), ("classifier", _no_bias), ("convolutions", _rows_apart), ("autoencoder", _batch_mean)],
)
def test_wrong_gradients_and_norms_are_caught(name: str, mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = batch(name, 1, extreme=False)
    known = made.naive(range(made.n))
    mutant(monkeypatch)
    assert distance(made.onepass(range(made.n)), known) > 1e-3


def test_a_layer_used_twice_goes_past_the_clip_in_one_pass() -> None:
    """The mutant behind the refusal: 1.41 clips for one record when each use is clipped as a layer of its own."""
    kernel, bias = tf.Variable([[2.0]]), tf.Variable([0.0])
    x = tf.constant([[3.0]])
    with tf.GradientTape(persistent=True) as tape:
        first, second = dense_site(x, kernel, bias), dense_site(x, kernel, bias)
        loss = tf.reduce_sum(first.z + second.z, -1)
    sums = ghost_clipped_sums(loss, [first, second], tape, 1.0)
    kernels, biases = sums[0] + sums[2], sums[1] + sums[3]
    assert np.linalg.norm([float(kernels), float(biases)]) == pytest.approx(2**0.5, rel=1e-5)
    right = vectorized_clipped_sums(tape.jacobian(loss, [kernel, bias]), 1.0)
    assert np.linalg.norm(flat(right)) == pytest.approx(1.0, rel=1e-5)


def test_a_second_forward_pass_of_a_sampling_layer_is_caught() -> None:
    """Norms of one draw and sums of another: what two passes through a VAE do, and how far past the clip that goes."""
    made = batch("vae", 1, extreme=False)
    x, y, draw = made.pick([0])
    worst = 0.0
    for scale in (3.0, 10.0):
        losses, others, tape = made._run(x, y, scale * draw)
        right = ghost_clipped_sums(losses, others, tape, 0.01)
        assert np.linalg.norm(flat(right)) <= 0.01 * (1 + 1e-5)
        deltas = tape.gradient(losses, [s.z for s in others])
        first_losses, first_sites, first_tape = made._run(x, y, draw)
        first = first_tape.gradient(first_losses, [s.z for s in first_sites])
        forms = [clipping.form_of(s.a, d, 1) for s, d in zip(first_sites, first, strict=True)]
        factors = clipping.clip_factors(tf.add_n([f.square_norms() for f in forms]), 0.01)
        again = [clipping.form_of(s.a, d, 1).sums(factors) for s, d in zip(others, deltas, strict=True)]
        worst = max(worst, float(np.linalg.norm(flat([v for pair in again for v in pair]))) / 0.01)
    assert worst > 1.1
