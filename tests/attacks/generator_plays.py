"""Toy releases of generators and encoders, for the tests of attacks on them."""

from __future__ import annotations

from typing import Any

import numpy as np
from conftest import components
from dp_accounting import NonPrivateDpEvent
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from bench.conformance import toy_releases
from bench.core.dataset import Examples, Split
from bench.core.release import Release
from bench.games import MEMBERSHIP, Targets

GENERATOR = ("nearest_sample", "domias", "monte_carlo", "vae_reconstruction")
ENCODER = ("code_distance", "code_reconstruction")
SIGMAS = 4.7534  # one-sided 1e-6


def noise(seed: int = 0, private: int = 40, holdout: int = 40, public: int = 30) -> Split:
    rng = np.random.default_rng(seed)
    sizes = (private, holdout, public)
    parts = (Examples(rng.random((n, 4, 4, 1), np.float32), rng.integers(0, 3, n), 3) for n in sizes)
    return Split("noise", *parts)


def challenged(data: Split, seed: int = 0) -> tuple[Targets, NDArray[Any], Examples]:
    challenge = MEMBERSHIP.challenge(data, np.random.default_rng(seed))
    return challenge.targets, challenge.ground_truth, challenge.public


def toy_release(data: Split, leak: bool) -> Release:
    """A release with the accesses of a generator and an encoder."""
    records = toy_releases.generator_records(data, leak)
    retrained = Release(NonPrivateDpEvent(), encode=toy_releases.encoder(data, leak=False))
    return Release(
        NonPrivateDpEvent(),
        encode=toy_releases.encoder(data, leak),
        decode=toy_releases.decoder(records),
        generate=toy_releases.generator(records),
        retrain=lambda *_: retrained,
    )


def attack(name: str, release: Release, targets: Targets, public: Examples, **options: Any) -> NDArray[Any]:
    component = components().attacks[name]
    found: NDArray[Any] = component.function(release.only(component.needs), targets, public, seed=0, **options)
    return found


def auc(ground_truth: NDArray[Any], answer: NDArray[Any]) -> float:
    return float(roc_auc_score(ground_truth, answer))
