"""The inversion game: its targets, what an adversary receives, its baseline and its judge."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import components
from dp_accounting import NoOpDpEvent
from numpy.typing import NDArray

from bench.core.component import missing
from bench.core.dataset import DataLocation, Examples, Split, record_keys
from bench.core.digest import digest
from bench.core.errors import Caveat, UserError
from bench.core.game import Challenge
from bench.core.release import Release
from bench.games import GAMES, INVERSION
from bench.games.inversion import CLASSES, NEAR
from bench.models import evaluation_network

SIGMAS = 4.7534  # one-sided 1e-6


def drawn(seed: int = 0, classes: int = 5, sizes: tuple[int, int, int] = (150, 100, 80), side: int = 8) -> Split:
    """Pictures with one mean per class and much noise: new ones are as close to private records as to public ones."""
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(99).random((classes, side, side, 1))
    made = []
    for size in sizes:
        y = rng.permutation(np.arange(size) % classes)
        made.append(Examples(np.clip(means[y] + 0.1 * rng.normal(size=(size, side, side, 1)), 0, 1), y, classes))
    return Split("drawn", *made)


@pytest.fixture
def recognise(monkeypatch: pytest.MonkeyPatch) -> list[Examples]:
    """Replaces the evaluation network by the nearest class mean, which is fast; returns the records it received."""
    received: list[Examples] = []

    def nearest(examples: Examples, seed: int) -> Any:
        received.append(examples)
        means = np.stack([examples.x[examples.y == k].mean(0).ravel() for k in range(examples.classes)])
        return lambda x: -np.square(x.reshape(len(x), 1, -1) - means).sum(2)

    monkeypatch.setattr(evaluation_network, "evaluation_network", nearest)
    return received


def judged(answer: Any, challenge: Challenge) -> tuple[dict[str, Any], list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = INVERSION.judge(answer, INVERSION.baseline(challenge, 0), challenge, np.random.default_rng(0))
    assert all(issubclass(caveat.category, Caveat) for caveat in caught)
    return dict(found), [str(caveat.message) for caveat in caught]


# Targets
def test_every_class_is_a_target_equally_often_and_has_a_private_record() -> None:
    data = drawn(sizes=(150, 100, 80))
    challenge = INVERSION.challenge(data, np.random.default_rng(1))
    targets, ground_truth = challenge.targets, challenge.ground_truth
    assert np.bincount(targets.labels).tolist() == [8] * 5
    assert (targets.shape, targets.classes, targets.codes) == ((8, 8, 1), 5, None)
    assert np.array_equal(ground_truth.true.y, targets.labels)
    private = dict(zip(record_keys(data.private), data.private.y, strict=True))
    assert [private[key] for key in record_keys(ground_truth.true)] == targets.labels.tolist()
    assert len(set(record_keys(ground_truth.true))) == 40
    assert challenge.public is data.public
    assert ground_truth.holdout is data.holdout
    assert len(ground_truth.private) == len(ground_truth.public) == 80
    assert set(record_keys(ground_truth.private)) <= set(private)
    assert set(record_keys(ground_truth.public)) == set(record_keys(data.public))


def test_targets_are_determined_by_the_seed_and_independent_of_the_records() -> None:
    data = drawn()
    first, again, other = (INVERSION.challenge(data, np.random.default_rng(s)) for s in (1, 1, 2))
    assert digest(first) == digest(again)
    assert record_keys(first.ground_truth.true) != record_keys(other.ground_truth.true)
    assert np.array_equal(first.targets.labels, other.targets.labels)


def test_classes_without_private_records_are_no_targets_and_few_classes_repeat() -> None:
    data = drawn()
    kept = np.flatnonzero(np.isin(data.private.y, (1, 3)))[:8]
    challenge = INVERSION.challenge(replace(data, private=data.private[kept]), np.random.default_rng(0))
    assert np.bincount(challenge.targets.labels, minlength=5).tolist() == [0, 20, 0, 20, 0]


def test_the_numbers_of_targets_and_compared_records_are_bounded() -> None:
    data = drawn(classes=300, sizes=(3000, 300, 2000))
    challenge = INVERSION.challenge(data, np.random.default_rng(0))
    assert len(challenge.targets.labels) == len(set(challenge.targets.labels)) == CLASSES
    assert len(challenge.ground_truth.private) == len(challenge.ground_truth.public) == NEAR


def test_the_adversary_has_no_public_record_of_unseen_classes() -> None:
    data = drawn()
    challenge = INVERSION.challenge(data, np.random.default_rng(0), "unseen")
    target_classes = set(challenge.targets.labels)
    assert len(target_classes) == 2
    others = data.public[~np.isin(data.public.y, [*target_classes])]
    assert sorted(record_keys(challenge.public)) == sorted(record_keys(others))
    assert set(challenge.ground_truth.public.y) == set(range(5))  # the judge compares with all of them
    baseline = INVERSION.baseline(challenge, 0)
    assert np.allclose(baseline, challenge.public.x.mean(0))
    one = drawn(classes=1)
    with pytest.raises(UserError, match="too few classes"):
        INVERSION.challenge(one, np.random.default_rng(0), "unseen")


def test_embeddings_of_the_targets_are_visible_only_with_access_to_the_encoder() -> None:
    challenge = INVERSION.challenge(drawn(), np.random.default_rng(0))

    def encode(x: NDArray[Any]) -> NDArray[Any]:
        return x.reshape(len(x), -1)[:, :3]

    release = Release(NoOpDpEvent(), predict=encode, encode=encode)
    assert np.array_equal(INVERSION.targets_visible(challenge, release).codes, encode(challenge.ground_truth.true.x))
    assert INVERSION.targets_visible(challenge, release.only({"predict"})).codes is None
    assert challenge.targets.codes is None


def test_the_game_requires_pictures() -> None:
    assert GAMES["inversion"] is INVERSION
    registry = components()
    attack, defense = registry.attacks["gradient_inversion"], registry.defenses["none"]
    assert missing(attack, defense, registry.data["breast_cancer"]) == ("pictures",)
    assert missing(attack, defense, registry.data["digits"]) == ()


# The baseline
def test_the_baseline_is_the_mean_public_record_of_the_label() -> None:
    data = drawn()
    public = data.public[np.flatnonzero(data.public.y != 2)]
    challenge = INVERSION.challenge(replace(data, public=public), np.random.default_rng(0))
    for picture, label in zip(INVERSION.baseline(challenge, 0), challenge.targets.labels, strict=True):
        expected = public.x[public.y == label] if label != 2 else public.x
        assert np.allclose(picture, expected.mean(0), atol=1e-6)


def test_the_baseline_as_an_attack_has_a_gain_of_zero(recognise: list[Examples]) -> None:
    challenge = INVERSION.challenge(drawn(), np.random.default_rng(0))
    found, _ = judged(INVERSION.baseline(challenge, 0), challenge)
    gains = [estimate for name, estimate in found.items() if name.endswith("gain")]
    assert len(gains) == 6
    for gain in gains:
        assert gain["value"] == 0
        assert gain["low"] <= 0 <= gain["high"]


# The judge
def test_true_records_are_recognised_and_those_of_other_labels_are_not(recognise: list[Examples]) -> None:
    challenge = INVERSION.challenge(drawn(), np.random.default_rng(0))
    true = challenge.ground_truth.true.x
    found, caveats = judged(true, challenge)
    assert caveats == []
    assert found["headline"] == "recognition"
    assert found["chance"] == 0.2
    assert found["recognition"]["value"] == found["ssim"]["value"] == found["identified"]["value"] == 1
    assert found["recognition"]["low"] < 0.6  # five classes are few, for any number of pictures
    swapped, _ = judged(np.roll(true, 1, axis=0), challenge)
    assert swapped["recognition"]["value"] == swapped["identified"]["value"] == 0
    assert swapped["gain"]["high"] < 0
    assert swapped["ssim"]["value"] < 0.9


def test_similarity_distinguishes_copies_of_private_records_from_public_and_new_ones(recognise: list[Examples]) -> None:
    """Error rate 1e-6; the mutant, which compares with many more private records, classifies new ones as private."""
    data = drawn(classes=20, sizes=(600, 400, 100))
    challenge = INVERSION.challenge(data, np.random.default_rng(0))
    new = np.concatenate([data.holdout.x[data.holdout.y == k][:1] for k in challenge.targets.labels])
    copies = challenge.ground_truth.private.x[
        [np.flatnonzero(challenge.ground_truth.private.y == k)[0] for k in range(20)] * 2
    ]
    for answer, sign in ((copies, 1), (challenge.ground_truth.public.x[:40], -1), (new, 0)):
        estimate = judged(answer, challenge)[0]["closer_to_private"]
        deviations = estimate["value"] / estimate["se"]
        assert abs(deviations) < SIGMAS if sign == 0 else sign * deviations > SIGMAS
    few = challenge.ground_truth.public[:5]
    mutant = replace(challenge, ground_truth=replace(challenge.ground_truth, public=few))
    estimate = judged(new, mutant)[0]["closer_to_private"]
    assert estimate["value"] / estimate["se"] > SIGMAS


@pytest.mark.parametrize("wrong", ["shape", "count", "integers", "nan", "above", "below"])
def test_an_answer_that_is_no_pictures_is_refused(wrong: str, recognise: list[Examples]) -> None:
    challenge = INVERSION.challenge(drawn(), np.random.default_rng(0))
    answer = challenge.ground_truth.true.x.copy()
    if wrong in ("nan", "above", "below"):
        answer[3, 2, 1] = {"nan": np.nan, "above": 1.001, "below": -1e-3}[wrong]
    answer = {"shape": answer[..., 0], "count": answer[1:], "integers": np.zeros(answer.shape, int)}.get(wrong, answer)
    with pytest.raises(ValueError, match=r"expected pictures|pixels are not between"):
        judged(answer, challenge)


def test_the_evaluation_network_is_trained_on_holdout_records(recognise: list[Examples]) -> None:
    """The network is trained on the holdout records only."""
    data = drawn()
    challenge = INVERSION.challenge(data, np.random.default_rng(0))
    judged(challenge.ground_truth.true.x, challenge)
    [received] = recognise
    assert received is data.holdout
    assert not set(record_keys(received)) & {key for part in (data.private, data.public) for key in record_keys(part)}


def test_an_inaccurate_evaluation_network_has_a_caveat(recognise: list[Examples]) -> None:
    data = drawn()
    shuffled = Examples(data.holdout.x, np.random.default_rng(0).permutation(data.holdout.y), 5)
    challenge = INVERSION.challenge(replace(data, holdout=shuffled), np.random.default_rng(0))
    found, caveats = judged(challenge.ground_truth.true.x, challenge)
    assert found["evaluation_accuracy"]["value"] < 0.8
    assert len(caveats) == 1
    assert "evaluation network" in caveats[0]


def test_a_single_class_has_no_interval(recognise: list[Examples]) -> None:
    challenge = INVERSION.challenge(drawn(classes=2), np.random.default_rng(0), "unseen")
    found, _ = judged(challenge.ground_truth.true.x, challenge)
    assert "one class" in found["ssim"]["not_measurable"]
    assert found["recognition"]["value"] == 1


def test_the_contact_sheet_shows_truth_answer_and_baseline() -> None:
    challenge = INVERSION.challenge(drawn(), np.random.default_rng(0))
    answer = np.full(challenge.ground_truth.true.x.shape, 0.2, np.float32)
    assert INVERSION.contact_sheet
    rows = INVERSION.contact_sheet(answer, INVERSION.baseline(challenge, 0), challenge)
    assert list(rows) == ["true", "reconstructed", "baseline"]
    assert all(row.dtype == np.uint8 and row.shape == (40, 8, 8, 1) for row in rows.values())
    assert (rows["reconstructed"] == 51).all()


def test_the_evaluation_network_recognises_noisy_digits_and_is_determined_by_its_seed() -> None:
    data: Split = components().data["digits"].function(DataLocation(), np.random.default_rng(0))
    predict = evaluation_network.evaluation_network(data.holdout, 3, steps=300)
    rng = np.random.default_rng(0)
    noisy = data.private.x + 0.3 * rng.standard_normal(data.private.x.shape).astype(np.float32)
    for x, least in ((data.private.x, 0.93), (noisy, 0.8)):
        assert (predict(x).argmax(1) == data.private.y).mean() > least
    probabilities = predict(data.private.x[:5])
    assert np.allclose(probabilities.sum(1), 1, atol=1e-5)
    again = evaluation_network.evaluation_network(data.holdout, 3, steps=300)
    assert np.array_equal(again(data.private.x[:5]), probabilities)
