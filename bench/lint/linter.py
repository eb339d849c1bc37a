"""Tests whether a defense that claims DP does what it claims, by running it on small data sets: `lint`."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace

from bench.core.component import Choice
from bench.core.dataset import Examples, Split
from bench.core.errors import Caveat, UserError
from bench.lint import neighbouring_datasets, replay
from bench.lint.claimed_vs_done import claimed_vs_done
from bench.lint.input_independence import input_independence
from bench.lint.instrumentation import Seen, Trained
from bench.lint.noise_reuse import noise_reuse
from bench.lint.optimizer_update import optimizer_update
from bench.lint.poisson_sampling import poisson_sampling
from bench.lint.probe_run import ProbeRun, ProbeSetup
from bench.lint.record_sensitivity import (
    Participation,
    class_size_dependence,
    exceeds_bound,
    is_additive,
    is_deterministic,
    order_dependence,
    record_sensitivity,
    removed_rows,
    sizes_are_random,
)
from bench.lint.replay import CLIPS, NOISE_MULTIPLIER
from bench.lint.server_noise import server_noise
from bench.lint.short_options import claims_privacy, shortened
from bench.lint.step_noise import step_noise
from bench.lint.step_sensitivity import step_sensitivity
from bench.store.records import LintFinding

__all__ = ["LintFinding", "lint", "probe_trainings"]

REPLACED = 8  # records that are replaced at once
PAIR = 2  # records: a further one has its own neighbourhood whatever its features


def lint(choice: Choice, data: Split, seed: int, *, most: int = 100) -> tuple[LintFinding, ...]:
    """Run all probes on a defense with short options, on few records of `data`; empty without finding or claim.

    most: stop after so many findings. Trainings are not cached. Raises the UserError of a defense that rejects such
    records.
    """
    from bench.dp.train import caching

    if not claims_privacy(choice):
        return ()
    setup, found = ProbeSetup.of(shortened(choice), data, seed), list[LintFinding]()
    with caching(None), warnings.catch_warnings():
        warnings.simplefilter("ignore", Caveat)
        try:
            found.extend(itertools.islice(_probes(setup, choice), most))  # findings before an error are kept
        except UserError:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything: that is the finding
            why = " ".join(f"{type(error).__name__}: {error}".split())
            found.append(LintFinding("run", f"it fails on valid records ({why}): fix that, then lint it again"))
        finally:
            setup.reset()
    return tuple(dict.fromkeys(found))


def _probes(setup: ProbeSetup, choice: Choice) -> Iterator[LintFinding]:
    base_run = setup.run(setup.base)
    for other in setup.adversarial_records(base_run):
        yield from input_independence(base_run, setup.run(other), setup)
    yield from _with_more_classes(setup)
    smaller = _small_datasets(setup.base) if base_run.seen.summed else []
    opened = setup.run(setup.base, blank_inputs=False, seed_name="another seed")
    random_sizes, by_order = sizes_are_random(base_run.seen, opened.seen), list[LintFinding]()
    for run in filter(None, (base_run, *(_run_or_none(setup, one) for one in smaller))):
        permuted = setup.run(neighbouring_datasets.permuted(run.private), noise_of=run)
        dependence = order_dependence(run.seen, permuted.seen)
        by_order += dependence
        compared = _compared(run, setup, random_sizes or not dependence)
        yield from dict.fromkeys(one for found, _ in compared for one in found)
        yield from claimed_vs_done(run, [participation for _, participation in compared], choice)
    yield from claimed_vs_done(opened, [], choice)
    if is_deterministic(base_run.seen, opened.seen):
        yield from by_order
    if sparse := _run_or_none(setup, neighbouring_datasets.sparse_classes(setup.base)):
        yield from class_sizes(sparse, setup)
        yield from _class_counts(sparse, setup)
    yield from noise_reuse(base_run, opened)
    yield from server_noise(base_run.seen, setup.seed)
    trained = [one for seen in (base_run.seen, *base_run.later.values()) for one in seen.trained]
    yield from probe_trainings(trained, setup.seed)


def _small_datasets(base: Examples) -> list[Examples]:
    """Data sets of few records, in which one more record has more weight."""
    few = neighbouring_datasets.few_records(base)
    rare = neighbouring_datasets.with_rare_class(few)
    return [few, *([rare] if (rare.y != few.y).any() else []), few[:PAIR]]


def _with_more_classes(setup: ProbeSetup) -> list[LintFinding]:
    """Input independence with several classes where there are two: of two, one always has a majority of votes."""
    if setup.base.classes != 2:
        return []
    more = neighbouring_datasets.with_more_classes
    wide = replace(setup, base=more(setup.base), public=more(setup.public))
    run = _run_or_none(wide, wide.base)
    others = [_run_or_none(wide, other) for other in wide.adversarial_records(run)] if run else []
    return [found for other in others if run and other for found in input_independence(run, other, wide)]


def _compared(
    base: ProbeRun, setup: ProbeSetup, interchangeable: bool
) -> list[tuple[list[LintFinding], Participation]]:
    """The effect of an added record; where the number of records causes it, that of a replaced record.

    The number of private records is public, so rows may depend on it; and a generator that assigns records twice draws
    other numbers the second time once it drew one more the first time. interchangeable: records are assigned the same
    way at every position, or at random, so that replacing records shows the whole effect of one.
    """
    added = list[tuple[list[LintFinding], Participation]]()
    replaced = list[tuple[list[LintFinding], Participation]]()
    grown = list[ProbeRun]()
    for run, swapped in _neighbours(base, setup):
        (replaced if swapped else added).append(record_sensitivity(base.seen, run.seen, swapped=swapped))
        grown += [] if swapped else [run]
    too_much = any(found or exceeds_bound(base.seen, participation) for found, participation in added)
    if too_much and interchangeable and not _is_own_contribution(base, grown, setup):
        added = [([], participation) for participation in _replacements(base, setup)] or added
    return [*added, *replaced]


def _is_own_contribution(base: ProbeRun, grown: Sequence[ProbeRun], setup: ProbeSetup) -> bool:
    """Whether an added record changes sums by its own contribution, and not by the number of records.

    An effect of the number n of records changes by about 1/n of itself with the next record, and this is tested.
    grown: runs that have one record more than `base`, each another one.
    """
    if not base.seen.summed or any(removed_rows(base.seen, run.seen) for run in grown):
        return False  # where a row was removed or changed, sums are not the reason
    one, other = grown[:2]
    both = setup.run(neighbouring_datasets.with_added(one.private, other.private[len(base.private) :]), noise_of=base)
    return is_additive(base.seen, one.seen, other.seen, both.seen, records=max(1, len(base.private)))


def _replacements(base: ProbeRun, setup: ProbeSetup) -> list[Participation]:
    """The participation of extreme records that replace others; none where that changes more than these records."""
    kinds = neighbouring_datasets.EXTREMES
    extreme = [neighbouring_datasets.extreme_record(base.private, kind, setup.seed) for kind in kinds]
    several = min(REPLACED, len(base.private))
    for one in extreme:  # several at once, since no single one moves a threshold among equal records
        some = base.private
        for place in range(several):
            some = neighbouring_datasets.with_replaced(some, one, place)
        if removed_rows(base.seen, setup.run(some, noise_of=base).seen) > several:
            return []
    places, seen, participations = (0, len(base.private) // 2), list[Seen](), list[Participation]()
    for place, one in itertools.product(places, extreme):
        seen.append(setup.run(neighbouring_datasets.with_replaced(base.private, one, place), noise_of=base).seen)
        found, participation = record_sensitivity(base.seen, seen[-1], swapped=True)
        if found or exceeds_bound(base.seen, participation):
            return []
        participations.append(participation)
    both = neighbouring_datasets.with_replaced(
        neighbouring_datasets.with_replaced(base.private, extreme[0], places[0]), extreme[1], places[1]
    )
    alone = seen[0], seen[len(extreme) + 1]
    return participations if is_additive(base.seen, *alone, setup.run(both, noise_of=base).seen) else []


def class_sizes(sparse: ProbeRun, setup: ProbeSetup) -> list[LintFinding]:
    """Compare few with many records per class; where their number may be the cause, two data sets of equal size."""
    many = neighbouring_datasets.grown_classes(sparse.private)
    grown, more = setup.run(many, noise_of=sparse), len(many) - len(sparse.private)
    found = class_size_dependence(sparse.seen, grown.seen, more)
    if not found:
        return []
    equal_size = setup.run(neighbouring_datasets.one_large_class(many), noise_of=sparse)
    return found if class_size_dependence(equal_size.seen, grown.seen, 2 * more) else []


def _class_counts(sparse: ProbeRun, setup: ProbeSetup) -> list[LintFinding]:
    """Input independence of two data sets of equal size and different class sizes, which are private."""
    many = neighbouring_datasets.grown_classes(sparse.private)
    one, other = (_run_or_none(setup, private) for private in (many, neighbouring_datasets.one_large_class(many)))
    return input_independence(one, other, setup) if one and other else []


def _run_or_none(setup: ProbeSetup, private: Examples) -> ProbeRun | None:
    """A run on data that a defense may reject; None if it fails."""
    try:
        return setup.run(private)
    except Exception:  # noqa: BLE001 - a plugin may raise anything
        return None


def probe_trainings(trained: Sequence[Trained], seed: int) -> Iterator[LintFinding]:
    """Replay recorded trainings: step sensitivity, optimizer update, step noise and Poisson sampling."""
    distinct = replay.distinct_trainings(trained)
    for one in distinct:
        quiet, noisy, other = (
            one.steps(amount, seed + k)
            for amount, k in ((0.0, 0), (NOISE_MULTIPLIER, 0), (NOISE_MULTIPLIER, len(CLIPS)))
        )
        yield from step_sensitivity(one, quiet, seed)
        yield from optimizer_update(one, other, seed + len(CLIPS))
        yield from step_noise(one, quiet, noisy, other)
    yield from poisson_sampling([one.recipe for one in distinct], seed)


def _neighbours(base: ProbeRun, setup: ProbeSetup) -> Iterator[tuple[ProbeRun, bool]]:
    """Runs on neighbouring data sets, and whether a record was replaced in them, not added.

    Several where values are noised, each with another record that may change them most.
    """
    kinds = neighbouring_datasets.EXTREMES
    ones = [neighbouring_datasets.extreme_record(base.private, kind, setup.seed) for kind in kinds]
    if not base.seen.summed:
        ones = ones[:1]
    elif base.private is not setup.base:
        ones += [neighbouring_datasets.mean_record(setup.public, label) for label in (0, base.private.classes - 1)]
    for one in ones:
        yield setup.run(neighbouring_datasets.with_added(base.private, one), noise_of=base), False
    if base.seen.averaged:
        yield setup.run(neighbouring_datasets.with_replaced(base.private, ones[0]), noise_of=base), True
    if base.private is setup.base and len(base.private):  # at the first position, where it may exclude similar ones
        first = neighbouring_datasets.with_replaced(
            base.private, neighbouring_datasets.mean_record(base.private, int(base.private.y[0])), 0
        )
        yield setup.run(first, noise_of=base), True
