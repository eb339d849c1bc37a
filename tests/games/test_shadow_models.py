"""Shadows are what the defense makes of records that the adversary chose, as many as it met, once for everybody."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import components, quick
from dp_accounting import NonPrivateDpEvent
from numpy.typing import NDArray
from scipy.stats import binom

from attacks.lira import logits
from attacks.rmia import true_probability
from bench.core.component import Choice
from bench.core.dataset import Examples, Split, record_keys
from bench.core.errors import Caveat, UserError
from bench.core.game import Challenge
from bench.core.release import Release
from bench.dp import train
from bench.dp.weights_cache import WeightsCache
from bench.games import MEMBERSHIP, shadow_models
from bench.games.shadow_models import QUARTERS, check_same_distribution, member_share, parts, query, train_shadows
from bench.models.classifier import classify
from bench.runner import play


def asked(data: Split, of: str = "private", seed: int = 0) -> Challenge:
    return MEMBERSHIP.challenge(data, np.random.default_rng(seed), of)


@dataclass
class Spy:
    """A defense that keeps what it was handed and says the same to everyone."""

    calls: list[tuple[Examples, int, Examples | None]] = field(default_factory=list)

    def retrain(self, private: Examples, seed: int, public: Examples | None = None) -> Release:
        self.calls.append((private, seed, public))
        return Release(NonPrivateDpEvent(), predict=lambda x: np.full((len(x), 10), 0.1))

    @property
    def release(self) -> Release:
        return Release(NonPrivateDpEvent(), retrain=self.retrain)


# Who is drawn


@pytest.mark.parametrize(("n", "size"), [(320, 160), (320, 200), (1640, 300), (17, 3), (5, 4)])
@pytest.mark.parametrize("count", [2, 3, 4, 16, 64])
def test_parts_are_as_large_as_asked_and_as_even_as_can_be(n: int, size: int, count: int) -> None:
    inside = parts(n, size, count, seed=3)
    assert inside.shape == (count, n)
    assert (inside.sum(1) == size).all()
    for start in range(0, count - len(QUARTERS) + 1, len(QUARTERS)):
        seen = inside[start : start + len(QUARTERS)].sum(0)
        assert seen.min() >= np.floor(len(QUARTERS) * size / n)
        assert seen.max() <= np.ceil(len(QUARTERS) * size / n)


def test_halves_leave_nobody_without_a_shadow_on_either_side() -> None:
    inside = parts(100, 50, 2, seed=0)
    assert (inside.sum(0) == 1).all()


def test_every_record_is_drawn_by_the_same_chance_whatever_its_place() -> None:
    drawn = np.stack([parts(12, 4, 1, seed)[0] for seed in range(3000)]).sum(0)
    low, high = binom.ppf([1e-6 / 24, 1 - 1e-6 / 24], 3000, 1 / 3)
    assert ((drawn >= low) & (drawn <= high)).all()
    biased = np.stack([np.roll(np.arange(12) < 4, seed % 2) for seed in range(3000)]).sum(0)  # never more than a step
    assert not ((biased >= low) & (biased <= high)).all()


def test_the_first_shadows_are_the_same_however_many_follow() -> None:
    assert np.array_equal(parts(50, 20, 5, seed=1), parts(50, 20, 64, seed=1)[:5])
    assert not np.array_equal(parts(50, 20, 5, seed=1), parts(50, 20, 5, seed=2))


def test_a_shadow_sees_the_records_that_it_is_said_to_have_seen(digits: Split) -> None:
    challenge, spy = asked(digits), Spy()
    trained = train_shadows(spy.release, challenge.targets, challenge.public, 6)
    targets = challenge.targets
    pool = {*record_keys(digits.private), *record_keys(digits.holdout)}
    label = dict(zip(record_keys(targets.records), targets.records.y, strict=True))
    for row, (private, _, public) in zip(trained.inside, spy.calls, strict=True):
        own = record_keys(private)
        assert np.array_equal(row, [key in set(own) for key in record_keys(targets.records)])
        assert len(set(own)) == len(own) == len(digits.private)
        assert set(own) <= pool
        assert all(label.get(key, y) == y for key, y in zip(own, private.y, strict=True))
        assert public is None
    assert len({seed for _, seed, _ in spy.calls}) == 6


def test_in_a_question_about_public_records_these_are_drawn(digits: Split) -> None:
    """What is out of a shadow's public records is in nothing of it: the private ones are of neither side."""
    challenge, spy = asked(digits, "public"), Spy()
    trained = train_shadows(spy.release, challenge.targets, challenge.public, 4)
    for row, (private, _, public) in zip(trained.inside, spy.calls, strict=True):
        assert public is not None
        assert len(public) == len(digits.public)
        assert np.array_equal(row, np.isin(record_keys(challenge.targets.records), record_keys(public)))
        assert private is challenge.public
    assert member_share(challenge.targets) == pytest.approx(100 / 160)


def test_one_shadow_is_refused_in_one_sentence(digits: Split) -> None:
    challenge = asked(digits)
    with pytest.raises(UserError, match=r"at least 2 shadows.*not 1"):
        train_shadows(Spy().release, challenge.targets, challenge.public, 1)


# The same shadows for everybody who asks


