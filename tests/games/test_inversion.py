"""The inversion game: what is asked and what is told, who may recognise a picture, similarity against a slow truth."""

from __future__ import annotations

import itertools
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
from bench.models.ssim import own_ssim, ssim

SIGMAS = 4.7534  # one-sided 1e-6


def drawn(seed: int = 0, classes: int = 5, sizes: tuple[int, int, int] = (150, 100, 80), side: int = 8) -> Split:
    """Pictures of a shape a class with much noise: what is fresh is as near to private records as to public ones."""
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(99).random((classes, side, side, 1))
    made = []
    for size in sizes:
        y = rng.permutation(np.arange(size) % classes)
        made.append(Examples(np.clip(means[y] + 0.1 * rng.normal(size=(size, side, side, 1)), 0, 1), y, classes))
    return Split("drawn", *made)


@pytest.fixture
def recognise(monkeypatch: pytest.MonkeyPatch) -> list[Examples]:
    """In place of the evaluation network the nearest class mean, which takes no time; returns what it was given."""
    given: list[Examples] = []

    def nearest(examples: Examples, seed: int) -> Any:
        given.append(examples)
        means = np.stack([examples.x[examples.y == k].mean(0).ravel() for k in range(examples.classes)])
        return lambda x: -np.square(x.reshape(len(x), 1, -1) - means).sum(2)

    monkeypatch.setattr(evaluation_network, "evaluation_network", nearest)
    return given


