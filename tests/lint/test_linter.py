"""Planted bugs are flagged and right code is not; verdicts are kept as long as nothing changes; `run` asks for them.

That every shipped defense is clean stands in test_contracts.py; how often bugs are flagged: `tests.lint.planted`.
"""

from __future__ import annotations

import functools
import math
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from conftest import components
from planted import GROUPS
from planted.bug import CLAIMS, Bug, small, units
from scipy import stats

from bench.cli.main import run_commands
from bench.core.component import Choice, defense
from bench.core.dataset import Data, Examples, Where
from bench.core.release import Release
from bench.dp import accounting, training_loop
from bench.lint import linter, probe_run, verdicts
from bench.lint.hypothesis_tests import SURE, alike, dispersion, echo, spread, tail
from bench.lint.instrumentation import Averaged, Seen, Summed, Trained
from bench.lint.linter import _crowded, lint
from bench.lint.neighbouring_datasets import sparse, turned
from bench.lint.noise_reuse import laid
from bench.lint.optimizer_update import TAKEN
from bench.lint.poisson_sampling import _wrong as wrong_lots
from bench.lint.probe_run import forgetting
from bench.lint.record_sensitivity import additive, arrivals, dealt, lost, scattered, unmatched
from bench.lint.release_contents import held
from bench.lint.replay import canaries
from bench.lint.server_noise import server
from bench.lint.short_options import QUICK, probed, short
from bench.lint.step_sensitivity import pairs as lots
from bench.models.federated.server import Policy, Server
from bench.runner.registry import Registry
from bench.runner.request import Grid, Request
from bench.store.lint_verdicts import LintFinding
from bench.store.store import Store

BUGS = {bug.name: bug for group in GROUPS for bug in GROUPS[group] if group != "right"}
# Of those that were planted later one for each thing that probes look at; the others are slow in sum alone.
OFTEN = {
    "noise from a buffer of 50 draws", "noise of a step is the last one's, a place further",
    "noise of two steps correlated", "noise cut at three deviations", "second moments from clean sums",
    "lots that no seed changes",
    "the best step by private loss", "one row of noise for all rows of a mechanism",
    "updates clipped array by array", "the server's noise the same in each array", "records dealt out by position",
    "votes dealt out by position", "votes that overlap", "half of the votes accounted", "a check of votes unpaid",
    "let out: private records for later", "noise of its own",
    "clipped at the median norm of the lot", "what is not finite passes the clip", "lots that are never empty",
    "Laplace noise in the mechanism", "trained on: classes of some size", "synthetic: snapped to private values",
    "noise that is let out as features", "fitted once, kept in the module", "near-duplicates dropped",
    "sums and counts with the noise of one", "directions with the noise of means", "rare classes left out",
    "half of two classes agree", "one noise for small tables", "the mean of updates clipped",
    "small tables, whatever the seed", "records of a small class count thrice", "a class of few is not answered",
}  # fmt: skip
LATER = {bug.name for group in ("beside", "steps", "fresh") for bug in GROUPS[group]} - OFTEN


# The bugs


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LATER else []) for name in BUGS]
)
def test_a_planted_bug_is_flagged(name: str, cancer: Data) -> None:
    [found] = BUGS[name].found(cancer, 0)
    assert found.what
    assert "\n" not in found.what
    assert ": " in found.what, "a sentence says what is wrong, then what to do"
    assert found.probe != "trial", found.what


def test_who_returns_an_earlier_step_of_some_trainings_alone_is_flagged(cancer: Data) -> None:
    """The best step may be the last one of a training that is tried, so another is tried."""
    right = training_loop.fit

    def fit(recipes: Any, parts: Any, *rest: Any) -> Any:
        spared = recipes[0].privacy is None or recipes[0].steps == max(TAKEN)
        early = recipes if spared else [replace(one, steps=one.steps - 1) for one in recipes]
        return right(early, parts, *rest) | {"steps": np.array(recipes[0].steps)}

    [found] = Bug("spared", small, lambda: patch.object(training_loop, "fit", fit)).found(cancer, 0)
    assert "returns other weights" in found.what


