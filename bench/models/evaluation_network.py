"""The evaluation network: classifies pictures that attacks find, and is trained on records that no attack has seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bench.core.dataset import Examples
from bench.core.images import is_picture, shifted
from bench.core.randomness import derive, stream
from bench.core.release import Map
from bench.dp import networks
from bench.models.classifier import classify, standard

MOST = 40000  # records that it is trained on, copies included
COPIES = 16
SHIFT, NOISE = 2, 0.4  # pixels of 28 that a copy is moved by, and the most noise that it gets


def evaluation_network(examples: Examples, seed: int, *, steps: int = 1000) -> Map:
    """Records (n, *shape) -> probabilities (n, classes), of a small convolutional network trained on `examples`.

    It sees copies of pictures too, moved and with noise of many strengths: one with the
    blind spots of other networks would agree with them on an inversion, and recognition would be no evidence.
    """
    seen = _varied(examples, stream(seed, "copies"))
    filters = (16, 32) if is_picture(examples.shape) else ()
    recipe = replace(standard(seen, steps=steps, learning_rate=2e-3), schedule="cosine")
    recipe = replace(recipe, net=networks.Classifier(seen.shape, seen.classes, (128,), filters=filters))
    return classify(seen, derive(seed, "network"), recipe, "evaluation network").predict


def _varied(examples: Examples, rng: np.random.Generator) -> Examples:
    """Pictures, and as many changed copies as are worth their memory; other records as they are."""
    if not is_picture(examples.shape):
        return examples
    copies = max(1, min(COPIES, MOST // len(examples) - 1))
    x = shifted(np.tile(examples.x, (copies, 1, 1, 1)), rng, SHIFT)
    x += rng.uniform(0, NOISE, (len(x), 1, 1, 1)).astype(np.float32) * rng.standard_normal(x.shape, np.float32)
    return Examples(np.concatenate([examples.x, x]), np.tile(examples.y, copies + 1), examples.classes)
