"""The insider's game: its judge recognises leaked records, and attacks find a leak if and only if there is one."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from conftest import components
from numpy.typing import NDArray

from bench.core.dataset import DataLocation, Examples, Split
from bench.core.errors import Caveat, UserError
from bench.core.game import Challenge
from bench.core.release import Release
from bench.dp.accounting import no_privacy
from bench.dp.train import caching
from bench.dp.weights_cache import WeightsCache
from bench.games import GAN_LEAKAGE, INVERSION, GanLeakageTargets
from bench.models.federated import protocol as federation
from bench.models.federated.plan import Plan
from defenses.federated import federated

SEED = 1
LABEL = 4  # the target class with this seed
SIZES = {"private": 800, "holdout": 500, "public": 490}
PLAN: dict[str, Any] = {"rounds": 30, "local_steps": 10, "hidden": (32,)}


@pytest.fixture(scope="module", autouse=True)
def _cached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trains once what several tests train on the same records."""
    with caching(WeightsCache(tmp_path_factory.mktemp("cache") / "fits")):
        yield
    for function in (release, found):
        function.cache_clear()  # TensorFlow warns of functions that outlive it


@cache
def digits() -> Split:
    data: Split = components().data["digits"].function(DataLocation(), np.random.default_rng(0), **SIZES)
    return data


@cache
def challenge() -> Challenge:
    return GAN_LEAKAGE.challenge(digits(), np.random.default_rng(SEED))


@cache
def baseline() -> NDArray[Any]:
    return GAN_LEAKAGE.baseline(challenge(), 0)


def judged(answer: NDArray[Any]) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Caveat)
        return dict(GAN_LEAKAGE.judge(answer, baseline(), challenge(), np.random.default_rng(0)))


def records_of(label: int, part: Examples) -> NDArray[Any]:
    rows = np.flatnonzero(part.y == label)[:40]  # as many as the judge compares with
    return part.x[np.resize(rows, challenge().targets.n)]


# --- the game ---


def test_the_insider_has_no_record_of_the_victims_class() -> None:
    targets, ground_truth = challenge().targets, challenge().ground_truth
    assert isinstance(targets, GanLeakageTargets)
    assert targets.label == LABEL
    assert not (targets.records.y == targets.label).any()
    assert set(targets.records.y) == set(range(10)) - {targets.label}
    assert len(targets.records) == (digits().public.y != targets.label).sum()
    assert (ground_truth.private.y == targets.label).all()
    assert (ground_truth.public.y == targets.label).all()
    assert challenge().public is targets.records
    labels = {GAN_LEAKAGE.challenge(digits(), np.random.default_rng(s)).targets.label for s in range(20)}
    assert len(labels) > 5


def test_true_records_are_recognised_and_those_of_another_class_are_not() -> None:
    label = challenge().targets.label
    leak = judged(records_of(label, challenge().ground_truth.private))
    other = judged(records_of((label + 1) % 10, digits().private))
    assert leak["headline"] == "recognition"
    assert leak["chance"] == 0.1
    assert leak["recognition"]["value"] > 0.9
    assert leak["gain"]["low"] > 0.5
    assert leak["nearest_private"]["value"] == pytest.approx(1, abs=1e-6)
    assert leak["closer_to_private"]["low"] > 0
    assert leak["spread"] > 0.9
    assert other["recognition"]["value"] < 0.1
    assert other["gain"]["high"] < 0.1
    for found in (leak, other):
        assert all(
            -1 <= found[key][side] <= 1 for key in ("recognition", "gain", "baseline") for side in ("low", "high")
        )


def test_the_baseline_does_not_depend_on_private_records() -> None:
    """It is recognised little more often than by chance."""
    assert judged(baseline())["recognition"]["value"] < 0.4
    c = challenge()
    other = Challenge(c.targets, replace(c.ground_truth, private=c.ground_truth.public), c.public)
    assert np.array_equal(GAN_LEAKAGE.baseline(other, 0), baseline())


def test_a_repeated_picture_has_a_caveat() -> None:
    label = challenge().targets.label
    one = np.repeat(records_of(label, digits().private)[:1], challenge().targets.n, 0)
    with pytest.warns(Caveat, match="are one picture"):
        GAN_LEAKAGE.judge(one, baseline(), challenge(), np.random.default_rng(0))


@pytest.mark.parametrize(
    "spoil", [lambda x: x[:-1], lambda x: x[..., 0], lambda x: x * 255, lambda x: x * np.nan, lambda x: x.astype(int)]
)
def test_an_answer_that_is_no_pictures_is_refused(spoil: Any) -> None:
    with pytest.raises(ValueError, match=r"pi(ctures|xels)"):
        GAN_LEAKAGE.judge(spoil(baseline()), baseline(), challenge(), np.random.default_rng(0))


def test_a_single_class_is_refused() -> None:
    one = digits().private[np.flatnonzero(digits().private.y == 1)]
    with pytest.raises(UserError, match="too few classes"):
        GAN_LEAKAGE.challenge(Split("one", one, one, one), np.random.default_rng(0))