QUICK_ONES = {
    "small", "sums by class", "votes", "a forest of public splits", "public records with noise",
    "descent by the mechanism in lots", "components about a noised sum over n",
    "half of two classes agree, with noise", "small tables, each with its noise", "updates clipped by hand",
}  # fmt: skip


@pytest.mark.parametrize(
    "bug",
    [
        pytest.param(bug, id=bug.name, marks=[pytest.mark.slow] if bug.name not in QUICK_ONES else [])
        for bug in GROUPS["right"]
    ],
)
def test_what_is_right_is_not_flagged(bug: Bug, cancer: Data) -> None:
    assert bug.found(cancer, 1, whole=True, most=9) == ()


def test_who_claims_nothing_is_not_probed(cancer: Data) -> None:
    assert lint(Choice(components().defenses["none"]), cancer, 0) == ()
    assert lint(Choice(small.component, {"epsilon": math.inf}), cancer, 0) == ()


def test_a_defense_that_fails_is_not_clean(cancer: Data) -> None:
    def fails(private: Examples, public: Examples, *, seed: int) -> Any:
        raise ZeroDivisionError("no such class")

    [found] = lint(Choice(replace(small.component, function=fails, options={})), cancer, 0)
    assert "ZeroDivisionError: no such class" in found.what


def noisy_mean(private: Examples, rng: Any) -> Any:
    """Sums of clipped records with noise of their own."""
    sums = units(private.x).sum(0) + rng.normal(0, 1, private.shape)
    return Release(accounting.training_event(1.0, 1.0, 1), predict=lambda x: np.exp(np.outer(x @ sums, [0.01, -0.01])))


def fails_when_asked(private: Examples, rng: Any) -> Any:
    def predict(x: Any) -> Any:
        raise KeyError("no such record")

    return Release(accounting.no_access(), predict=predict)


def steps_of_its_own(private: Examples, rng: Any) -> Any:
    """Logistic regression by DP-SGD in NumPy: right, but nobody can see it."""
    weights = np.zeros(private.shape)
    for _ in range(4):
        lot = private[rng.random(len(private)) < 0.2]
        slopes = 1 / (1 + np.exp(-lot.x @ weights)) - lot.y
        weights -= 0.01 * (units(slopes[:, None] * lot.x).sum(0) + rng.normal(0, 1, private.shape))
    dp_event = accounting.training_event(0.2, 1.0, 4)
    return Release(dp_event, predict=lambda x: 1 / (1 + np.exp(np.outer(x @ weights, [-1, 1]))))


WILD: dict[str, tuple[Any, str]] = {
    "exits": (lambda private, rng: sys.exit(3), "SystemExit"),
    "hangs": (lambda private, rng: time.sleep(60), "did not end within"),
    "returns nothing": (lambda private, rng: None, "returned a NoneType"),
    "accounts nothing": (lambda private, rng: Release(None), "spent is a NoneType"),  # type: ignore[arg-type]
    "lets nothing out": (lambda private, rng: Release(accounting.no_privacy()), "no finite epsilon"),
    "writes on records": (lambda private, rng: private.x.sort(0), "read-only"),
    "fails when asked": (fails_when_asked, "no such record"),
    "ignores its seed": (lambda private, rng: noisy_mean(private, np.random.default_rng()), "two runs with one seed"),
    "draws from the global state": (lambda private, rng: noisy_mean(private, np.random), "two runs with one seed"),
    "noise of its own": (noisy_mean, "beside DP training"),
    "steps of its own": (steps_of_its_own, "beside DP training"),
}  # fmt: skip


@pytest.mark.parametrize("name", WILD)
def test_whatever_a_defense_does_a_sentence_says_what_is_wrong(
    name: str, cancer: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_run, "LIMIT", 0.5 if name == "hangs" else 600)
    does, said = WILD[name]

    @defense("wild", **CLAIMS)
    def wild(private: Examples, public: Examples, *, seed: int) -> Any:
        return does(private, np.random.default_rng(seed))

    found = lint(Choice(wild.component), cancer, 0)  # type: ignore[attr-defined]
    assert found
    assert said in found[0].what
    assert all("\n" not in one.what and ": " in one.what for one in found)


