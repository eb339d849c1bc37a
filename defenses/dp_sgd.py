"""DP-SGD on the classifier itself (Abadi et al. 2016): the usual way, and the rival of every generator."""

from __future__ import annotations

from bench.core.component import defense
from bench.core.dataset import Examples
from bench.core.release import Release
from bench.dp import networks
from bench.dp.layers import check_layers
from bench.dp.train import Recipe, private_training
from bench.models import scattering as fixed
from bench.models.classifier import batch_rate, classify


@defense(
    "dp_sgd",
    publishes={"predict", "model"},
    private=True,
    public_knowledge=("the number of private records", "the set of labels", "features between 0 and 1"),
)
def dp_sgd(
    private: Examples,
    public: Examples,
    *,
    seed: int,
    epsilon: float = 8.0,
    features: str = "auto",
    hidden: tuple[int, ...] = (64,),
    activation: str = "tanh",
    steps: int = 200,
    batch_size: int = 5000,
    learning_rate: float = 0.01,
    optimizer: str = "adam",
    momentum: float = 0.9,
    schedule: str = "constant",
    ema: float = 0.0,
    l2_norm_clip: float = 1.0,
    engine: str = "onepass",
) -> Release:
    """The classifier itself, trained with DP-SGD (epsilon=inf: plainly); of pictures a linear one on scattering.

    features: "scattering" (Tramèr and Boneh 2021), "none" for a dense network with `hidden` layers on the records as
    they are, or "auto": scattering for pictures that it fits. The features are fixed and of each record alone, so they
    cost nothing; the published model starts from the raw record.
    """
    check_layers(hidden, activation)
    scattered = fixed.chosen(features, private.shape)
    seen, layers = (fixed.scattered(private), ()) if scattered else (private, hidden)
    rate = batch_rate(len(private), batch_size)
    recipe = Recipe(
        networks.Classifier(seen.shape, seen.classes, layers, activation),
        steps,
        rate,
        max(1.0, rate * len(private)),
        learning_rate,
        optimizer=optimizer,
        momentum=momentum,
        schedule=schedule,
        ema=ema,
        privacy=private_training(epsilon, len(private), rate, steps, l2_norm_clip),
        engine=engine,
    )
    trained = classify(seen, seed, recipe, "dp_sgd: classifier")
    model = fixed.before(trained.model, private.shape) if scattered else trained.model
    return Release(trained.fit.dp_event, predict=networks.mapping(model, after="softmax"), model=model)
