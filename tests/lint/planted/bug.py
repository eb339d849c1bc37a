"""A test case of the linter, a planted bug or a correct defense, and the functions that these are built from."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np

from bench.core.component import Choice, defense
from bench.core.dataset import Examples, Split, record_keys
from bench.core.randomness import derive
from bench.core.release import Release
from bench.dp import accounting, networks, vae
from bench.dp import sampling as batches
from bench.dp.layers import Single
from bench.dp.networks import Classifier, Published
from bench.dp.recipe import Fit, Recipe, private_training
from bench.dp.train import train
from bench.dp.vae import VAE
from bench.lint.instrumentation import watching
from bench.lint.linter import lint, probe_trainings
from bench.store.records import LintFinding

Array = np.ndarray[Any, Any]
CLAIMS = {"publishes": {"predict"}, "private": True}


def recipe(private: Examples, n: int, epsilon: float, net: networks.Net | None = None, **changes: Any) -> Recipe:
    """A recipe of a short training of a small classifier, calibrated for `n` records."""
    rate, steps = 0.2, 4
    privacy = private_training(epsilon, n, rate, steps, 1.0)
    made = net or Classifier(private.shape, private.classes, (8,), "tanh")
    plan = {"steps": steps, "rate": rate, "batch_size": rate * n, "learning_rate": 0.1, "privacy": privacy}
    return Recipe(made, **{**plan, **changes})


def released(fits: list[Fit], net: networks.Net, dp_event: Any = None) -> Release:
    """A release of the mean of classifiers."""
    models = [networks.build(net, Single()) for _ in fits]
    for model, fit in zip(models, fits, strict=True):
        model.set_weights(fit.weights)
    each = [networks.mapping(model, "softmax") for model in models]
    return Release(dp_event or fits[0].dp_event, predict=lambda x: np.mean([predict(x) for predict in each], axis=0))


def sigma(epsilon: float, n: int, uses: int) -> float:
    """The noise multiplier for `uses` of the Gaussian mechanism."""
    return accounting.noise_multiplier(epsilon, accounting.delta_for(n), 1.0, uses)


def units(x: Array, length: float = 1.0) -> Array:
    """Each record, clipped to this norm."""
    return x * np.minimum(1, length / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9))


def flat(x: Any) -> Array:
    """Records as rows."""
    return np.asarray(x, np.float64).reshape(len(x), int(np.prod(np.shape(x)[1:])))


def by_class(rows: Array, y: Array, classes: int) -> Array:
    """Sums of rows (n, ...) over the records of each class: (classes, ...)."""
    return np.stack([rows[y == k].sum(0) for k in range(classes)])


def hashed(private: Examples, seed: int) -> list[Examples]:
    """Twelve parts of the records, by a hash of each record."""
    owner = np.array([key[1] % 12 for key in record_keys(private)])
    return [private[owner == k] for k in range(12)]


def polled(parts: list[Examples], queries: Array) -> Array:
    """Votes (queries, classes) of teachers that predict the class with the nearest mean of their records."""
    votes = np.zeros((len(queries), parts[0].classes))
    for part in parts:
        found = np.full((len(queries), part.classes), 9.0)
        for k in np.unique(part.y):
            found[:, k] = np.linalg.norm(queries - part.x[part.y == k].mean(0), axis=1)
        votes[np.arange(len(queries)), found.argmin(1)] += 1
    return votes


def event_of(noise: float, uses: int = 1) -> Any:
    """The event of `uses` of the Gaussian mechanism."""
    return accounting.training_event(1.0, noise, uses)


@defense("small", **CLAIMS)
def small(
    private: Examples,
    public: Examples,
    *,
    seed: int,
    epsilon: float = 8.0,
    engine: str = "onepass",
    activation: str = "tanh",
) -> Release:
    """Correct: a small classifier, trained by the DP training of the project."""
    net = Classifier(private.shape, private.classes, (8,), activation)
    one = recipe(private, len(private), epsilon, net, engine=engine)
    return released(train(one, [private], [derive(seed, "small")]), one.net)


@defense("parted", **CLAIMS)
def parted(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: two classifiers on disjoint halves, by a hash of the record."""
    parts = halves(private)
    one = recipe(private, len(private), epsilon)
    fits = train(one, [private[rows] for rows in parts], [derive(seed, k) for k in range(2)])
    return released(fits, one.net, accounting.parallel([fit.dp_event for fit in fits], parts))


