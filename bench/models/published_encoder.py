"""Published encoders, as that of DP-AuGM, and the classifier that follows one (Chen et al. 2018, section 4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples
from bench.core.randomness import derive, stream
from bench.core.release import Release
from bench.dp import networks
from bench.dp.networks import Autoencoder, Published
from bench.dp.recipe import Recipe
from bench.dp.train import train
from bench.dp.training_loop import build
from bench.models.classifier import classify, standard

if TYPE_CHECKING:
    from dp_accounting import DpEvent


def trained(recipe: Recipe, private: Examples, seed: int, what: str) -> tuple[Published, DpEvent]:
    """The encoder of the autoencoder that `recipe` trains, records (n, *shape) to embeddings (n, code); its cost."""
    net = recipe.net
    assert isinstance(net, Autoencoder)
    [fit] = train(recipe, [private], [derive(seed, "autoencoder")], what)
    half, _ = networks.halves(net, fit.weights)
    return networks.published(half), fit.dp_event


def untrained(net: Autoencoder, seed: int) -> Published:
    """The same encoder with its initial weights, which depend on no record."""
    start = stream(derive(seed, "autoencoder"), "start")
    half, _ = networks.halves(net, build(net, [start]).get_weights())
    return networks.published(half)


def spread(encode: Published, public: Examples) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean (code,) of the embeddings of public records, and one standard deviation for all their numbers.

    A noisy encoder can map to a narrow range, from which no network learns; scaling by public statistics costs nothing.
    All numbers are scaled alike: scaled one by one, those without information would count as much as the others (with
    100 public pictures that costs 10 points of accuracy and more).
    """
    embeddings = encode(public.x)
    return embeddings.mean(0), np.sqrt(embeddings.var(0).mean()) + 1e-6


def downstream(encode: Published, dp_event: DpEvent, public: Examples, seed: int, *, steps: int, what: str) -> Release:
    """The encoder, and the classifier that any recipient can train on encoded public records.

    `predict` and `model` take raw records and encode them first. The classifier sees private records through the
    encoder alone, so it is post-processing and costs no more than the `dp_event` of the encoder (Theorem 1).
    """
    centre, scale = spread(encode, public)
    encoded = Examples((encode(public.x) - centre) / scale, public.y, public.classes)
    head = classify(encoded, derive(seed, "classifier"), standard(encoded, steps=steps), what)
    model = networks.chained(encode.model, networks.standardised(head.model, centre, scale))
    return Release(dp_event, predict=networks.mapping(model, after="softmax"), model=model, encode=encode)
