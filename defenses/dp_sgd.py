"""DP-SGD on the classifier itself (Abadi et al. 2016), the baseline of every private generator."""

from __future__ import annotations

from typing import Annotated

from bench.core.component import defense
from bench.core.dataset import Examples
from bench.core.release import Release
from bench.dp import networks
from bench.dp.layers import ACTIVATION, HIDDEN, check_layers
from bench.dp.recipe import BATCH_SIZE, EPSILON, DPTraining
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
    epsilon: Annotated[float, EPSILON] = 8.0,
    features: Annotated[str, fixed.FEATURES] = "auto",
    hidden: Annotated[tuple[int, ...], HIDDEN] = (64,),
    activation: Annotated[str, ACTIVATION] = "tanh",
    batch_size: Annotated[int, BATCH_SIZE] = 5000,
    training: DPTraining = DPTraining(),  # noqa: B008 - a group of options
) -> Release:
    """The classifier itself, trained with DP-SGD (epsilon=inf: plainly); of pictures a linear one on scattering.

    features: "scattering" (Tramèr and Boneh 2021), "none" for a dense network with `hidden` layers on the records as
    they are, or "auto": scattering for pictures that it fits. The features are fixed and of each record alone, so they
    cost nothing; the published model takes the raw record.
    """
    check_layers(hidden, activation)
    scattered = fixed.chosen(features, private.shape)
    seen, layers = (fixed.scattered(private), ()) if scattered else (private, hidden)
    net = networks.Classifier(seen.shape, seen.classes, layers, activation)
    recipe = training.recipe(net, len(private), epsilon, rate=batch_rate(len(private), batch_size))
    trained = classify(seen, seed, recipe, "dp_sgd: classifier")
    if not scattered:
        return Release(trained.fit.dp_event, predict=trained.predict, model=trained.model)
    model = fixed.before(trained.model, private.shape)
    return Release(trained.fit.dp_event, predict=fixed.predictor(trained.model), model=model)