def test_neither_order_nor_who_is_known_changes_a_shadow(digits: Split) -> None:
    """Seeds come from the records' content; so the order of the question, in which a secret could hide, is not seen."""
    challenge, first, second = asked(digits), Spy(), Spy()
    targets = challenge.targets
    rows = np.random.default_rng(1).permutation(len(targets.records))
    one = train_shadows(first.release, targets, challenge.public, 4)
    other = train_shadows(second.release, replace(targets, records=targets.records[rows]), challenge.public, 4)
    assert np.array_equal(one.inside[:, rows], other.inside)
    for a, b in zip(first.calls, second.calls, strict=True):
        assert np.array_equal(a[0].x, b[0].x)
        assert a[1] == b[1]
    another = Spy()
    shifted = replace(targets, records=Examples(targets.records.x / 2, targets.records.y, 10))
    train_shadows(another.release, shifted, challenge.public, 4)
    assert another.calls[0][1] != first.calls[0][1]


def test_attacks_share_their_shadows(digits: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After LiRA has trained its shadows, jointly by rounds, RMIA trains nothing; the runner seeds them differently."""
    rounds: list[int] = []
    jointly = shadow_models.train_jointly

    def counted(calls: Any) -> Any:
        rounds.append(len(calls))
        return jointly(calls)

    monkeypatch.setattr(shadow_models, "train_jointly", counted)
    trained: list[int] = []
    defense = components().defenses["none"]
    challenge = asked(digits)
    with train.caching(WeightsCache(tmp_path)):
        release = play.release(digits, Choice(defense, quick(defense)), 0)
        for seed, name, options in ((1, "lira", {"shadows": 8}), (2, "rmia", {"references": 1})):
            function = components().attacks[name].function
            function(release, challenge.targets, challenge.public, seed=seed, **options)
            trained.append(len(list(tmp_path.glob("*.npz"))))  # one file per joint training
    assert rounds == [4, 4, 4]
    assert trained == [3, 3]


# Through the defense


ALL = [pytest.param(name, marks=pytest.mark.slow) for name in ("none", "dp_augm", "dp_vaegm")]


@pytest.mark.parametrize("name", ["dp_sgd", *ALL])
def test_a_shadow_is_the_defense_on_its_records(name: str, digits: Split) -> None:
    """It is what the defense's own function makes of the same records and seed, noise and all."""
    defense = components().defenses[name]
    choice = Choice(defense, quick(defense))
    challenge, kept = asked(digits), Spy()
    release = play.release(digits, choice, 0)
    trained = train_shadows(release, challenge.targets, challenge.public, 2)
    train_shadows(kept.release, challenge.targets, challenge.public, 2)
    for shadow, (private, seed, _) in zip(trained.releases, kept.calls, strict=True):
        alone = defense.function(private, digits.public, seed=seed, **quick(defense))
        assert shadow.dp_event == release.dp_event
        assert np.allclose(shadow.predict(digits.holdout.x), alone.predict(digits.holdout.x), atol=1e-4)


@pytest.mark.parametrize(
    "statistic",
    [logits, pytest.param(lambda p, y: np.log(true_probability(p, y)), marks=pytest.mark.slow)],
    ids=["lira", "rmia"],
)
def test_shadows_of_the_undefended_model_are_doubted(digits: Split, statistic: Any) -> None:
    """The mutant: a defended release beside shadows that were trained without the defense."""
    defense = components().defenses["dp_sgd"]
    challenge = asked(digits)
    release = play.release(digits, Choice(defense, {"steps": 30, "epsilon": 1.0}), 0)

    def undefended(private: Examples, seed: int, public: Examples | None = None) -> Release:
        return Release(NonPrivateDpEvent(), predict=classify(private, seed).predict)

    records = challenge.targets.records
    for given, alike in ((release, True), (replace(release, retrain=undefended), False)):
        trained = train_shadows(given, challenge.targets, challenge.public, 4)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check_same_distribution(query(release, statistic, records), trained.query(statistic, records))
        assert [warning.category for warning in caught] == ([] if alike else [Caveat])


def test_shadows_of_the_same_law_are_rarely_doubted_and_others_mostly() -> None:
    rng = np.random.default_rng(0)

    def doubted(shift: float) -> int:
        count = 0
        for _ in range(2000):
            means = rng.standard_normal(17)
            own, shadows = np.full(5, means[0] + shift), np.tile(means[1:, None], 5)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                check_same_distribution(own, shadows)
            count += len(caught)
        return count

    assert doubted(0) <= binom.isf(1e-6, 2000, 1e-3)
    assert doubted(8) > 1900


def test_a_constant_release_is_like_its_shadows() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_same_distribution(np.full(7, -2.1972), np.full((4, 7), -2.1972))


# Questions


def test_shadows_are_asked_once_each_for_all_records(digits: Split) -> None:
    sizes: list[int] = []

    def predict(x: NDArray[Any]) -> NDArray[Any]:
        sizes.append(len(x))
        return np.tile(np.linspace(0, 1, 10) / 5, (len(x), 1))

    def retrain(*_: Any) -> Release:
        return Release(NonPrivateDpEvent(), predict=predict)

    challenge = asked(digits)
    trained = train_shadows(Release(NonPrivateDpEvent(), retrain=retrain), challenge.targets, challenge.public, 3)
    seen = trained.query(true_probability, challenge.targets.records)
    assert sizes == [240] * 3
    assert np.allclose(seen, challenge.targets.records.y / 45)
