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


# art_label_only
def test_labels_are_all_that_the_label_only_attacks_see() -> None:
    attack, data, challenge = attack_of("art_label_only"), membership().data, membership().challenge
    release = toy_releases.release(attack.needs, data, leak=True)

    def unsure(x: NDArray[Any]) -> NDArray[Any]:
        assert release.predict
        return np.asarray(0.6 * np.eye(CLASSES)[release.predict(x).argmax(1)] + 0.4 / CLASSES)

    for options in ({}, {"rule": "boundary", "iterations": 1, "queries": 10}):
        answers = [
            attack.function(replace(release, predict=predict), challenge.targets, challenge.public, seed=0, **options)
            for predict in (release.predict, unsure)
        ]
        assert np.array_equal(*answers)


def test_the_distance_to_a_boundary_is_the_distance_to_it() -> None:
    """Of a linear model it can be calculated; the search is never nearer, and on average hardly farther."""
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


def test_a_label_that_never_changes_is_the_farthest_and_a_wrong_one_the_nearest() -> None:
    attack, challenge = attack_of("art_label_only"), membership().challenge
    release = Release(NonPrivateDpEvent(), predict=lambda x: np.eye(CLASSES)[np.zeros(len(x), int)])
    found = attack.function(release, challenge.targets, challenge.public, seed=0, rule="boundary")
    assert np.array_equal(found, np.where(challenge.targets.records.y == 0, 4.0, 0.0))


# modified_entropy
def test_modified_entropy_is_that_of_its_paper_and_knows_right_from_wrong() -> None:
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


def test_a_class_on_which_nobody_is_sure_does_not_hide_its_members() -> None:
    """One class is hard for everybody: by one threshold none of its members is told from the easy class' others."""
    rng = np.random.default_rng(0)
    y, member = np.arange(2000) % 2, np.arange(2000) % 4 < 2
    x = (np.clip(0.5 + 0.3 * (y == 0) + 0.1 * member + 0.03 * rng.standard_normal(2000), 0.01, 0.99))[:, None]
    everyone = Examples(x, y, 2)
    asked, told = np.arange(1000), np.arange(1000, 2000)
    targets = Targets(everyone[asked], everyone[told], member[told])

    def predict(x: NDArray[Any]) -> NDArray[Any]:
        label = [lookup[row.tobytes()] for row in x]
        return np.where(np.arange(2) == np.array(label)[:, None], x, 1 - x)

    lookup = {row.tobytes(): label for row, label in zip(everyone.x, y, strict=True)}
    attack = components().attacks["modified_entropy"]
    apart, alike = (
        metrics.auc(
            attack.function(Release(NonPrivateDpEvent(), predict=predict), targets, told, seed=0, by_class=by_class),
            member[asked],
        )["value"]
        for by_class in (True, False)
    )
    assert apart > 0.95
    assert alike < 0.85
