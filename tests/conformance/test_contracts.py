"""Every defense of the project passes the conformance checks: its declarations and its privacy claim hold.

By default the checks run on a few different defenses; the others take half an hour and are marked slow.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import components, quick
from dp_accounting import NoOpDpEvent

from bench.conformance import defense_checks, dp_checks
from bench.conformance.check import Check, Skip
from bench.conformance.defense_checks import another_seed_another_release, unmoved
from bench.conformance.dp_checks import passes_the_linter, zero_epsilon_reads_nothing
from bench.conformance.short_runs import ShortRuns
from bench.core.component import Choice, Component
from bench.core.dataset import Examples, Split
from bench.core.randomness import stream
from bench.core.release import Release
from bench.dp import accounting
from bench.lint.input_independence import input_independence
from bench.lint.neighbouring_datasets import disjoint_records
from bench.lint.probe_run import ProbeSetup
from bench.lint.release_outputs import INSPECTED
from bench.runner import play

DEFENSES = sorted(components().defenses)
PRIVATE = [name for name in DEFENSES if components().defenses[name].private]
GENERATE = [name for name in DEFENSES if "generate" in components().defenses[name].publishes]
CHECKS = (*defense_checks.CHECKS, *dp_checks.CHECKS)
# A constant one, one that trains a generator with DP, one that claims nothing, and one that reads no private record.
REPRESENTATIVES = {"constant", "dp_vaegm", "none", "random_encoder"}
KNOWN_OUTPUTS = {"predict", "model", "encode", "decode", "generate", "synthetic", "join", "updates"}


def representatives(names: Iterable[str]) -> list[Any]:
    """The names as parameters; all except the representatives are slow."""
    return [pytest.param(name, marks=[] if name in REPRESENTATIVES else pytest.mark.slow) for name in names]


def contracts() -> Iterator[Any]:
    """Every check that applies to each defense; the linter takes a minute, so by default it tests a constant one."""
    for name, check in itertools.product(DEFENSES, CHECKS):
        quick = name in REPRESENTATIVES and (check is not passes_the_linter or name == "constant")
        if not check.unless(defense(name)):
            yield pytest.param(name, check, id=f"{name}-{check}", marks=[] if quick else pytest.mark.slow)


def defense(name: str) -> Component:
    return components().defenses[name]


def train(name: str, private: Examples, public: Examples, seed: int = 0, **changed: Any) -> Release:
    component = defense(name)
    release: Release = component.function(private, public, seed=seed, **quick(component, **changed))
    return release


@cache
def tried(name: str) -> ShortRuns:
    """One release per defense and data set, shared by the tests that only read it."""
    return ShortRuns(Choice(defense(name)), components())


def trained(name: str, data: str = "digits") -> Release:
    return tried(name).release(data)


@pytest.fixture(scope="module", autouse=True)
def _let_go() -> Iterator[None]:
    """TensorFlow warns of functions that outlive it."""
    yield
    tried.cache_clear()


# The checks of `bench test`


@pytest.mark.parametrize(("name", "check"), list(contracts()))
def test_keeps_the_contract(name: str, check: Check[ShortRuns]) -> None:
    """Every check of the kit; where a check does not apply is stated here."""
    try:
        assert check(tried(name)) == []
    except Skip:
        assert name == "constant" if check is another_seed_another_release else check is zero_epsilon_reads_nothing


@pytest.mark.parametrize("name", representatives(name for name in DEFENSES if name != "constant"))
def test_another_seed_moves_all_that_it_lets_out(name: str) -> None:
    assert not unmoved(tried(name).outputs("breast_cancer"), tried(name).outputs("breast_cancer", seed=1))


@pytest.mark.parametrize("name", representatives(DEFENSES))
def test_which_defenses_read_no_private_record_is_known(name: str) -> None:
    """The check of an epsilon of 0 applies only to these."""
    reads_nothing = accounting.claim(trained(name).dp_event, 200)["epsilon"] == 0
    assert reads_nothing == (name in {"constant", "public_only", "random_encoder"})


# The release


@pytest.mark.parametrize("name", representatives(DEFENSES))
def test_published_accesses_can_be_hidden(name: str) -> None:
    release = trained(name)
    assert release.published() <= KNOWN_OUTPUTS, "extend `outputs` here by the new access"
    assert release.only(set()).published() == set()
    for access in release.published():
        assert release.only({access}).published() == {access}


def test_holdout_is_out_of_reach(digits: Split) -> None:
    """A defense receives two arguments, whose memory contains only their records."""
    seen: list[tuple[Any, ...]] = []

    def spy(private: Examples, public: Examples, *, seed: int) -> Release:
        seen.append((private, public))
        return Release(NoOpDpEvent(), predict=lambda x: np.ones((len(x), 10)))

    component = Component("spy", "defense", spy, {}, "", Path(__file__), publishes=frozenset({"predict"}))
    play.release(digits, Choice(component), 0)
    [(private, public)] = seen
    assert (private, public) == (digits.private, digits.public)
    for part in seen[0]:
        for array in (part.x, part.y):
            while array.base is not None:
                array = array.base
                assert array.size == part.x.size or array.size == part.y.size
            assert not np.shares_memory(array, digits.holdout.x)


@pytest.mark.parametrize("name", representatives(GENERATE))
def test_generated_labels_do_not_depend_on_the_seed(name: str) -> None:
    generate = trained(name).generate
    assert generate
    assert all(np.array_equal(generate(n, 3).y, generate(n, 4).y) for n in (1, 10, 25))


# decode


@pytest.mark.parametrize("data", ["digits", "breast_cancer"])
@pytest.mark.parametrize("name", representatives(name for name in GENERATE if "decode" in defense(name).publishes))
def test_generated_records_are_decoded_codes(name: str, data: str) -> None:
    """The published decoder maps the latent codes of `generate` to exactly its records."""
    release = trained(name, data)
    assert release.decode
    assert release.generate
    made = release.generate(50, 3)
    latent = release.decode.model.input_shape[-1] - made.classes
    assert release.decode.labels == made.classes
    z = stream(3, "latent").standard_normal((50, latent), np.float32)
    codes = np.concatenate([z, np.eye(made.classes, dtype=np.float32)[made.y]], axis=1)
    assert np.allclose(release.decode(codes), made.x, atol=1e-6)
    assert np.allclose(release.decode.model(codes), made.x, atol=1e-6), "the model is the map"


# The guarantee (`bench.lint`, called by a check of the kit for every defense that claims privacy)


@pytest.mark.parametrize(
    "mutant",
    ["scale", pytest.param("counts", marks=pytest.mark.slow), "rate", pytest.param("labels", marks=pytest.mark.slow)],
)
def test_statistics_in_the_clear_are_caught(mutant: str, cancer: Split) -> None:
    def leaky(private: Examples, public: Examples, seed: int) -> Release:
        if mutant == "rate":  # a training parameter that reveals the number of records of the first class
            return train("dp_sgd", private, public, seed, batch_size=10 + int((private.y == 0).sum()))
        release = train("dp_sgd", private, public, seed)
        predict, top = release.predict, private.x.max()
        assert predict
        if mutant == "scale":
            return Release(release.dp_event, predict=lambda x: predict(x / top))
        if mutant == "labels":
            return Release(release.dp_event, predict=lambda x: predict(x) * np.isin(np.arange(2), private.y))
        prior = np.bincount(private.y, minlength=2) / len(private)
        return Release(release.dp_event, predict=lambda x: predict(x) * prior)

    setup = ProbeSetup(leaky, cancer.private, cancer.public, cancer.holdout.x, 0)
    assert input_independence(setup.run(cancer.private), setup.run(disjoint_records(cancer.private)), setup)


def test_every_access_has_a_place_in_these_contracts() -> None:
    assert KNOWN_OUTPUTS == INSPECTED