@pytest.mark.parametrize("bug", ["", "clip", "noise", "by those who answered"])
def test_a_server_that_clips_or_noises_wrong_is_flagged(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Server.average

    def close(made: Server) -> None:
        if bug == "clip":
            policy = made.policy
            made.policy = replace(policy, clip=3 * policy.clip, noise_multiplier=policy.noise_multiplier / 3)
        elif bug == "noise":
            made.policy = replace(made.policy, noise_multiplier=0.5 * made.policy.noise_multiplier)
        elif bug:
            made.clients = made.clients[: max(1, len(made.taken))]
        right(made)

    monkeypatch.setattr(Server, "average", close)
    seen = Seen(averaged=[Averaged(Policy(clip=0.7, noise_multiplier=1.3), 3, [], [], [])])
    assert bool(server(seen, 0)) == bool(bug)


# The tests that probes make


def test_tests_have_their_error_rate_and_reject_the_wrong_value() -> None:
    rng = np.random.default_rng(0)
    some = rng.normal(0, 2, (400, 300))
    rates = np.array([spread(row, 4.0) for row in some])
    assert stats.kstest(rates, "uniform").pvalue > SURE
    assert spread(some[0], 1.0) < SURE
    pairs = np.array([alike(a, b, 2.0) for a, b in zip(some[::2], some[1::2], strict=True)])
    assert stats.kstest(pairs, "uniform").pvalue > SURE
    assert alike(some[0], some[0], 2.0) < SURE
    lots = rng.binomial(64, 0.3, (400, 60)).astype(float)
    law = (64 * 0.3, 64 * 0.3 * 0.7, (1 - 6 * 0.21) / (64 * 0.21))
    assert np.mean([dispersion(row, *law) < 0.01 for row in lots]) < 0.03
    assert dispersion(np.full(60, 19.0), *law) < SURE
    assert dispersion(np.repeat(lots[0][:2], 30) * 3, *law) < SURE


@pytest.mark.parametrize(("size", "many"), [(25, 1), (266, 5)])
def test_an_echo_is_heard_at_any_place_and_where_none_is_seldom(size: int, many: int) -> None:
    rng = np.random.default_rng(1)
    alone = [[(row, row) for row in rng.normal(size=(many, size))] for _ in range(500)]
    apart = [[(a, b) for a, b in rng.normal(size=(many, 2, size))] for _ in range(500)]
    for pairs in (alone, apart):
        assert np.mean([echo(one) < 0.01 for one in pairs]) < 0.01 + 5 * (0.01 / 500) ** 0.5
    long = rng.normal(size=(many, 2 * size))
    assert echo([(row[:size], row[5 : size + 5]) for row in long] * 3) < SURE
    assert echo([(row, row) for row in np.tile(rng.normal(size=(3 * many, size)), 3)]) < SURE
    assert echo([]) == 1


def test_a_tail_is_neither_cut_nor_heavy() -> None:
    rng = np.random.default_rng(2)
    rates = np.array([tail(rng.normal(size=2000)) for _ in range(500)])
    assert stats.kstest(rates, "uniform").pvalue > SURE
    z = rng.normal(size=10_000)
    assert tail(np.clip(z, -3, 3)) < SURE < tail(z)
    assert tail(np.append(z, 8.0)) < SURE


def test_what_hangs_on_an_access_is_found_wherever_it_hangs() -> None:
    class Kept:
        def __init__(self, thing: Any) -> None:
            self.thing = thing

        def __call__(self, x: Any) -> Any:
            return x

        def method(self, x: Any) -> Any:
            return x

    some = np.arange(7.0)

    def default(x: Any, kept: Any = some) -> Any:
        return x

    ways = [Kept(some), Kept([{"a": (some,)}]).method, lambda x: some, default, functools.partial(default, kept=[some])]
    for way in ways:
        arrays = held(Release(accounting.no_access(), predict=way)).values()
        assert any(np.array_equal(one, some) for one in arrays)
    records = Examples(np.zeros((3, 2)), np.zeros(3, int), 2)
    other = Examples(np.zeros((4, 2)), np.zeros(4, int), 2)
    schema = [
        lambda x: np.eye(records.classes), lambda x: [len(records) + records.shape[0] for _ in x],
        lambda x: (other.x, records.classes),
    ]  # fmt: skip
    whole = [lambda x: records.x, Kept(records), lambda x: (default(records), records.classes), lambda x: records[x]]
    for function in (*schema, *whole):
        arrays = held(Release(accounting.no_access(), predict=function)).values()
        assert any(one.shape == (3, 2) for one in arrays) == (function in whole), "it may be asked for classes"


def test_rows_are_matched_one_to_one_and_up_to_rounding() -> None:
    rng = np.random.default_rng(0)
    some = Examples(rng.random((20, 5)), np.zeros(20, int), 2)
    close = Examples(some.x[::-1] + np.float32(1e-6), some.y, 2)
    twice = Examples(np.concatenate([some.x, some.x[:1]]), np.zeros(21, int), 2)
    assert unmatched(some, close) == unmatched(close, some) == 0
    assert (unmatched(some, twice), unmatched(twice, some)) == (0, 1)
    assert unmatched(some, Examples(some.x * 1.001, some.y, 2)) == 20
    assert unmatched(some, Examples(some.x, 1 - some.y, 2)) == 20
    assert unmatched(some[:0], some) == 0


def test_no_record_that_overflows_stands_by_while_another_comes() -> None:
    records = canaries([Examples(np.random.default_rng(0).random((20, 30)), np.zeros(20, int), 2)])
    with np.errstate(over="ignore"):
        finite = np.isfinite(records.x.sum(1))
    assert not finite.all()
    assert all(finite[list(without)].all() for without, _ in lots(len(records), anywhere=True))


def parted(*parts: Examples) -> Seen:
    """What is seen of one training on these."""
    return Seen(trained=[Trained([], parts, [], lambda: 0)])


def test_chance_that_deals_out_each_record_shows_in_the_sizes_of_parts() -> None:
    some, rng = Examples(np.random.default_rng(0).random((200, 2)), np.zeros(200, int), 2), np.random.default_rng(1)
    coins = [rng.random(200) < 0.5 for _ in range(2)]
    cards = [rng.permutation(200)[:100] for _ in range(2)]
    assert scattered(*(parted(some[heads], some[~heads]) for heads in coins))
    assert not scattered(*(parted(some[rows], some[np.setdiff1d(np.arange(200), rows)]) for rows in cards))


def test_one_record_in_the_place_of_another_is_all_that_may_change() -> None:
    rng = np.random.default_rng(0)
    some, new = Examples(rng.random((20, 2)), np.zeros(20, int), 2), Examples(rng.random((20, 2)), np.zeros(20, int), 2)

    def exchanged(*rows: int) -> Examples:
        x = some.x.copy()
        x[list(rows)] = new.x[list(rows)]
        return Examples(x, some.y, 2)

    halves = np.arange(10), np.arange(10, 20)
    for rows, wrong in ([3], False), ([3, 4], True), ([3, 14], True):
        other = exchanged(*rows)
        found, touched = arrivals(parted(*(some[h] for h in halves)), parted(*(other[h] for h in halves)), swapped=True)
        assert bool(found) == wrong, "a record that goes takes none with it"
    found, touched = arrivals(parted(some[:10], some[11:]), parted(some[1:10], some[10:]), swapped=True)
    assert (found, touched.trained) == ([], ((0, 1),)), "one left a part, another came to one, and took part there"


def test_a_record_may_stand_in_several_parts_but_no_part_goes_by_places() -> None:
    some = Examples(np.random.default_rng(0).random((20, 2)), np.zeros(20, int), 2)
    other, dark = turned(some), [one.x[:, 0] < 0.7 for one in (some, turned(some))]
    assert not dealt(parted(some, some[dark[0]]), parted(other, other[dark[1]]))
    assert dealt(parted(some[::2], some[1::2]), parted(other[::2], other[1::2]))


def test_who_goes_with_others_is_counted_once_over_all_parts() -> None:
    some = Examples(np.random.default_rng(0).random((20, 2)), np.zeros(20, int), 2)
    assert lost(parted(some, some[:10]), parted(some[2:], some[2:10])) == 2
    assert lost(parted(some[:10], some[10:]), parted(some[1:11], some[11:])) == 2
    assert lost(parted(some), parted(some, some)) == math.inf


@pytest.mark.parametrize(
    ("rule", "wrong"),
    [
        (lambda some: some.x, False),
        (lambda some: some.x * (2 if len(some) > 50 else 1), False),  # how many there are is public
        (lambda some: some.x / len(some), False),
        (lambda some: some.x * (2 if np.bincount(some.y).min() > 20 else 1), True),
        (lambda some: some.x - some.x.mean(), True),
        (lambda some: some.x - some.x.mean() if len(some) > 50 else some.x, True),
    ],
)
def test_rows_may_follow_from_how_many_there_are_and_not_from_how_many_of_a_class(rule: Any, wrong: bool) -> None:
    def run(private: Examples, like: object = None) -> SimpleNamespace:
        return SimpleNamespace(private=private, seen=parted(Examples(rule(private), private.y, 2)))

    few: Any = run(sparse(Examples(np.zeros((1, 3)), np.zeros(1, int), 2)))
    assert bool(_crowded(few, SimpleNamespace(run=run))) == wrong  # type: ignore[arg-type]


def test_what_two_records_do_adds_up_in_a_sum_of_records() -> None:
    def summed(values: Any) -> Seen:
        return Seen(summed=[Summed(np.asarray(values, float), 1.0, 1.0, np.zeros(2))])

    four = [summed(values) for values in ([0, 0], [0.5, 0], [0.1, 1], [0.6, 1])]
    assert additive(*four)
    assert not additive(*four[:3], summed([0.6, 1.01])), "the second one counts for more beside the first"
    assert not additive(*four[:3], summed([0.6, 1, 0]))


def test_what_follows_from_the_number_of_records_is_no_records_own() -> None:
    """100 over n moves by 0.0025 where n is 200 and one comes, and by 0.00002 less with the next one."""

    def summed(n: int, own: float) -> Seen:
        return Seen(summed=[Summed(np.array([100 / n + own]), 1.0, 1.0, np.zeros(1))])

    seen = summed(200, 0), summed(201, 0.9), summed(201, 0.8), summed(202, 1.7)
    assert additive(*seen), "the mutant: asked as of one record it seems additive"
    assert not additive(*seen, records=200)
    assert additive(*(summed(200, own) for own in (0, 0.9, 0.8, 1.7)), records=200)


def test_few_records_in_all_lots_are_no_reason_to_speak() -> None:
    rng = np.random.default_rng(0)
    assert list(wrong_lots(np.zeros((200, 1, 64)), [5e-4])) == [], "in one of 600 such trainings nobody is in a lot"
    for rate in (5e-4, 0.01, 0.3, 0.99):
        assert list(wrong_lots((rng.random((200, 1, 64)) < rate).astype(float), [rate])) == []
    always = np.zeros((200, 1, 64))
    always[:, 0, :13] = 1
    assert any("vary in size" in what for what in wrong_lots(rng.permuted(always, axis=2), [13 / 64]))


def test_noise_is_found_in_what_is_let_out_and_a_noised_sum_is_none() -> None:
    rng = np.random.default_rng(0)
    noise, beside = rng.normal(size=40), rng.normal(size=300)
    assert laid(noise, np.concatenate([beside, -3 * noise, beside]).astype(np.float32))
    assert not laid(noise, beside)
    assert not laid(noise, np.concatenate([beside, noise + 0.01, beside])), "a sum of 0.01 each beside it"
    bare = np.where(np.arange(40) < 8, 0.0, noise)  # of the first, the sums are 0: nobody knows what they are
    assert laid(bare, np.concatenate([beside, np.where(bare == 0, 5.0, noise)]))


def test_what_a_module_keeps_of_a_run_is_forgotten() -> None:
    module: dict[str, Any] = {"__name__": "planted"}
    code = """
        import functools
        NUMBERS, SEEN, LAST = [1], {}, 0
        @functools.lru_cache
        def cached():
            return []
        def defend(record):
            global LAST, new
            LAST = new = record
            NUMBERS.append(record)
            SEEN[0] = record
            cached().append(record)
        """
    exec(textwrap.dedent(code), module)
    numbers, forget = module["NUMBERS"], forgetting(module["defend"])
    module["defend"](7)
    assert (module["SEEN"], module["cached"]()) == ({0: 7}, [7])
    forget()
    assert (module["NUMBERS"], module["SEEN"], module["LAST"], module["cached"]()) == ([1], {}, 0, [])
    assert module["NUMBERS"] is numbers
    assert "new" not in module


# Verdicts


def test_a_trial_is_short_and_one_verdict_stands_for_every_epsilon() -> None:
    choice = Choice(components().defenses["dp_vaegm"], {"epsilon": 1.0, "steps": 99, "clip_networks": True})
    assert probed(choice).label == "dp_vaegm,clip_networks=true"
    assert short(choice).settings["steps"] == QUICK["steps"]
    assert short(choice).settings["epsilon"] == 1.0


@pytest.fixture
def registry() -> Registry:
    return Registry({"small": small.component}, {}, components().data, [])


def test_verdicts_are_kept_until_something_changes(
    registry: Registry, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, choice = Store(results), Choice(small.component)
    assert "not probed" in str(verdicts.caveat(store, registry, "small"))
    monkeypatch.setattr(linter, "lint", lambda *_: ())
    verdict = verdicts.measure(choice, registry)
    verdicts.save(store, verdict)
    assert verdicts.load(store, "small") == verdict
    assert verdicts.path(store, "small") == results / "probes" / "small.json"
    assert verdicts.caveat(store, registry, "small") is None
    assert verdicts.caveat(store, registry, "small,epsilon=1") is None
    assert "not probed" in str(verdicts.caveat(store, registry, "small,engine=vectorized"))
    assert "known: all, small" in str(verdicts.caveat(store, registry, "gone"))
    assert store.results() == []

    verdicts.save(store, replace(verdict, findings=(LintFinding("noise", "too little: add some"),)))
    assert verdicts.caveat(store, registry, "small") == "noise: too little: add some."
    verdicts.save(store, replace(verdict, digest="old"))
    assert "other code" in str(verdicts.caveat(store, registry, "small"))
    verdicts.path(store, "small").write_text("{")
    assert "not probed" in str(verdicts.caveat(store, registry, "small"))


def test_who_claims_nothing_needs_no_verdict(results: Path) -> None:
    for label in ("none", "dp_sgd,epsilon=inf"):
        assert verdicts.caveat(Store(results), components(), label) is None


@pytest.mark.parametrize("findings", [(), (LintFinding("noise", "too little: add some"),)])
def test_a_run_probes_whom_it_does_not_know_and_says_what_was_found(
    findings: tuple[LintFinding, ...],
    registry: Registry,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[str] = []

    def fake(choice: Choice, *_: Any) -> tuple[LintFinding, ...]:
        asked.append(choice.label)
        return findings

    monkeypatch.setattr(linter, "lint", fake)
    chosen = tuple(Choice(small.component, {"epsilon": epsilon}) for epsilon in (1.0, 8.0, math.inf))
    request = Request((Grid(chosen, (), (), (0,)),), results, Where())
    assert run_commands._probe(request, registry) == bool(findings)
    assert ("bench: small,epsilon=1: noise: too little: add some." in capsys.readouterr().err) == bool(findings)
    assert run_commands._probe(request, registry) == bool(findings)
    assert asked == ["small"], "a fresh verdict costs nothing"
