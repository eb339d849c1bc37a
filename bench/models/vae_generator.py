"""What the defenses that release generators have in common: their VAEs, decoders, and the classifier on what they make.

TensorFlow is imported inside the functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.images import augmented, is_picture
from bench.core.randomness import derive, stream
from bench.dp import networks
from bench.dp.networks import VAE, Published
from bench.models.classifier import Classified, classify, standard

STEPS = {True: 8000, False: 300}  # of a classifier of pictures, and of other records, which it soon over-fits
SEEN = 8  # waves a side that the encoder of a picture looks at


def vae(
    shape: tuple[int, ...],
    hidden: tuple[int, ...],
    latent: int,
    activation: str,
    *,
    cosines: int,
    decay: float,
    classes: int = 0,
) -> VAE:
    """A VAE of records of `shape`; of pictures with at most `cosines` smooth waves a side, 0 for plain pixels."""
    if cosines < 0:
        raise UserError(f"cosines must be 0 (plain pixels) or more, not {cosines}.")
    if not (cosines and is_picture(shape)):
        return VAE(shape, hidden, latent, activation, classes=classes)
    most = 3 * min(shape[:2]) // 4  # shorter waves than these are no shapes any more
    return VAE(
        shape,
        hidden,
        latent,
        activation,
        classes=classes,
        cosines=min(cosines, most),
        seen=min(SEEN, most),
        decay=decay,
    )


def decoder(logits: Any, shape: tuple[int, ...], classes: int) -> Published:
    """A generator's decoder, let out whole: latent numbers, then a one-hot label, to a record of `shape` in (0, 1)."""
    from tensorflow import keras

    model = keras.Sequential([logits, keras.layers.Activation("sigmoid"), keras.layers.Reshape(shape)])
    return Published(model, networks.mapping(model), labels=classes)


def generator(decode: Published, shares: NDArray[Any]) -> Callable[[int, int], Examples]:
    """What draws codes for a decoder: (n, seed) -> n synthetic records, of each class its share, (classes,).

    Labels are not drawn but take turns (see `turns`), and the picture of a record is the decoder's mean.
    """
    classes = decode.labels
    latent = decode.model.input_shape[-1] - classes

    def generate(n: int, seed: int) -> Examples:
        y = turns(shares, n)
        z = stream(seed, "latent").standard_normal((n, latent), np.float32)
        return Examples(decode(np.concatenate([z, np.eye(classes, dtype=np.float32)[y]], axis=1)), y, classes)

    return generate


def turns(shares: NDArray[Any], n: int) -> NDArray[np.int64]:
    """n labels of which any first ones hold each class according to its share: equal shares take turns.

    The one that is due next comes next: the k-th record of a class (from 0) at (k + 1/2) / share.
    """
    counts = np.ceil(n * shares).astype(np.int64) + 1
    y = np.repeat(np.arange(len(shares)), counts)
    nth = np.concatenate([np.arange(count) for count in counts])
    due = (nth + 0.5) / np.maximum(shares, 1e-9)[y]
    return y[np.argsort(due, kind="stable")][:n]


def public_shares(public: Examples) -> NDArray[Any]:
    """The share of each class (classes,) among public records, one more of each, which tells nothing private."""
    counts = np.bincount(public.y, minlength=public.classes) + 1
    return np.asarray(counts / counts.sum())


def binary_features(public: Examples) -> tuple[int, ...]:
    """The features of flat records that are nothing but 0 and 1 in all public ones; none of pictures."""
    if len(public.shape) != 1:
        return ()
    return tuple(np.flatnonzero(((public.x == 0) | (public.x == 1)).all(0)).tolist())


def check_samples(samples: int) -> None:
    """Raise UserError where no synthetic record at all would be made."""
    if samples < 1:
        raise UserError(f"samples must be at least 1, not {samples}.")


def downstream(
    generate: Callable[[int, int], Examples],
    public: Examples,
    seed: int,
    *,
    samples: int,
    steps: int,
    shift: int,
    noise: float,
    what: str,
) -> Classified:
    """The classifier that everybody can train on synthetic records: dense, on augmented `samples`.

    steps: 0 for those of `STEPS`. Public records tell which features are drawn as 0 or 1 (see `binary_features`).
    """
    if samples < 1:
        raise UserError(f"classifier_samples must be at least 1, not {samples}.")
    if not (shift >= 0 and 0 <= noise < float("inf")):
        raise UserError(f"shift and pixel_noise must be numbers from 0, not {shift} and {noise:g}.")
    made = generate(samples, derive(seed, "downstream"))
    made = augmented(made, stream(seed, "rough"), shift=shift, noise=noise, binary=binary_features(public))
    steps = steps or STEPS[is_picture(made.shape)]
    recipe = replace(standard(made, steps=steps, learning_rate=2e-3), schedule="cosine")
    return classify(made, derive(seed, "classifier"), recipe, what)
