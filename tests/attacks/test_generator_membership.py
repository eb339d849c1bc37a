"""Attacks on generators and encoders find members if and only if the release leaks them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
from cached_trainings import cached_trainings  # noqa: F401 - an autouse fixture
from conftest import components, quick
from generator_plays import ENCODER, GENERATOR, SIGMAS, attack, auc, challenged, noise, toy_release
from numpy.typing import NDArray

from attacks import nearest_sample, vae_reconstruction
from bench.core.component import Choice
from bench.core.dataset import DataLocation, Examples
from bench.core.release import Release
from bench.games import Targets
from bench.runner.play import release as trained_release

FAST = {"nearest_sample": {"calibrated": False}, "domias": {}, "monte_carlo": {}, "code_distance": {}}


@pytest.fixture(scope="module", autouse=True)
def released_models() -> Iterator[None]:
    """Frees the cached releases: TensorFlow warns of functions that outlive it."""
    yield
    positive.cache_clear()


@pytest.mark.parametrize("name", ["nearest_sample", pytest.param("vae_reconstruction", marks=pytest.mark.slow)])
def test_calibration_by_a_reference_of_private_records_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a reference cancels the scores of members."""
    data = noise(private=150, holdout=150)
    targets, ground_truth, public = challenged(data)
    release = toy_release(data, leak=True)
    assert auc(ground_truth, attack(name, release, targets, public)) > 0.9
    module = {"nearest_sample": nearest_sample, "vae_reconstruction": vae_reconstruction}[name]
    monkeypatch.setattr(module, "reference_decoder", lambda *_: release.decode)
    assert auc(ground_truth, attack(name, release, targets, public)) < 0.8


def test_latent_codes_of_other_labels_fail() -> None:
    data = noise(private=150, holdout=150)
    targets, ground_truth, public = challenged(data)
    records = targets.records
    shifted = replace(targets, records=Examples(records.x, (records.y + 1) % 3, 3))
    release = toy_release(data, leak=True)
    assert auc(ground_truth, attack("vae_reconstruction", release, targets, public, calibrated=False)) > 0.9
    assert auc(ground_truth, attack("vae_reconstruction", release, shifted, public, calibrated=False)) < 0.65


def test_a_learner_with_inverted_known_membership_fails() -> None:
    data = noise(private=150, holdout=150)
    targets, ground_truth, public = challenged(data)
    inverted = replace(targets, known_member=~targets.known_member)
    assert auc(ground_truth, attack("code_distance", toy_release(data, leak=True), targets, public)) > 0.9
    assert auc(ground_truth, attack("code_distance", toy_release(data, leak=True), inverted, public)) < 0.1


def chance_error(ground_truth: NDArray[Any]) -> float:
    """The standard error of the AUC of random scores."""
    members, others = int(ground_truth.sum()), int((~ground_truth).sum())
    return float(np.sqrt((members + others + 1) / (12 * members * others)))


def null_aucs(play: Callable[[Release, Targets, NDArray[Any], Examples], NDArray[Any]]) -> tuple[float, float]:
    """The mean AUC over 20 releases without a leak, and its standard error by chance."""
    found = []
    for seed in range(20):
        data = noise(seed)
        targets, ground_truth, public = challenged(data, seed)
        found.append(auc(ground_truth, play(toy_release(data, leak=False), targets, ground_truth, public)))
    return float(np.mean(found)), chance_error(ground_truth) / np.sqrt(len(found))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "domias" else pytest.mark.slow) for name in sorted(FAST)]
)
def test_attacks_are_at_chance_over_twenty_releases_without_a_leak(name: str) -> None:
    mean, error = null_aucs(lambda release, targets, _, public: attack(name, release, targets, public, **FAST[name]))
    assert abs(mean - 0.5) < 4.8916 * error  # 1e-6, two-sided


def test_a_learner_scored_on_its_training_records_would_exceed_chance() -> None:
    def mutant(release: Release, targets: Targets, ground_truth: NDArray[Any], public: Examples) -> NDArray[Any]:
        fitted_on_targets = replace(targets, known=targets.records, known_member=ground_truth)
        return attack("code_distance", release, fitted_on_targets, public)

    mean, error = null_aucs(mutant)
    assert mean - 0.5 > SIGMAS * error


@cache
def positive(name: str, trained_on: bool) -> tuple[Release, Targets, NDArray[Any], Examples]:
    """An overfitted release without privacy, and a challenge on its training records (`trained_on`) or on others."""
    registry = components()
    size, options = {
        "dp_vaegm": (100, {"steps": 1000, "rate": 0.5, "hidden": (256,), "cosines": 0}),
        "dp_augm": (200, {"steps": 200, "hidden": (512,)}),
    }[name]
    data = registry.data["digits"].function(
        DataLocation(), np.random.default_rng(0), private=size, holdout=1300, public=297
    )
    defense = registry.defenses[name]
    settings = {**quick(defense), **options, "epsilon": float("inf")}
    release = trained_release(data, Choice(defense, settings), 0)
    halves = data.holdout[:size], data.holdout[size:]
    inside, outside = (data.private, data.holdout) if trained_on else halves
    targets, ground_truth, public = challenged(replace(data, private=inside, holdout=outside))
    return release, targets, ground_truth, public


REQUIRED_AUC = {
    "nearest_sample": 0.9,
    "domias": 0.85,
    "monte_carlo": 0.85,
    "vae_reconstruction": 0.9,
    "code_distance": 0.6,
    "code_reconstruction": 0.6,
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "code_distance" else pytest.mark.slow) for name in (*GENERATOR, *ENCODER)],
)
def test_an_overfitted_release_leaks_its_training_records_and_no_others(name: str) -> None:
    defense = "dp_vaegm" if name in GENERATOR else "dp_augm"
    play = partial(attack, name)
    release, targets, ground_truth, public = positive(defense, True)
    found = auc(ground_truth, play(release, targets, public))
    assert found > max(REQUIRED_AUC[name], 0.5 + SIGMAS * chance_error(ground_truth))
    release, targets, ground_truth, public = positive(defense, False)
    assert abs(auc(ground_truth, play(release, targets, public)) - 0.5) < 4.8916 * chance_error(ground_truth)
