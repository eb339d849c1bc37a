"""What the defenses that release generators have in common: their VAEs, decoders, and the classifier on what they make.

TensorFlow is imported inside the functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from bench import nets
from bench.classifier import Classified, classify, standard
from bench.data import Examples
from bench.errors import UserError
from bench.nets import VAE, Published
from bench.pictures import is_picture, roughened
from bench.randomness import derive, stream

SEEN = 8  # waves a side that the encoder of a picture looks at


def vae(
    shape: tuple[int, ...],
    hidden: tuple[int, ...],
    latent: int,
    activation: str,
    *,
    waves: int,
    decay: float,
    classes: int = 0,
) -> VAE:
    """A VAE of records of `shape`; of pictures with at most `waves` smooth waves a side, 0 for plain pixels."""
    if waves < 0:
        raise UserError(f"waves must be 0 (plain pixels) or more, not {waves}.")
    if not (waves and is_picture(shape)):
        return VAE(shape, hidden, latent, activation, classes=classes)
    most = 3 * min(shape[:2]) // 4  # shorter waves than these are no shapes any more
    return VAE(
        shape, hidden, latent, activation, classes=classes, waves=min(waves, most), seen=min(SEEN, most), decay=decay
    )


def decoder(logits: Any, shape: tuple[int, ...], classes: int) -> Published:
    """A generator's decoder, let out whole: latent numbers, then a one-hot label, to a record of `shape` in (0, 1)."""
    from tensorflow import keras

    model = keras.Sequential([logits, keras.layers.Activation("sigmoid"), keras.layers.Reshape(shape)])
    return Published(model, nets.mapping(model), labels=classes)


def generator(decode: Published) -> Callable[[int, int], Examples]:
    """What draws codes for a decoder: (n, seed) -> n synthetic records, classes in turn.

    The classes are balanced, not drawn, and the picture of a record is the decoder's mean.
    """
    classes = decode.labels
    latent = decode.model.input_shape[-1] - classes

    def generate(n: int, seed: int) -> Examples:
        y = np.arange(n) % classes
        z = stream(seed, "latent").standard_normal((n, latent), np.float32)
        return Examples(decode(np.concatenate([z, np.eye(classes, dtype=np.float32)[y]], axis=1)), y, classes)

    return generate


def check_samples(samples: int) -> None:
    """Raise UserError where no synthetic record at all would be made."""
    if samples < 1:
        raise UserError(f"samples must be at least 1, not {samples}.")


def downstream(
    generate: Callable[[int, int], Examples],
    seed: int,
    *,
    samples: int,
    steps: int,
    shift: int,
    noise: float,
    what: str,
) -> Classified:
    """The classifier that everybody can train on synthetic records: dense, on `samples` that were roughened."""
    if samples < 1:
        raise UserError(f"classifier_samples must be at least 1, not {samples}.")
    if not (shift >= 0 and 0 <= noise < float("inf")):
        raise UserError(f"shift and pixel_noise must be numbers from 0, not {shift} and {noise:g}.")
    made = roughened(generate(samples, derive(seed, "downstream")), stream(seed, "rough"), shift=shift, noise=noise)
    recipe = replace(standard(made, steps=steps, learning_rate=2e-3), schedule="cosine")
    return classify(made, derive(seed, "classifier"), recipe, what)
