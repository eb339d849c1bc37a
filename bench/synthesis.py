"""What the defenses that release synthetic records have in common: their VAEs, and the classifier on what they make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bench.classifier import Classified, classify, standard
from bench.data import Examples
from bench.errors import UserError
from bench.nets import VAE
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