@defense("sampling", publishes={"decode"}, private=True)
def sampling(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: a small VAE."""
    net = VAE(private.shape, (8,), 2)
    [fit] = train(recipe(private, len(private), epsilon, net), [private], [derive(seed, "vae")])
    model = vae.decoder(net, fit.weights)
    return Release(fit.dp_event, decode=Published(model, networks.mapping(model)))


def halves(private: Examples) -> list[np.ndarray[Any, Any]]:
    """Indices of two parts, by a hash of each record."""
    side = np.array([key[0] % 2 for key in record_keys(private)], int)
    return [np.flatnonzero(side == k) for k in range(2)]


def noised(change: Callable[[Any, Any, Any], Any]) -> AbstractContextManager[Any]:
    """Replaces each noised sum by change(sum, correct noised sum, query)."""
    from bench.dp.optimizer import SeededGaussianSumQuery

    right = SeededGaussianSumQuery.get_noised_result

    def wrong(query: Any, sums: Any, state: Any) -> Any:
        out, *rest = right(query, sums, state)
        return [change(a, b, query) for a, b in zip(sums, out, strict=True)], *rest

    return patch.object(SeededGaussianSumQuery, "get_noised_result", wrong)


def dense_gradients(sites: Any, deltas: Any) -> list[Any]:
    """Per-record gradients (n, *variable) of dense layers, kernels and biases in turn."""
    import tensorflow as tf

    pairs = []
    for site, d in zip(sites, deltas, strict=True):
        if d.shape.rank == 2:
            pairs.append((tf.einsum("np,nq->npq", site.a, d), d))
        else:  # of stacked models
            pairs.append((tf.einsum("knp,knq->nkpq", site.a, d), tf.transpose(d, (1, 0, 2))[:, :, None]))
    return [g for pair in pairs for g in pair]


def sampled_batches(draw: Callable[[float, int, np.random.Generator, int], Any]) -> AbstractContextManager[Any]:
    """Replaces the rows of a batch by draw(rate, n, generator, number of the batch)."""

    class Wrong:
        def __init__(self, rates: Any, sizes: Any, generators: Any) -> None:
            self.models = list(zip(rates, sizes, generators, strict=True))

        def rows(self, steps: int) -> Any:
            drawn = [[draw(*model, t) for model in self.models] for t in range(steps)]
            width = max(1, max(len(r) for step in drawn for r in step))
            out = np.full((steps, len(self.models), width), -1, np.int32)
            for t, step in enumerate(drawn):
                for k, r in enumerate(step):
                    out[t, k, : len(r)] = r
            return out

    return patch.object(batches, "PoissonBatches", Wrong)


@dataclass(frozen=True)
class Bug:
    """A bug in `defense`, or one that `planted` puts into the project while `defense` runs."""

    name: str
    defense: Any
    planted: Callable[[], AbstractContextManager[Any]] = nullcontext
    options: tuple[tuple[str, Any], ...] = ()
    whole: bool = False  # if the probes of trainings do not reach it

    @property
    def choice(self) -> Choice:
        """The defense and options that are probed."""
        return Choice(self.defense.component, dict(self.options))

    @property
    def deep(self) -> bool:
        """Whether the bug is in the project, so that every training has it."""
        return self.planted is not nullcontext

    def found(self, data: Split, seed: int, *, whole: bool = False, most: int = 1) -> tuple[LintFinding, ...]:
        """Findings of the linter; of a deep bug, only those of the probes of trainings unless `whole`."""
        with self.planted():
            if whole or self.whole or not self.deep:
                return lint(self.choice, data, seed, most=most)
            with watching(blank_inputs=True) as seen:
                self.defense(data.private, data.public, seed=seed, **dict(self.options))
            return tuple(itertools.islice(probe_trainings(seen.trained, seed), most))


CORRECT = (
    Bug("small", small), Bug("small, vectorized", small, options=(("engine", "vectorized"),)), Bug("parted", parted),
    Bug("sampling", sampling),
)  # fmt: skip
