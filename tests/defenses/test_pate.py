"""PATE: disjoint teachers, the sensitivity of the votes, and a student that does not use public labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from conftest import components, quick
from noise_checks import variance_fits
from numpy.typing import NDArray

import defenses.pate as pate
from bench.core.dataset import Examples, Split
from bench.core.release import Release
from bench.dp import accounting, gaussian_mechanism
from bench.dp.recipe import Recipe

TEACHERS = 8


class Recorder:
    """Records the inputs of the Gaussian mechanism, and the data and recipes of teachers and student."""

    def __init__(self) -> None:
        self.noised: list[tuple[NDArray[Any], float, float]] = []
        self.noise: list[NDArray[Any]] = []
        self.teachers: list[tuple[Recipe, Sequence[Examples]]] = []
        self.student: list[Examples] = []


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    found = Recorder()
    gaussian, train, classify = gaussian_mechanism.gaussian, pate.train, pate.classify

    def noised(values: Any, sensitivity: float, multiplier: float, rng: Any) -> Any:
        found.noised.append((values, sensitivity, multiplier))
        out = gaussian(values, sensitivity, multiplier, rng)
        found.noise.append(out - values)
        return out

    def trained(recipe: Any, parts: Any, *rest: Any) -> Any:
        found.teachers.append((recipe, parts))
        return train(recipe, parts, *rest)

    def classified(examples: Any, *rest: Any) -> Any:
        found.student.append(examples)
        return classify(examples, *rest)

    monkeypatch.setattr(gaussian_mechanism, "gaussian", noised)
    monkeypatch.setattr(pate, "train", trained)
    monkeypatch.setattr(pate, "classify", classified)
    yield found
    found.__init__()  # type: ignore[misc]  # TensorFlow warns of functions that outlive it


def run(private: Examples, public: Examples, seed: int = 0, **changed: Any) -> Release:
    options = {"teachers": TEACHERS, "queries": 60, "features": "none", **changed}
    release: Release = pate.pate(private, public, seed=seed, **quick(components().defenses["pate"], **options))
    return release


def without(examples: Examples, row: int) -> Examples:
    return examples[np.delete(np.arange(len(examples)), row)]


# Teachers


def test_the_teacher_of_a_record_does_not_depend_on_the_other_records(digits: Split) -> None:
    rows = pate.assigned(digits.private, TEACHERS, 0)
    assert sorted(np.concatenate(rows)) == list(range(len(digits.private)))
    keys = [digits.private.x[part].tobytes() for part in rows]
    for removed in (0, 57, len(digits.private) - 1):  # removing the first shifts all positions
        fewer = without(digits.private, removed)
        left = [fewer.x[part].tobytes() for part in pate.assigned(fewer, TEACHERS, 0)]
        [changed] = [k for k in range(TEACHERS) if left[k] != keys[k]]
        assert removed in rows[changed]
        assert len(left[changed]) == len(keys[changed]) - digits.private.x[0].nbytes
    backwards = digits.private[np.arange(len(digits.private))[::-1]]
    again = pate.assigned(backwards, TEACHERS, 0)
    assert [{len(digits.private) - 1 - row for row in part} for part in again] == [set(part) for part in rows]


def test_records_are_assigned_uniformly_and_by_the_seed() -> None:
    many = Examples(np.random.default_rng(0).random((4000, 3)), np.zeros(4000, int), 2)
    rows = pate.assigned(many, 10, 0)
    counts = np.array([len(part) for part in rows])
    assert np.abs(counts - 400).max() < 6 * math.sqrt(360)  # six standard deviations
    other = pate.assigned(many, 10, 1)
    common = sum(len(np.intersect1d(a, b)) for a, b in zip(rows, other, strict=True))
    assert abs(common - 400) < 6 * math.sqrt(360)


def test_the_recipe_of_teachers_does_not_depend_on_the_number_of_records(digits: Split, recorder: Recorder) -> None:
    for private in (digits.private, without(digits.private, 0), digits.private[:50]):
        run(private, digits.public)
    first, second, third = (recipe for recipe, _ in recorder.teachers)
    assert first == second == third
    assert first.rate == 1  # every record in each step, independent of their number


def test_teachers_without_records_vote(digits: Split, recorder: Recorder) -> None:
    few = digits.private[:3]
    release = run(few, digits.public, teachers=20)
    assert sum(len(part) == 0 for part in recorder.teachers[0][1]) >= 17
    votes = recorder.noised[0][0]
    assert (votes.sum(1) == 20).all()
    assert release.predict
    assert np.isfinite(release.predict(digits.holdout.x)).all()


# Votes


def test_the_histogram_equals_a_naive_count() -> None:
    rng = np.random.default_rng(0)
    votes = [rng.integers(0, 4, 9) for _ in range(7)]
    naive = np.zeros((9, 5), int)
    for labels in votes:
        for query, label in enumerate(labels):
            naive[query, label] += 1
    assert np.array_equal(pate.histogram(votes, 5), naive)


def test_one_record_changes_at_most_one_vote_per_query(digits: Split, recorder: Recorder) -> None:
    """On neighbouring data sets, one with an added outlier, the bounds are satisfied and attained."""
    public = digits.public
    odd = Examples(1 - digits.private.x[:1], digits.private.y[:1], 10)
    longer = Examples(
        np.concatenate([odd.x, digits.private.x]), np.concatenate([odd.y, digits.private.y]), digits.private.classes
    )
    farthest, largest = 0.0, 0.0
    for neighbour in (longer, *(without(digits.private, row) for row in (0, 99, 150))):
        recorder.noised.clear()
        for private in (digits.private, neighbour):
            run(private, public, queries=100, steps=20, threshold=0.5)
        (a, vote, _), (top, one, _), (b, _, _), (other_top, _, _) = recorder.noised
        assert np.array_equal(top, a.max(1))
        lengths = np.linalg.norm(a - b, axis=1)
        assert set(np.round(lengths**2)) <= {0, 2}, "more than one vote changed"
        farthest, largest = max(farthest, lengths.max()), max(largest, np.abs(top - other_top).max())
        assert lengths.max() <= vote * (1 + 1e-9)
        assert np.abs(top - other_top).max() <= one
    assert farthest == pytest.approx(vote)
    assert largest == one == 1


@pytest.mark.parametrize("threshold", [0.0, 0.4])
@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_noise_has_the_accounted_scale(epsilon: float, threshold: float, digits: Split, recorder: Recorder) -> None:
    release = run(digits.private, digits.public, epsilon=epsilon, threshold=threshold)
    uses = 2 if threshold else 1
    assert len(recorder.noised) == uses
    multipliers = {multiplier for _, _, multiplier in recorder.noised}
    [multiplier] = multipliers
    assert [sensitivity for _, sensitivity, _ in recorder.noised] == [math.sqrt(2), 1][:uses]
    assert sum(len(values) for values, _, _ in recorder.noised) == uses * 60
    assert release.dp_event == accounting.training_event(1.0, multiplier, uses * 60)
    assert accounting.claim(release.dp_event, 200)["epsilon"] <= epsilon
    deviation = math.sqrt(2) * multiplier
    assert variance_fits(recorder.noise[0], deviation)
    for wrong in (multiplier, 2 * multiplier):  # without the sensitivity, or with that of two votes
        assert not variance_fits(recorder.noise[0], wrong)


def test_without_privacy_every_public_record_gets_the_plurality_label(digits: Split, recorder: Recorder) -> None:
    release = run(digits.private, digits.public, epsilon=math.inf, queries=0)
    [(votes, _, _)] = recorder.noised
    assert len(votes) == len(digits.public)
    assert np.array_equal(recorder.student[0].y, votes.argmax(1))
    assert release.dp_event == accounting.no_privacy()


def test_the_number_of_queries_is_the_largest_that_the_noise_allows() -> None:
    delta = 1e-5
    for epsilon, teachers, uses in ((1.0, 250, 1), (8.0, 100, 1), (8.0, 100, 2)):
        n = pate.affordable(epsilon, delta, teachers, uses)
        for queries, fits in ((n, True), (n + 1 + n // 10, False)):
            noise = math.sqrt(2) * accounting.noise_multiplier(epsilon, delta, 1.0, queries * uses)
            assert (noise <= 1.01 * pate.QUIET * teachers) is fits
    assert pate.affordable(0.1, delta, 5, 1) == 1


# The student


def test_the_student_does_not_use_labels_of_public_records(digits: Split, recorder: Recorder) -> None:
    relabelled = Examples(digits.public.x, 9 - digits.public.y, 10)
    first, second = (run(digits.private, public) for public in (digits.public, relabelled))
    assert first.predict
    assert second.predict
    assert np.array_equal(first.predict(digits.holdout.x), second.predict(digits.holdout.x))
    (votes, _, _), *_ = recorder.noised
    student = recorder.student[0]
    assert np.array_equal(student.y, (votes + recorder.noise[0]).argmax(1))
    known = {x.tobytes(): x for x in digits.public.x}
    assert len({x.tobytes() for x in student.x} & known.keys()) == 60


def test_only_confident_votes_are_kept(digits: Split, recorder: Recorder) -> None:
    run(digits.private, digits.public, threshold=0.4, steps=20)
    (votes, _, _), (top, _, _) = recorder.noised
    clear = top + recorder.noise[1] >= 0.4 * TEACHERS
    assert 0 < clear.sum() < 60, "nothing is tested"
    assert np.array_equal(recorder.student[0].y, (votes + recorder.noise[0]).argmax(1)[clear])
    release = run(digits.private, digits.public, threshold=0.99, epsilon=math.inf)
    assert len(recorder.student[1]) < 60
    assert release.predict


def test_the_student_learns_from_the_teachers(digits: Split) -> None:
    """Chance is 0.1; the public records have no labels."""
    unlabelled = Examples(digits.public.x, np.zeros(len(digits.public), int), 10)
    release = pate.pate(digits.private, unlabelled, seed=0, epsilon=math.inf, teachers=5)
    assert release.predict
    right = release.predict(digits.holdout.x).argmax(1) == digits.holdout.y
    assert right.mean() > 0.7
