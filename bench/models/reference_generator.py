"""A reference generator, trained by the attacker on public records, to which attacks are calibrated."""

from __future__ import annotations

from bench.core.dataset import Examples
from bench.core.randomness import derive
from bench.dp.networks import Published
from bench.dp.recipe import Recipe
from bench.dp.train import train
from bench.dp.vae import decoder as vae_decoder
from bench.models.classifier import batch_rate
from bench.models.vae_generator import decoder, vae


def reference_decoder(public: Examples, seed: int, *, steps: int = 400) -> Published:
    """The decoder of a class-conditional VAE that was trained plainly on public records (of the kind in dp_cvaegm).

    Attacks are calibrated by it (Chen et al. 2020, "GAN-Leaks"): a record that this generator reconstructs badly, too,
    is no less likely to be a member.
    """
    net = vae(public.shape, (128,), 6, "relu", cosines=10, decay=0.0, classes=public.classes)
    rate = batch_rate(len(public), 256)
    recipe = Recipe(net, steps, rate, max(1.0, rate * len(public)), 0.02, schedule="linear")
    [fit] = train(recipe, [public], [derive(seed, "reference")], "reference generator")
    return decoder(vae_decoder(net, fit.weights), public.shape, public.classes)
