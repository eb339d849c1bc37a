"""Training stays finite on extreme records, and refuses networks that would break the clip."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from trainings import HUGE_CLIP, SMALL_VAE, changed, examples, flat, one, recipe

from bench.dp.networks import Classifier
from bench.dp.train import train


@pytest.mark.parametrize(("engine", "optimizer"), [("onepass", "adam"), ("onepass", "sgd"), ("vectorized", "adam")])
def test_weights_stay_finite(engine: str, optimizer: str) -> None:
    part = examples(9)
    for row, value in enumerate([np.nan, np.inf, -np.inf, 1e30, -1e30, 3e38]):
        part = changed(part, row, value)
    made = recipe(SMALL_VAE, engine=engine, optimizer=optimizer, rate=0.9)
    for fit in train(made, [part, examples(0)], [1, 2]):
        assert np.isfinite(flat(fit)).all()


@pytest.mark.parametrize(("rate", "n"), [(1e-12, 20), (0.5, 0)])
def test_empty_batches_and_empty_data_sets_train(rate: float, n: int) -> None:
    [fit] = train(recipe(rate=rate), [examples(n)], [1])
    assert np.isfinite(flat(fit)).all()
    assert fit.steps == 4


def test_plain_training_that_diverges_is_an_error() -> None:
    with pytest.raises(FloatingPointError, match="smaller learning rate"):
        train(recipe(privacy=None), [changed(examples(), 3, np.nan)], [1], "a classifier")


@dataclass(frozen=True)
class DepthwiseClassifier(Classifier):
    """A small network with a layer that ghost clipping does not support."""

    def connect(self, layers: Any, x: Any, draw: Any, label: Any) -> list[Any]:
        from tensorflow import keras

        h = keras.layers.DepthwiseConv2D(2, activation="tanh", name="convolution")(x)
        return [layers.dense(layers.flatten(h), self.classes)]


@dataclass(frozen=True)
class ExtraLayer(Classifier):
    """A classifier with one more layer, or a reduced loss, as `extra` names."""

    extra: str = ""

    def connect(self, layers: Any, x: Any, draw: Any, label: Any) -> list[Any]:
        import tensorflow as tf
        from tensorflow import keras

        h = layers.dense(x, 5, "tanh")
        if self.extra == "norm":
            h = keras.layers.BatchNormalization()(h)
        if self.extra == "centred":
            h = keras.layers.Lambda(lambda t: t - tf.reduce_mean(t, 0))(h)
        if self.extra == "regularised":
            h = keras.layers.Dense(5, kernel_regularizer="l2")(h)
        if self.extra == "twice":
            again = keras.layers.Dense(5, name="again")
            h = again(again(h))
        return [layers.dense(h, self.classes)]

    def loss(self, outputs: list[Any], x: Any, y: Any) -> Any:
        import tensorflow as tf

        losses = super().loss(outputs, x, y)
        return tf.reduce_mean(losses) if self.extra == "reduced" else losses


@pytest.mark.parametrize("engine", ["onepass", "vectorized"])
@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ("norm", "batch means|batch_normalization"),
        ("centred", "mixes records"),
        ("regularised", "add_loss"),
        ("reduced", "one number per record"),
    ],
)
def test_networks_that_break_the_clip_are_refused(extra: str, why: str, engine: str) -> None:
    made = recipe(ExtraLayer((6,), 3, extra=extra), engine=engine)
    with pytest.raises(ValueError, match=why):
        train(made, [examples()], [1])


def test_layers_unsupported_by_ghost_clipping_train_with_the_vectorized_engine() -> None:
    net, part = DepthwiseClassifier((3, 3, 1), 3), examples(shape=(3, 3, 1))
    with pytest.raises(ValueError, match=r"'convolution'.*engine=vectorized"):
        train(recipe(net), [part], [1])
    with pytest.raises(ValueError, match=r"'again' is used twice.*engine=vectorized"):
        train(recipe(ExtraLayer((6,), 3, extra="twice")), [examples()], [1])
    plain = one(recipe(net, privacy=None), part)
    made = recipe(net, engine="vectorized", privacy=HUGE_CLIP)
    np.testing.assert_allclose(one(made, part), plain, rtol=0, atol=1e-5)
    twice = ExtraLayer((6,), 3, extra="twice")
    np.testing.assert_allclose(
        one(replace(made, net=twice), examples()), one(recipe(twice, privacy=None), examples()), rtol=0, atol=1e-5
    )
