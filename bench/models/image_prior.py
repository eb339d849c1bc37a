"""A prior of pictures, learnt from the records of an adversary: a generator in which attacks search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples
from bench.core.randomness import stream
from bench.dp import networks, vae
from bench.dp.recipe import Recipe
from bench.dp.train import train
from bench.models.classifier import batch_rate

LATENT = 16
HIDDEN = (256,)


@dataclass(frozen=True, eq=False)
class Prior:
    """A generator: `model` maps standard normal numbers (n, latent) to logits of the flat pixels of pictures."""

    model: Any
    latent: int
    shape: tuple[int, ...]

    def sample(self, n: int, seed: int) -> NDArray[Any]:
        """n random pictures."""
        z = stream(seed, "prior").standard_normal((n, self.latent), np.float32)
        return networks.mapping(self.model, "sigmoid", self.shape)(z)


def prior(records: Examples, seed: int, *, steps: int = 2000, batch_size: int = 128) -> Prior:
    """A variational autoencoder of the adversary's `records` (Kingma and Welling 2014); its decoder is kept."""
    net = vae.VAE(records.shape, HIDDEN, LATENT, encoder=HIDDEN)
    rate = batch_rate(len(records), batch_size)
    recipe = Recipe(net, steps, rate, max(1.0, rate * len(records)), 2e-3, schedule="cosine")
    [fit] = train(recipe, [records], [seed], "prior of own records")
    return Prior(vae.decoder(net, fit.weights), LATENT, records.shape)