def judged(answer: Any, challenge: Challenge) -> tuple[dict[str, Any], list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = INVERSION.judge(answer, INVERSION.baseline(challenge, 0), challenge, np.random.default_rng(0))
    assert all(issubclass(caveat.category, Caveat) for caveat in caught)
    return dict(found), [str(caveat.message) for caveat in caught]


# The question


def test_every_class_equally_often_each_with_a_private_record_behind_it() -> None:
    data = drawn(sizes=(150, 100, 80))
    challenge = INVERSION.challenge(data, np.random.default_rng(1))
    wanted, ground_truth = challenge.targets, challenge.ground_truth
    assert np.bincount(wanted.labels).tolist() == [8] * 5
    assert (wanted.shape, wanted.classes, wanted.codes) == ((8, 8, 1), 5, None)
    assert np.array_equal(ground_truth.true.y, wanted.labels)
    private = dict(zip(record_keys(data.private), data.private.y, strict=True))
    assert [private[key] for key in record_keys(ground_truth.true)] == wanted.labels.tolist()
    assert len(set(record_keys(ground_truth.true))) == 40
    assert challenge.public is data.public
    assert ground_truth.holdout is data.holdout
    assert len(ground_truth.private) == len(ground_truth.public) == 80
    assert set(record_keys(ground_truth.private)) <= set(private)
    assert set(record_keys(ground_truth.public)) == set(record_keys(data.public))


def test_question_is_its_generators_and_tells_nothing_of_the_records() -> None:
    data = drawn()
    first, again, other = (INVERSION.challenge(data, np.random.default_rng(s)) for s in (1, 1, 2))
    assert digest(first) == digest(again)
    assert record_keys(first.ground_truth.true) != record_keys(other.ground_truth.true)
    assert np.array_equal(first.targets.labels, other.targets.labels)


def test_classes_without_private_records_are_not_asked_about_and_few_are_asked_twice() -> None:
    data = drawn()
    kept = np.flatnonzero(np.isin(data.private.y, (1, 3)))[:8]
    challenge = INVERSION.challenge(replace(data, private=data.private[kept]), np.random.default_rng(0))
    assert np.bincount(challenge.targets.labels, minlength=5).tolist() == [0, 20, 0, 20, 0]


def test_bounded_however_many_classes_and_records_there_are() -> None:
    data = drawn(classes=300, sizes=(3000, 300, 2000))
    challenge = INVERSION.challenge(data, np.random.default_rng(0))
    assert len(challenge.targets.labels) == len(set(challenge.targets.labels)) == CLASSES
    assert len(challenge.ground_truth.private) == len(challenge.ground_truth.public) == NEAR


def test_of_unseen_classes_the_adversary_has_no_public_record() -> None:
    data = drawn()
    challenge = INVERSION.challenge(data, np.random.default_rng(0), "unseen")
    asked = set(challenge.targets.labels)
    assert len(asked) == 2
    assert sorted(record_keys(challenge.public)) == sorted(record_keys(data.public[~np.isin(data.public.y, [*asked])]))
    assert set(challenge.ground_truth.public.y) == set(range(5))  # the judge compares with all of them
    baseline = INVERSION.baseline(challenge, 0)
    assert np.allclose(baseline, challenge.public.x.mean(0))
    one = drawn(classes=1)
    with pytest.raises(UserError, match="too few classes"):
        INVERSION.challenge(one, np.random.default_rng(0), "unseen")


def test_codes_are_shown_to_those_who_may_encode_and_the_records_to_nobody() -> None:
    challenge = INVERSION.challenge(drawn(), np.random.default_rng(0))

    def encode(x: NDArray[Any]) -> NDArray[Any]:
        return x.reshape(len(x), -1)[:, :3]

    release = Release(NoOpDpEvent(), predict=encode, encode=encode)
    assert np.array_equal(INVERSION.targets_visible(challenge, release).codes, encode(challenge.ground_truth.true.x))
    assert INVERSION.targets_visible(challenge, release.only({"predict"})).codes is None
    assert challenge.targets.codes is None


def test_asks_for_pictures() -> None:
    assert GAMES["inversion"] is INVERSION
    registry = components()
    attack, defense = registry.attacks["gradient_inversion"], registry.defenses["none"]
    assert missing(attack, defense, registry.data["breast_cancer"]) == ("pictures",)
    assert missing(attack, defense, registry.data["digits"]) == ()


# The baseline answer


def test_baseline_answer_is_the_mean_public_record_of_the_label() -> None:
    data = drawn()
    public = data.public[np.flatnonzero(data.public.y != 2)]
    challenge = INVERSION.challenge(replace(data, public=public), np.random.default_rng(0))
    for picture, label in zip(INVERSION.baseline(challenge, 0), challenge.targets.labels, strict=True):
        own = public.x[public.y == label] if label != 2 else public.x
        assert np.allclose(picture, own.mean(0), atol=1e-6)


def test_baseline_answer_handed_in_as_an_attack_gains_exactly_nothing(recognise: list[Examples]) -> None:
    challenge = INVERSION.challenge(drawn(), np.random.default_rng(0))
    found, _ = judged(INVERSION.baseline(challenge, 0), challenge)
    gains = [figure for name, figure in found.items() if name.endswith("gain")]
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
    assert found["recognition"]["low"] < 0.6  # five classes, however many pictures
    swapped, _ = judged(np.roll(true, 1, axis=0), challenge)
    assert swapped["recognition"]["value"] == swapped["identified"]["value"] == 0
    assert swapped["gain"]["high"] < 0
    assert swapped["ssim"]["value"] < 0.9


def test_similarity_tells_copies_of_private_records_from_public_and_fresh_ones(recognise: list[Examples]) -> None:
    """At 1e-6; the mutant, in whose pools private records are many more, calls fresh ones private."""
    data = drawn(classes=20, sizes=(600, 400, 100))
    challenge = INVERSION.challenge(data, np.random.default_rng(0))
    fresh = np.concatenate([data.holdout.x[data.holdout.y == k][:1] for k in challenge.targets.labels])
    copies = challenge.ground_truth.private.x[
        [np.flatnonzero(challenge.ground_truth.private.y == k)[0] for k in range(20)] * 2
    ]
    for answer, sign in ((copies, 1), (challenge.ground_truth.public.x[:40], -1), (fresh, 0)):
        figure = judged(answer, challenge)[0]["closer_to_private"]
        deviations = figure["value"] / figure["se"]
        assert abs(deviations) < SIGMAS if sign == 0 else sign * deviations > SIGMAS
    few = challenge.ground_truth.public[:5]
    mutant = replace(challenge, ground_truth=replace(challenge.ground_truth, public=few))
    figure = judged(fresh, mutant)[0]["closer_to_private"]
    assert figure["value"] / figure["se"] > SIGMAS


@pytest.mark.parametrize("wrong", ["shape", "count", "integers", "nan", "above", "below"])
def test_no_pictures_are_refused(wrong: str, recognise: list[Examples]) -> None:
    challenge = INVERSION.challenge(drawn(), np.random.default_rng(0))
    answer = challenge.ground_truth.true.x.copy()
    if wrong in ("nan", "above", "below"):
        answer[3, 2, 1] = {"nan": np.nan, "above": 1.001, "below": -1e-3}[wrong]
    answer = {"shape": answer[..., 0], "count": answer[1:], "integers": np.zeros(answer.shape, int)}.get(wrong, answer)
    with pytest.raises(ValueError, match=r"expected pictures|pixels are not between"):
        judged(answer, challenge)


def test_judged_by_what_nobody_attacked(recognise: list[Examples]) -> None:
    """The network gets the holdout and nothing else; the seed for it is one for all cells of a split."""
    data = drawn()
    challenge = INVERSION.challenge(data, np.random.default_rng(0))
    judged(challenge.ground_truth.true.x, challenge)
    [given] = recognise
    assert given is data.holdout
    assert not set(record_keys(given)) & {key for part in (data.private, data.public) for key in record_keys(part)}


def test_an_evaluation_network_that_recognises_little_is_doubted(recognise: list[Examples]) -> None:
    data = drawn()
    shuffled = Examples(data.holdout.x, np.random.default_rng(0).permutation(data.holdout.y), 5)
    challenge = INVERSION.challenge(replace(data, holdout=shuffled), np.random.default_rng(0))
    found, caveats = judged(challenge.ground_truth.true.x, challenge)
    assert found["evaluation_accuracy"]["value"] < 0.8
    assert len(caveats) == 1
    assert "evaluation network" in caveats[0]


def test_a_single_class_has_no_spread(recognise: list[Examples]) -> None:
    challenge = INVERSION.challenge(drawn(classes=2), np.random.default_rng(0), "unseen")
    found, _ = judged(challenge.ground_truth.true.x, challenge)
    assert "one class" in found["ssim"]["not_measurable"]
    assert found["recognition"]["value"] == 1


def test_contact_sheet_shows_truth_answer_and_blind_answer() -> None:
    challenge = INVERSION.challenge(drawn(), np.random.default_rng(0))
    answer = np.full(challenge.ground_truth.true.x.shape, 0.2, np.float32)
    assert INVERSION.contact_sheet
    rows = INVERSION.contact_sheet(answer, INVERSION.baseline(challenge, 0), challenge)
    assert list(rows) == ["true", "reconstructed", "baseline"]
    assert all(row.dtype == np.uint8 and row.shape == (40, 8, 8, 1) for row in rows.values())
    assert (rows["reconstructed"] == 51).all()


def test_evaluation_network_knows_digits_that_were_moved_or_have_noise_and_is_sure_of_its_seed() -> None:
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


# Similarity


def slow_ssim(a: NDArray[Any], b: NDArray[Any], size: int) -> float:
    """Wang et al. 2004, equations 13 to 17, window by window."""
    around = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * 1.5**2))
    weights = np.outer(around, around)
    weights /= weights.sum()
    found = []
    height, width, colours = a.shape
    for i, j, c in itertools.product(range(height - size + 1), range(width - size + 1), range(colours)):
        x, y = (z[i : i + size, j : j + size, c].astype(float) for z in (a, b))
        mx, my = (weights * x).sum(), (weights * y).sum()
        vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
        cov = (weights * (x - mx) * (y - my)).sum()
        one, two = 0.01**2, 0.03**2
        found.append((2 * mx * my + one) * (2 * cov + two) / ((mx**2 + my**2 + one) * (vx + vy + two)))
    return float(np.mean(found))


