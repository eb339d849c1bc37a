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
from generator_plays import ENCODER, GENERATOR, SIGMAS, asked, attack, auc, fake, noise
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


# Mutants
@pytest.mark.parametrize("name", ["nearest_sample", pytest.param("vae_reconstruction", marks=pytest.mark.slow)])
def test_calibration_by_the_wrong_reference_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a generator that saw the private records too, what they have in common is divided away."""
    data = noise(private=150, holdout=150)
    targets, ground_truth, public = asked(data)
    release = fake(data, leak=True)
    assert auc(ground_truth, attack(name, release, targets, public)) > 0.9
    module = {"nearest_sample": nearest_sample, "vae_reconstruction": vae_reconstruction}[name]
    monkeypatch.setattr(module, "reference_decoder", lambda *_: release.decode)
    assert auc(ground_truth, attack(name, release, targets, public)) < 0.8


def test_codes_of_other_labels_are_caught() -> None:
    data = noise(private=150, holdout=150)
    targets, ground_truth, public = asked(data)
    records = targets.records
    shifted = replace(targets, records=Examples(records.x, (records.y + 1) % 3, 3))
    release = fake(data, leak=True)
    assert auc(ground_truth, attack("vae_reconstruction", release, targets, public, calibrated=False)) > 0.9
    assert auc(ground_truth, attack("vae_reconstruction", release, shifted, public, calibrated=False)) < 0.65


def test_codes_learnt_the_other_way_are_caught() -> None:
    data = noise(private=150, holdout=150)
    targets, ground_truth, public = asked(data)
    lied_to = replace(targets, known_member=~targets.known_member)
    assert auc(ground_truth, attack("code_distance", fake(data, leak=True), targets, public)) > 0.9
    assert auc(ground_truth, attack("code_distance", fake(data, leak=True), lied_to, public)) < 0.1


def by_chance(ground_truth: NDArray[Any]) -> float:
    """The standard error of the AUC of an answer that knows nothing."""
    members, others = int(ground_truth.sum()), int((~ground_truth).sum())
    return float(np.sqrt((members + others + 1) / (12 * members * others)))


def null_aucs(play: Callable[[Release, Targets, NDArray[Any], Examples], NDArray[Any]]) -> tuple[float, float]:
    """The mean AUC over 20 draws of a release that knows nothing, and its standard error by what chance alone gives."""
    found = []
    for seed in range(20):
        data = noise(seed)
        targets, ground_truth, public = asked(data, seed)
        found.append(auc(ground_truth, play(fake(data, leak=False), targets, ground_truth, public)))
    return float(np.mean(found)), by_chance(ground_truth) / np.sqrt(len(found))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "domias" else pytest.mark.slow) for name in sorted(FAST)]
)
def test_chance_over_twenty_releases_that_know_nothing(name: str) -> None:
    mean, error = null_aucs(lambda release, targets, _, public: attack(name, release, targets, public, **FAST[name]))
    assert abs(mean - 0.5) < 4.8916 * error  # 1e-6, two-sided


def test_a_learner_of_codes_scored_on_its_own_fit_is_caught() -> None:
    def mutant(release: Release, targets: Targets, ground_truth: NDArray[Any], public: Examples) -> NDArray[Any]:
        own_fit = replace(targets, known=targets.records, known_member=ground_truth)
        return attack("code_distance", release, own_fit, public)

    mean, error = null_aucs(mutant)
    assert mean - 0.5 > SIGMAS * error


# Real releases
@cache
def positive(name: str, seen: bool) -> tuple[Release, Targets, NDArray[Any], Examples]:
    """A defense without privacy, over-fitted to a few digits, and a question about these (`seen`) or about others."""
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
    inside, outside = (data.private, data.holdout) if seen else halves
    targets, ground_truth, public = asked(replace(data, private=inside, holdout=outside))
    return release, targets, ground_truth, public


FLOORS = {
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
def test_an_over_fitted_release_gives_its_records_away_and_no_others(name: str) -> None:
    defense = "dp_vaegm" if name in GENERATOR else "dp_augm"
    play = partial(attack, name)
    release, targets, ground_truth, public = positive(defense, True)
    found = auc(ground_truth, play(release, targets, public))
    assert found > max(FLOORS[name], 0.5 + SIGMAS * by_chance(ground_truth))
    release, targets, ground_truth, public = positive(defense, False)
    assert abs(auc(ground_truth, play(release, targets, public)) - 0.5) < 4.8916 * by_chance(ground_truth)
