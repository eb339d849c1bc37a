"""Shadow models: the defense trained on sampled records, of the size of its training set, once for all attacks."""

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


def challenged(data: Split, of: str = "private", seed: int = 0) -> Challenge:
    return MEMBERSHIP.challenge(data, np.random.default_rng(seed), of)


@dataclass
class RecordingDefense:
    """A defense that records the arguments of `retrain` and releases a constant model."""

    calls: list[tuple[Examples, int, Examples | None]] = field(default_factory=list)

    def retrain(self, private: Examples, seed: int, public: Examples | None = None) -> Release:
        self.calls.append((private, seed, public))
        return Release(NonPrivateDpEvent(), predict=lambda x: np.full((len(x), 10), 0.1))

    @property
    def release(self) -> Release:
        return Release(NonPrivateDpEvent(), retrain=self.retrain)


# Sampled records


@pytest.mark.parametrize(("n", "size"), [(320, 160), (320, 200), (1640, 300), (17, 3), (5, 4)])
@pytest.mark.parametrize("count", [2, 3, 4, 16, 64])
def test_parts_have_the_requested_size_and_are_balanced(n: int, size: int, count: int) -> None:
    inside = parts(n, size, count, seed=3)
    assert inside.shape == (count, n)
    assert (inside.sum(1) == size).all()
    for start in range(0, count - len(QUARTERS) + 1, len(QUARTERS)):
        counts = inside[start : start + len(QUARTERS)].sum(0)
        assert counts.min() >= np.floor(len(QUARTERS) * size / n)
        assert counts.max() <= np.ceil(len(QUARTERS) * size / n)


def test_halves_give_every_record_a_shadow_with_and_one_without_it() -> None:
    inside = parts(100, 50, 2, seed=0)
    assert (inside.sum(0) == 1).all()


def test_every_record_is_sampled_with_the_same_probability() -> None:
    drawn = np.stack([parts(12, 4, 1, seed)[0] for seed in range(3000)]).sum(0)
    low, high = binom.ppf([1e-6 / 24, 1 - 1e-6 / 24], 3000, 1 / 3)
    assert ((drawn >= low) & (drawn <= high)).all()
    # The mutant: shifted by at most one.
    biased = np.stack([np.roll(np.arange(12) < 4, seed % 2) for seed in range(3000)]).sum(0)
    assert not ((biased >= low) & (biased <= high)).all()


def test_the_first_shadows_do_not_depend_on_the_number_of_shadows() -> None:
    assert np.array_equal(parts(50, 20, 5, seed=1), parts(50, 20, 64, seed=1)[:5])
    assert not np.array_equal(parts(50, 20, 5, seed=1), parts(50, 20, 5, seed=2))


def test_a_shadow_is_trained_on_the_stated_records(digits: Split) -> None:
    challenge, spy = challenged(digits), RecordingDefense()
    trained = train_shadows(spy.release, challenge.targets, challenge.public, 6)
    targets = challenge.targets
    pool = {*record_keys(digits.private), *record_keys(digits.holdout)}
    label = dict(zip(record_keys(targets.records), targets.records.y, strict=True))
    for row, (private, _, public) in zip(trained.inside, spy.calls, strict=True):
        keys = record_keys(private)
        assert np.array_equal(row, [key in set(keys) for key in record_keys(targets.records)])
        assert len(set(keys)) == len(keys) == len(digits.private)
        assert set(keys) <= pool
        assert all(label.get(key, y) == y for key, y in zip(keys, private.y, strict=True))
        assert public is None
    assert len({seed for _, seed, _ in spy.calls}) == 6


def test_public_targets_are_sampled_into_the_public_part(digits: Split) -> None:
    """A target that is not in the public part of a shadow is not in its private part either."""
    challenge, spy = challenged(digits, "public"), RecordingDefense()
    trained = train_shadows(spy.release, challenge.targets, challenge.public, 4)
    for row, (private, _, public) in zip(trained.inside, spy.calls, strict=True):
        assert public is not None
        assert len(public) == len(digits.public)
        assert np.array_equal(row, np.isin(record_keys(challenge.targets.records), record_keys(public)))
        assert private is challenge.public
    assert member_share(challenge.targets) == pytest.approx(100 / 160)


def test_one_shadow_is_refused_in_one_sentence(digits: Split) -> None:
    challenge = challenged(digits)
    with pytest.raises(UserError, match=r"at least 2 shadows.*not 1"):
        train_shadows(RecordingDefense().release, challenge.targets, challenge.public, 1)


# The same shadows for all attacks