@pytest.mark.parametrize(
    ("shape", "window"), [((8, 8, 1), 5), ((28, 28, 1), 11), ((12, 30, 3), 7), ((3, 4, 1), None), ((1, 1, 1), 1)]
)
def test_ssim_is_that_of_every_pair_window_by_window(shape: tuple[int, int, int], window: int | None) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((3, *shape), np.float32), rng.random((4, *shape), np.float32)
    b[0], b[1] = a[1], 0.7 * a[2]
    found = ssim(a, b)
    if window and shape[0] // 2 | 1 == shape[1] // 2 | 1:
        assert np.allclose(found, [[slow_ssim(x, y, window) for y in b] for x in a], atol=1e-9)
    assert found.shape == (3, 4)
    assert found[1, 0] == pytest.approx(1)
    assert (np.abs(found) <= 1 + 1e-12).all()
    assert np.allclose(ssim(b, a), found.T)
    assert np.allclose(own_ssim(a, b[:3]), np.diag(found[:, :3]))


def test_ssim_is_tensorflows_where_that_has_room_for_its_window() -> None:
    import tensorflow as tf

    rng = np.random.default_rng(1)
    a, b = rng.random((6, 28, 36, 3), np.float32), rng.random((6, 28, 36, 3), np.float32)
    b[:3] = 0.8 * a[:3] + 0.2 * b[:3]
    theirs = tf.image.ssim(a, b, max_val=1.0).numpy()
    assert np.allclose(own_ssim(a, b), theirs, atol=1e-5)
    # a mutant without the covariance of the two pictures is not
    assert not np.allclose(own_ssim(a, a[::-1]), theirs, atol=1e-5)
