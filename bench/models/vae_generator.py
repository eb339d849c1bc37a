"""What the defenses that release generators have in common: VAEs, decoders, and the classifier on synthetic records.

TensorFlow is imported inside the functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.images import augmented, is_picture
from bench.core.randomness import derive, stream
from bench.core.release import Release
from bench.dp import networks
from bench.dp.networks import Published
from bench.dp.vae import VAE
from bench.models.classifier import Classified, classify, standard

if TYPE_CHECKING:
    from dp_accounting import DpEvent

LEAST = 1000  # private records by which the effort of pictures is scaled
BATCH, OTHER_STEPS = 256, 300  # of a classifier; of records that are no pictures, which it soon over-fits
SEEN = 8  # cosines per side that the encoder of a picture sees
# Options that defenses have in common.
LATENT_DIM = Option("latent numbers of a record", at_least=1)
COSINES = Option("pictures are sums of so many by so many smooth cosines; 0 generates pixels", at_least=0)


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
    """A VAE of records of `shape`; of pictures with at most `cosines` cosines per side, 0 for plain pixels."""
    if cosines < 0:
        raise UserError(f"cosines must be 0 (plain pixels) or more, not {cosines}.")
    if not (cosines and is_picture(shape)):
        return VAE(shape, hidden, latent, activation, classes=classes)
    most = 3 * min(shape[:2]) // 4  # cosines of higher frequency show no shapes
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
    """The decoder of a generator, as published: latent numbers, then a one-hot label, to a record of `shape`."""
    from tensorflow import keras

    model = keras.Sequential([logits, keras.layers.Activation("sigmoid"), keras.layers.Reshape(shape)])
    return Published(model, networks.mapping(model), labels=classes)


def generator(decode: Published, shares: NDArray[Any]) -> Callable[[int, int], Examples]:
    """A sampler of a decoder: (n, seed) -> n synthetic records, of each class its share, (classes,).

    Labels are not random but interleaved (see `interleaved_labels`); a record is the mean of the decoder.
    """
    classes = decode.labels
    latent = decode.model.input_shape[-1] - classes

    def generate(n: int, seed: int) -> Examples:
        y = interleaved_labels(shares, n)
        z = stream(seed, "latent").standard_normal((n, latent), np.float32)
        return Examples(decode(np.concatenate([z, np.eye(classes, dtype=np.float32)[y]], axis=1)), y, classes)

    return generate


def interleaved_labels(shares: NDArray[Any], n: int) -> NDArray[np.int64]:
    """n labels of which any first ones hold each class according to its share: equal shares alternate.

    The k-th record of a class (from 0) is due at (k + 1/2) / share.
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


@dataclass(frozen=True)
class Effort:
    """How much a classifier is trained: distinct synthetic records, steps, expected batch and learning rate."""

    samples: int
    steps: int
    batch_size: int
    learning_rate: float


def effort(n: int, shape: tuple[int, ...], samples: int = 0, steps: int = 0) -> Effort:
    """The effort for a generator of n private records of `shape`; samples, steps: 0 for those of the rule.

    Of pictures 1,250 sqrt(n) samples, at most 120,000, because a generator tells no more than its records taught it and
    its samples soon repeat one another; 20 cbrt(n * pixels) steps, at most 4,000, because they average over what the
    augmentation does to each pixel. On digits (1,000 records) accuracy is 0.896 where 120,000 samples and 8,000 steps
    of 128 reach 0.902, with intervals of 0.02; on MNIST (3,000 records) both reach 0.89. Fewer than 1,000 records count
    as 1,000: of 300 digits (five seeds, standard error 0.013) 21,651 samples and 536 steps reach 0.760, 40,000 and 800
    reach 0.785, 120,000 and 4,000 reach 0.795. Other records are not augmented and soon over-fitted: a classifier sees
    as many as 300 steps take, each about once.
    """
    if not is_picture(shape):
        steps = steps or OTHER_STEPS
        return Effort(samples or steps * BATCH // 2, steps, BATCH // 2, 2e-3)
    n = max(n, LEAST)
    samples = samples or min(round(1250 * math.sqrt(n)), 120_000)
    return Effort(samples, steps or min(round(20 * math.cbrt(n * math.prod(shape[:2]))), 4000), BATCH, 1e-2)


def downstream(
    generate: Callable[[int, int], Examples],
    public: Examples,
    seed: int,
    effort: Effort,
    *,
    shift: int,
    noise: float,
    what: str,
) -> Classified:
    """The classifier that everybody can train on synthetic records: dense, on augmented samples.

    Public records tell which features are drawn as 0 or 1 (see `binary_features`).
    """
    made = generate(effort.samples, derive(seed, "downstream"))
    made = augmented(made, stream(seed, "rough"), shift=shift, noise=noise, binary=binary_features(public))
    plain = standard(made, steps=effort.steps, batch_size=effort.batch_size, learning_rate=effort.learning_rate)
    recipe = replace(plain, schedule="cosine")
    return classify(made, derive(seed, "classifier"), recipe, what)


@dataclass(frozen=True)
class Synthesis:
    """The options of what a defense makes of its generator: synthetic records, and a classifier of such records."""

    samples: Annotated[int, Option("synthetic records that are published", at_least=1)] = 2000
    classifier_steps: Annotated[
        int,
        Option(
            "training steps of the classifier; 0: of pictures up to 4,000, with the number of private records and "
            "pixels, of other records 300",
            at_least=0,
        ),
    ] = 0
    classifier_samples: Annotated[
        int,
        Option(
            "synthetic records that the classifier sees; 0: of pictures up to 120,000, with the number of private "
            "records, of other records as many as its steps take",
            at_least=0,
        ),
    ] = 0
    shift: Annotated[int, Option("its pictures are moved by up to so many pixels of 28", at_least=0)] = 2
    pixel_noise: Annotated[
        float, Option("largest standard deviation of the noise on its pictures", at_least=0, below=math.inf)
    ] = 0.4

    def __post_init__(self) -> None:
        check_samples(self.samples)
        counts = (self.classifier_steps, self.classifier_samples, self.shift)
        if min(counts) < 0 or not 0 <= self.pixel_noise < math.inf:
            given = f"{', '.join(map(str, counts))} and {self.pixel_noise:g}"
            names = "classifier_steps, classifier_samples, shift and pixel_noise"
            raise UserError(f"{names} must be numbers from 0, not {given}.")

    def release(
        self, dp_event: DpEvent, decode: Published, shares: NDArray[Any], public: Examples, seed: int, name: str, n: int
    ) -> Release:
        """Everything that follows from a decoder and the shares of the classes (classes,).

        name: the defense's. n: the number of private records, which it takes for public.
        """
        generate = generator(decode, shares)
        trained = downstream(
            generate,
            public,
            seed,
            effort(n, public.shape, self.classifier_samples, self.classifier_steps),
            shift=self.shift,
            noise=self.pixel_noise,
            what=f"{name}: classifier",
        )
        synthetic = generate(self.samples, derive(seed, "synthetic"))
        return Release(dp_event, predict=trained.predict, decode=decode, generate=generate, synthetic=synthetic)