def test_the_order_of_the_targets_does_not_change_a_shadow(digits: Split) -> None:
    """Seeds depend on the content of the records, so the order of the targets cannot leak the ground truth."""
    challenge, first, second = challenged(digits), RecordingDefense(), RecordingDefense()
    targets = challenge.targets
    rows = np.random.default_rng(1).permutation(len(targets.records))
    one = train_shadows(first.release, targets, challenge.public, 4)
    other = train_shadows(second.release, replace(targets, records=targets.records[rows]), challenge.public, 4)
    assert np.array_equal(one.inside[:, rows], other.inside)
    for a, b in zip(first.calls, second.calls, strict=True):
        assert np.array_equal(a[0].x, b[0].x)
        assert a[1] == b[1]
    another = RecordingDefense()
    shifted = replace(targets, records=Examples(targets.records.x / 2, targets.records.y, 10))
    train_shadows(another.release, shifted, challenge.public, 4)
    assert another.calls[0][1] != first.calls[0][1]


def test_attacks_share_their_shadows(digits: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LiRA trains its shadows jointly in rounds; RMIA, with another seed, then trains none."""
    rounds: list[int] = []
    jointly = shadow_models.train_jointly

    def recorded(calls: Any) -> Any:
        rounds.append(len(calls))
        return jointly(calls)

    monkeypatch.setattr(shadow_models, "train_jointly", recorded)
    trained: list[int] = []
    defense = components().defenses["none"]
    challenge = challenged(digits)
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
    """It equals the release of the function of the defense with the same records and seed, noise included."""
    defense = components().defenses[name]
    choice = Choice(defense, quick(defense))
    challenge, recording = challenged(digits), RecordingDefense()
    release = play.release(digits, choice, 0)
    trained = train_shadows(release, challenge.targets, challenge.public, 2)
    train_shadows(recording.release, challenge.targets, challenge.public, 2)
    for shadow, (private, seed, _) in zip(trained.releases, recording.calls, strict=True):
        alone = defense.function(private, digits.public, seed=seed, **quick(defense))
        assert shadow.dp_event == release.dp_event
        assert np.allclose(shadow.predict(digits.holdout.x), alone.predict(digits.holdout.x), atol=1e-4)


@pytest.mark.parametrize(
    "statistic",
    [logits, pytest.param(lambda p, y: np.log(true_probability(p, y)), marks=pytest.mark.slow)],
    ids=["lira", "rmia"],
)
def test_shadows_without_the_defense_have_a_caveat(digits: Split, statistic: Any) -> None:
    """The mutant: shadows trained without the defense of the release."""
    defense = components().defenses["dp_sgd"]
    challenge = challenged(digits)
    release = play.release(digits, Choice(defense, {"steps": 30, "epsilon": 1.0}), 0)

    def undefended(private: Examples, seed: int, public: Examples | None = None) -> Release:
        return Release(NonPrivateDpEvent(), predict=classify(private, seed).predict)

    records = challenge.targets.records
    for released, same in ((release, True), (replace(release, retrain=undefended), False)):
        trained = train_shadows(released, challenge.targets, challenge.public, 4)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check_same_distribution(query(release, statistic, records), trained.query(statistic, records))
        assert [warning.category for warning in caught] == ([] if same else [Caveat])


def test_the_caveat_has_its_error_rate_and_power() -> None:
    rng = np.random.default_rng(0)

    def caveats(shift: float) -> int:
        count = 0
        for _ in range(2000):
            means = rng.standard_normal(17)
            release, shadows = np.full(5, means[0] + shift), np.tile(means[1:, None], 5)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                check_same_distribution(release, shadows)
            count += len(caught)
        return count

    assert caveats(0) <= binom.isf(1e-6, 2000, 1e-3)
    assert caveats(8) > 1900


def test_a_constant_release_has_no_caveat() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_same_distribution(np.full(7, -2.1972), np.full((4, 7), -2.1972))


# Queries


def test_each_shadow_is_queried_once_for_all_records(digits: Split) -> None:
    sizes: list[int] = []

    def predict(x: NDArray[Any]) -> NDArray[Any]:
        sizes.append(len(x))
        return np.tile(np.linspace(0, 1, 10) / 5, (len(x), 1))

    def retrain(*_: Any) -> Release:
        return Release(NonPrivateDpEvent(), predict=predict)

    challenge = challenged(digits)
    trained = train_shadows(Release(NonPrivateDpEvent(), retrain=retrain), challenge.targets, challenge.public, 3)
    queried = trained.query(true_probability, challenge.targets.records)
    assert sizes == [240] * 3
    assert np.allclose(queried, challenge.targets.records.y / 45)
