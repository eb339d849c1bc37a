"""DP-MERF: a generator matched to one noisy mean embedding of each class (Harder, Adamczewski and Park 2021)."""

from __future__ import annotations

from bench.core.component import defense
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.images import is_picture
from bench.core.randomness import derive
from bench.core.release import Release
from bench.dp.train import Recipe, train
from bench.models.mean_embedding import BANDWIDTH, Kernel, Matched, embedding_recipe, median_distance, rows
from bench.models.vae_generator import binary_features, check_samples, decoder, downstream, generator, vae


@defense(
    "dp_merf",
    publishes={"predict", "decode", "generate", "synthetic"},
    private=True,
    public_knowledge=(
        "the number of private records",
        "the set of labels",
        "features between 0 and 1",
        "pictures are smooth",
    ),
)
def dp_merf(
    private: Examples,
    public: Examples,
    *,
    seed: int,
    epsilon: float = 8.0,
    frequencies: int = 1000,
    bandwidth: float = 0.0,
    hidden: tuple[int, ...] = (128,),
    latent_dim: int = 6,
    activation: str = "relu",
    cosines: int = 10,
    steps: int = 500,
    drawn: int = 300,
    learning_rate: float = 0.01,
    samples: int = 2000,
    classifier_steps: int = 0,
    classifier_samples: int = 120000,
    shift: int = 2,
    pixel_noise: float = 0.4,
) -> Release:
    """Noisy sums of random features by class, released once, and a generator whose records have the same ones.

    frequencies: of the kernel's random features; bandwidth: in median distances of public records, 0 for a half of
    pictures and one of others. A step of training draws `drawn` records, as many of each class. How many private
    records a class has is released with the sums, under the same noise, and synthetic labels keep to that. Other
    options are those of dp_vaegm.
    """
    check_samples(samples)
    classes = private.classes
    if drawn < 2 * classes:
        raise UserError(f"drawn must be at least 2 for each of {classes} classes, not {drawn}.")
    net = vae(private.shape, hidden, latent_dim, activation, cosines=cosines, decay=0.0, classes=classes)
    scale = (bandwidth or BANDWIDTH[is_picture(private.shape)]) * median_distance(public.x, private.shape, net.cosines)
    kernel = Kernel(private.shape, frequencies, scale, net.cosines)
    adding = embedding_recipe(kernel, classes, len(private), epsilon)
    [fit] = train(adding, [private], [derive(seed, "embedding")], "dp_merf: embedding")
    wanted, shares = rows(fit.weights)
    matched = Matched(wanted.shape, kernel, net, drawn // classes, binary_features(public))
    matching = Recipe(matched, steps, 1.0, 1.0, learning_rate, schedule="linear")
    [made] = train(matching, [wanted], [derive(seed, "generator")], "dp_merf: generator")
    decode = decoder(matched.generator(made.weights), private.shape, classes)
    generate = generator(decode, shares)
    trained = downstream(
        generate,
        public,
        seed,
        samples=classifier_samples,
        steps=classifier_steps,
        shift=shift,
        noise=pixel_noise,
        what="dp_merf: classifier",
    )
    synthetic = generate(samples, derive(seed, "synthetic"))
    return Release(fit.dp_event, predict=trained.predict, decode=decode, generate=generate, synthetic=synthetic)
