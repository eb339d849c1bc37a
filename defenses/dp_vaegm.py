"""DP-VaeGM: one differentially private variational autoencoder a class (Chen et al. 2018, section 4.2)."""

from __future__ import annotations

import numpy as np

from bench import accounting, nets
from bench.classifier import classify, standard
from bench.data import Examples
from bench.errors import UserError
from bench.randomness import derive, stream
from bench.registry import defense
from bench.release import Release
from bench.training import Recipe, private_training, train


@defense(
    "dp_vaegm",
    publishes={"predict", "generate", "synthetic"},
    private=True,
    assumes=("the number of private records", "the set of labels", "features between 0 and 1"),
)
def dp_vaegm(
    private: Examples,
    public: Examples,
    *,
    seed: int,
    epsilon: float = 8.0,
    hidden: tuple[int, ...] = (64,),
    latent_dim: int = 8,
    activation: str = "tanh",
    steps: int = 100,
    rate: float = 0.5,
    learning_rate: float = 0.01,
    l2_norm_clip: float = 1.0,
    samples: int = 2000,
    classifier_steps: int = 600,
) -> Release:
    """One VAE a class, trained with DP-SGD; samples are balanced over classes, and the classifier sees samples only.

    The classes' records are disjoint, so under add/remove adjacency their guarantees compose in parallel. Sampling
    rate, steps and divisor are the same for every class and use no count of a class: such counts would be a query too.
    """
    if samples < 1:
        raise UserError(f"samples must be at least 1, not {samples}.")
    classes = private.classes
    parts = [np.flatnonzero(private.y == k) for k in range(classes)]
    net = nets.VAE(private.shape, hidden, latent_dim, activation)
    privacy = private_training(epsilon, len(private), rate, steps, l2_norm_clip)
    recipe = Recipe(net, steps, rate, max(1.0, rate * len(private) / classes), learning_rate, privacy=privacy)
    seeds = [derive(seed, "vae", k) for k in range(classes)]
    fits = train(recipe, [private[part] for part in parts], seeds, f"dp_vaegm: {classes} VAEs")
    decoders = [nets.mapping(nets.halves(net, fit.weights)[1], "sigmoid", private.shape) for fit in fits]

    def generate(n: int, seed: int) -> Examples:
        """n synthetic records, classes in turn; the picture of a record is the decoder's mean."""
        y = np.arange(n) % classes
        z = stream(seed, "latent").standard_normal((n, latent_dim), np.float32)
        x = np.empty((n, *private.shape), np.float32)
        for k, decode in enumerate(decoders):
            x[y == k] = decode(z[y == k])
        return Examples(x, y, classes)

    synthetic = generate(samples, derive(seed, "synthetic"))
    plain = standard(synthetic, steps=classifier_steps)
    trained = classify(synthetic, derive(seed, "classifier"), plain, "dp_vaegm: classifier")
    spent = accounting.parallel([fit.spent for fit in fits], parts)
    return Release(spent, predict=trained.predict, generate=generate, synthetic=synthetic)
