"""Membership attacks on labels and entropies: art_label_only and modified_entropy."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from cached_trainings import cached_trainings  # noqa: F401 - an autouse fixture
from conftest import components
from dp_accounting import NonPrivateDpEvent
from membership_plays import attack_of
from numpy.typing import NDArray

from attacks.modified_entropy import entropy_of_truth
from bench.conformance import toy_releases
from bench.conformance.toy_games import CLASSES, membership
from bench.core.dataset import Examples
from bench.core.release import Release
from bench.games import Targets, metrics


def test_label_only_attacks_use_labels_only() -> None:
    attack, data, challenge = attack_of("art_label_only"), membership().data, membership().challenge
    release = toy_releases.release(attack.needs, data, leak=True)

    def less_confident(x: NDArray[Any]) -> NDArray[Any]:
        assert release.predict
        return np.asarray(0.6 * np.eye(CLASSES)[release.predict(x).argmax(1)] + 0.4 / CLASSES)

    for options in ({}, {"rule": "boundary", "iterations": 1, "queries": 10}):
        answers = [
            attack.function(replace(release, predict=predict), challenge.targets, challenge.public, seed=0, **options)
            for predict in (release.predict, less_confident)
        ]
        assert np.array_equal(*answers)


def test_the_distance_to_a_linear_boundary_is_found() -> None:
    """The search of a linear boundary is never below the exact distance, and in the median less than 20 % above."""
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(16) / 4
    parts = [Examples(rng.random((60, 4, 4, 1)), np.zeros(60, int), 2) for _ in range(2)]

    def predict(x: NDArray[Any]) -> NDArray[Any]:
        return np.eye(2)[(np.reshape(x, (len(x), 16)) @ normal > normal.sum() / 2).astype(int)]

    records, known = (replace(part, y=predict(part.x).argmax(1)) for part in parts)
    targets = Targets(records, known, np.arange(60) < 30)
    attack = components().attacks["art_label_only"]
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    found = attack.function(
        Release(NonPrivateDpEvent(), predict=predict), targets, known, seed=0, rule="boundary", iterations=5
    )
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    true = np.abs(records.x.reshape(60, 16) @ normal - normal.sum() / 2) / np.linalg.norm(normal)
    assert (found > true - 1e-3).all()
    assert np.median(found / true) < 1.2


def test_a_constant_label_has_the_largest_distance_and_a_wrong_one_distance_zero() -> None:
    attack, challenge = attack_of("art_label_only"), membership().challenge
    release = Release(NonPrivateDpEvent(), predict=lambda x: np.eye(CLASSES)[np.zeros(len(x), int)])
    found = attack.function(release, challenge.targets, challenge.public, seed=0, rule="boundary")
    assert np.array_equal(found, np.where(challenge.targets.records.y == 0, 4.0, 0.0))


def test_modified_entropy_matches_its_paper_and_penalises_wrong_labels() -> None:
    p, y = np.random.default_rng(0).dirichlet(np.ones(CLASSES), 50), np.arange(50) % CLASSES
    naive = [
        -(1 - row[label]) * math.log(row[label])
        - sum(row[k] * math.log(1 - row[k]) for k in range(CLASSES) if k != label)
        for row, label in zip(p, y, strict=True)
    ]
    assert np.allclose(entropy_of_truth(p, y), naive)
    sure = np.array([[1.0, 0, 0]])
    right, wrong = (entropy_of_truth(sure, np.array([label]))[0] for label in (0, 1))
    assert right < 1e-20
    assert wrong > 50


def test_thresholds_by_class_find_the_members_of_a_difficult_class() -> None:
    """One class is difficult: one threshold cannot separate its members from non-members of the easy class."""
    rng = np.random.default_rng(0)
    y, member = np.arange(2000) % 2, np.arange(2000) % 4 < 2
    x = (np.clip(0.5 + 0.3 * (y == 0) + 0.1 * member + 0.03 * rng.standard_normal(2000), 0.01, 0.99))[:, None]
    everyone = Examples(x, y, 2)
    unknown, known = np.arange(1000), np.arange(1000, 2000)
    targets = Targets(everyone[unknown], everyone[known], member[known])

    def predict(x: NDArray[Any]) -> NDArray[Any]:
        label = [lookup[row.tobytes()] for row in x]
        return np.where(np.arange(2) == np.array(label)[:, None], x, 1 - x)

    lookup = {row.tobytes(): label for row, label in zip(everyone.x, y, strict=True)}
    attack = components().attacks["modified_entropy"]
    by_class, pooled = (
        metrics.auc(
            attack.function(Release(NonPrivateDpEvent(), predict=predict), targets, known, seed=0, by_class=option),
            member[unknown],
        )["value"]
        for option in (True, False)
    )
    assert by_class > 0.95
    assert pooled < 0.85