def test_the_contact_sheet_shows_truth_answer_and_baseline() -> None:
    assert GAN_LEAKAGE.contact_sheet
    rows = GAN_LEAKAGE.contact_sheet(baseline(), baseline(), challenge())
    assert list(rows) == ["true", "reconstructed", "baseline"]
    assert all(row.dtype == np.uint8 and row.shape[1:] == (8, 8, 1) for row in rows.values())


# --- the insider ---


@cache
def release() -> Release:
    return federated(digits().private, digits().public, seed=0, **PLAN).only({"join"})


def play(released: Release, targets: GanLeakageTargets | None = None, **options: Any) -> NDArray[Any]:
    attack = components().attacks["insider_gan"]
    targets = targets or challenge().targets
    answer: NDArray[Any] = attack.function(released, targets, challenge().public, seed=1, **options)
    return answer


@cache
def found() -> NDArray[Any]:
    return play(release())


def test_the_insider_reconstructs_an_unseen_class() -> None:
    result = judged(found())
    assert result["recognition"]["low"] > 0.5
    assert result["gain"]["low"] > 0.3
    assert result["spread"] > 0.1


def test_the_insider_does_not_reconstruct_a_class_of_noise() -> None:
    """The null control: the records with the target label are noise."""
    private, label = digits().private, challenge().targets.label
    x = private.x.copy()
    rows = np.flatnonzero(private.y == label)
    x[rows] = np.random.default_rng(0).random((len(rows), *private.shape))
    noise = federated(Examples(x, private.y, 10), digits().public, seed=0, **PLAN)
    assert judged(play(noise))["recognition"]["value"] < 0.4


@pytest.mark.slow
def test_an_insider_who_targets_another_class_fails() -> None:
    targets = replace(challenge().targets, label=(challenge().targets.label + 1) % 10)
    assert judged(play(release(), targets))["recognition"]["value"] < 0.3


@pytest.mark.slow
def test_the_same_seed_gives_the_same_pictures() -> None:
    quick = federated(digits().private, digits().public, seed=0, rounds=2, local_steps=2)
    assert np.array_equal(play(quick, reject=0.0), play(quick, reject=0.0))


@pytest.mark.parametrize(
    "option", [{"norm_bound": 0.05}, pytest.param({"upload": 0.1}, marks=pytest.mark.slow)], ids=str
)
def test_the_updates_of_the_insider_are_accepted(option: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[federation.Run] = []
    join = federation.Federation.join

    def recorded(self: federation.Federation, *enter: Any) -> federation.Run:
        runs.append(join(self, *enter))
        return runs[-1]

    monkeypatch.setattr(federation.Federation, "join", recorded)
    play(federated(digits().private, digits().public, seed=0, rounds=3, local_steps=2, **option), reject=0.0)
    assert not [reason for run in runs for reason in run.refused if "joined" in reason]


# --- the server as observer ---


class OneRecord:
    """The updates of clients with one record each, after one step of gradient descent."""

    def __init__(self, records: Examples) -> None:
        self.records = records

    def __call__(self) -> Any:
        plan = Plan(clients=len(self.records), classes_each=10, hidden=(32,), rounds=1, local_steps=1, batch_size=1)
        fed = federation.federation(self.records, plan, 0)
        shards = [Examples(self.records.x[[i]], self.records.y[[i]], 11) for i in range(len(self.records))]
        rows = [np.array([i]) for i in range(len(self.records))]
        return replace(fed, shards=shards, rows=rows, rate=1.0, batch_size=1.0).updates()


def observed(records: Examples, labels: NDArray[Any], **options: Any) -> NDArray[Any]:
    released = Release(no_privacy(), updates=OneRecord(records))
    targets = INVERSION.challenge(digits(), np.random.default_rng(0)).targets
    targets = replace(targets, labels=labels)
    attack = components().attacks["gradient_leakage"]
    answer: NDArray[Any] = attack.function(released, targets, digits().public, seed=0, **options)
    return answer


def test_the_gradient_of_one_record_reveals_the_record() -> None:
    """Deep leakage: an attack reconstructs the record of a client from its update, given the true label."""
    first = [int(np.flatnonzero(digits().private.y == k)[0]) for k in (2, 5, 7)]
    records = digits().private[np.array(first)]
    options = {"steps": 400, "smoothness": 0.0, "cosines": 0}
    answer = observed(records, records.y, **options)
    errors = np.sqrt(((answer - records.x) ** 2).mean((1, 2, 3)))
    assert errors.max() < 0.05
    wrong = observed(records, np.roll(records.y, 1), **options)
    assert np.sqrt(((wrong - records.x) ** 2).mean((1, 2, 3))).min() > 0.15


def test_options_out_of_range_are_refused_in_one_sentence() -> None:
    names = ("generator_steps", "judges", "closeness", "inject", "reject")
    wrong: list[dict[str, Any]] = [{name: -1} for name in names]
    for options in (*wrong, {"learning_rate": math.nan}):
        with pytest.raises(UserError) as caught:
            play(release(), **options)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="first is a round"):
        observed(digits().private[:1], np.array([0]), first=0)
