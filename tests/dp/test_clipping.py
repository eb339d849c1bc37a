"""Ghost clipping, the reference and a loop over records agree; one record moves a sum by the clip at most."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from clipped_batches import (
    CLIP,
    NETS,
    ORDINARY,
    batch,
    distance,
    flat,
    release_batches,  # noqa: F401 - an autouse fixture
)
from tensorflow_privacy import VectorizedDPKerasSGDOptimizer

from bench.dp import clipping, networks, vae
from bench.dp.clipping import _square, ghost_clipped_sums, per_record_gradients, private_layers, vectorized_clipped_sums
from bench.dp.networks import Net
from bench.dp.vae import VAE


def nets(*quick: str) -> pytest.MarkDecorator:
    """Every network; all but the `quick` ones are marked slow."""
    names = [pytest.param(name, marks=[] if name in quick else [pytest.mark.slow]) for name in NETS]
    return pytest.mark.parametrize("name", names)


def single_and_stacked(models: int, quick: int) -> pytest.MarkDecorator:
    """One model and several of them; the one of `quick` models is not marked slow."""
    sizes = [
        pytest.param(size, id=kind, marks=[] if size == quick else [pytest.mark.slow])
        for size, kind in ((1, "single"), (models, "stacked"))
    ]
    return pytest.mark.parametrize("models", sizes)


def test_the_tested_networks_include_every_shipped_network_and_form() -> None:
    named = [*vars(networks).values(), *vars(vae).values()]
    shipped = {kind for kind in named if isinstance(kind, type) and issubclass(kind, Net)} - {Net}
    assert VAE in shipped
    assert shipped <= {type(net) for net in NETS.values()}
    forms = set()
    for name in NETS:
        _, sites, _ = batch(name, 1).run([0])
        forms |= {type(clipping.form_of(*clipping.as_rows(s, s.z, 1), 1)) for s in sites}
    assert forms == {clipping.OuterForm, clipping.ExplicitForm, clipping.GramForm}


@nets("vae of cosines", "tutorial")
@single_and_stacked(3, quick=3)
@pytest.mark.parametrize("apart", [False, True], ids=["jointly", "by network"])
def test_ghost_clipping_matches_the_reference_and_a_loop_over_records(name: str, models: int, apart: bool) -> None:
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
def test_a_hundred_random_batches_of_ordinary_and_extreme_records(name: str, models: int) -> None:
    """Compares with the reference, traced once; the test above compares the reference with the loop over records."""
    made = batch(name, models)
    rng = np.random.default_rng(3)
    axis = len(made.lead)

    @tf.function
    def both(x: Any, y: Any, noise: Any) -> Any:
        losses, sites, tape = made.run_on(x, y, noise)
        front = [tf.transpose(v, [axis, *range(axis), *range(axis + 1, v.shape.rank)]) for v in (x, y, noise)]
        gradients = per_record_gradients(made.summed_loss, tuple(front), made.variables)
        known = vectorized_clipped_sums(gradients, CLIP, models > 1)
        return ghost_clipped_sums(losses, sites, tape, CLIP), known

    worst = 0.0
    for _ in range(100):
        rows = rng.integers(0, made.n, 8)  # duplicates, and more extreme rows than ordinary ones
        x, y, noise = made.select(rows)
        scale = tf.constant(rng.random(x.shape), tf.float32)
        found, known = both(x * scale, y, noise)
        if np.linalg.norm(flat(known)) > 0:
            worst = max(worst, distance(found, known))
    assert 0 < worst <= 1e-5


@nets("vae")
def test_ordinary_records_are_summed_as_by_tensorflow_privacy(name: str) -> None:
    made = batch(name, 1, extreme=False)
    losses, _, tape = made.run(range(made.n))
    reference = VectorizedDPKerasSGDOptimizer(l2_norm_clip=CLIP, noise_multiplier=0.0, learning_rate=1.0)
    known = [g * made.n for g, _ in reference._compute_gradients(losses, made.variables, tape=tape)]
    assert distance(made.onepass(range(made.n)), known) <= 1e-5
    assert distance(made.vectorized(range(made.n)), known) <= 1e-5


@nets("vae")
@single_and_stacked(3, quick=3)
@pytest.mark.parametrize("apart", [False, True], ids=["jointly", "by network"])
@pytest.mark.parametrize("engine", ["onepass", "vectorized"])
def test_one_record_changes_a_sum_by_at_most_the_clip(name: str, models: int, engine: str, apart: bool) -> None:
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
    # The bound is attained: sums of zero do not pass. The gradient of a small network may stay below its share.
    assert reached > (0.5 if apart else 0.99) * CLIP


def test_the_unclipped_layers_of_a_gan_are_those_of_the_generator() -> None:
    made = batch("gan", 1)
    assert set(made.networks) == {"discriminator"}
    unclipped = [layer for layer in made.model.layers if layer.trainable_weights and layer not in made.layers]
    assert {layer.network for layer in unclipped} == {"generator"}
    assert private_layers(made.model) == made.layers


def _reversed_kernel(patch: pytest.MonkeyPatch) -> None:
    real = clipping.OuterForm.sums

    def sums(self: Any, factors: Any) -> Any:
        kernel, bias = real(self, factors)
        return tf.reverse(kernel, [-1]), bias

    patch.setattr(clipping.OuterForm, "sums", sums)


def _no_bias(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        clipping.OuterForm, "square_norms", lambda self: tf.cast(_square(self.d) * _square(self.a), tf.float64)
    )


def _positions(patch: pytest.MonkeyPatch) -> None:
    """Treats each position of a convolution as a separate record."""

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
    [
        ("classifier", _reversed_kernel),
        ("classifier", _no_bias),
        ("convolutions", _positions),
        ("autoencoder", _batch_mean),
    ],
)
def test_the_loop_over_records_detects_wrong_sums(name: str, mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = batch(name, 1, extreme=False)
    known = made.naive(range(made.n))
    mutant(monkeypatch)
    assert distance(made.onepass(range(made.n)), known) > 1e-3
