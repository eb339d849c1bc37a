"""Is a defense that claims DP what it says? Small probes, without reading its code: one call, `lint`."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace

from bench.core.component import Choice
from bench.core.dataset import Data, Examples
from bench.core.errors import Caveat, UserError
from bench.lint import neighbouring_datasets, replay
from bench.lint.claimed_vs_done import account
from bench.lint.input_independence import blindfold
from bench.lint.instrumentation import Seen, Trained
from bench.lint.noise_reuse import fresh
from bench.lint.optimizer_update import update
from bench.lint.poisson_sampling import sampler
from bench.lint.probe_run import Run, Trial
from bench.lint.record_sensitivity import Touched, additive, arrivals, beyond, crowded, dealt, lost, placed, scattered
from bench.lint.replay import CLIPS, NOISE
from bench.lint.server_noise import server
from bench.lint.short_options import claims, short
from bench.lint.step_noise import noise
from bench.lint.step_sensitivity import sensitivity
from bench.store.lint_verdicts import LintFinding

__all__ = ["LintFinding", "lint", "replays"]

SEVERAL = 8  # records that are exchanged at once
PAIR = 2  # records beside which another one is alone wherever it falls


def lint(choice: Choice, data: Data, seed: int, *, most: int = 100) -> tuple[LintFinding, ...]:
    """Probe a defense with short options on few records of `data`; empty where nothing is wrong, or none is claimed.

    most: findings after which to stop. Nothing is remembered of its trainings. Raises the UserError of a defense that
    does not take such records.
    """
    from bench.dp.train import caching

    if not claims(choice):
        return ()
    trial, found = Trial.of(short(choice), data, seed), list[LintFinding]()
    with caching(None), warnings.catch_warnings():
        warnings.simplefilter("ignore", Caveat)
        try:
            found.extend(itertools.islice(_probes(trial, choice), most))  # what was found before an error is kept
        except UserError:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a foreign one fails in any way, which is what is wrong
            why = " ".join(f"{type(error).__name__}: {error}".split())
            what = f"it fails on records that it should take ({why}): repair that, then probe again"
            found.append(LintFinding("trial", what))
        finally:
            trial.forget()
    return tuple(dict.fromkeys(found))


def _probes(trial: Trial, choice: Choice) -> Iterator[LintFinding]:
    plain = trial.run(trial.plain)
    for other in trial.against(plain):
        yield from blindfold(plain, trial.run(other), trial)
    yield from _in_classes(trial)
    fewer = _fewer(trial.plain) if plain.seen.summed else []
    opened = trial.run(trial.plain, blindfold=False, again="another seed")
    chance, places = scattered(plain.seen, opened.seen), list[LintFinding]()
    for base in filter(None, (plain, *(_tried(trial, one) for one in fewer))):
        by_place = dealt(base.seen, trial.run(neighbouring_datasets.turned(base.private), like=base).seen)
        places += by_place
        compared = _compared(base, trial, chance or not by_place)
        yield from dict.fromkeys(one for found, _ in compared for one in found)
        yield from account(base, [touched for _, touched in compared], choice)
    yield from account(opened, [], choice)
    if placed(plain.seen, opened.seen):
        yield from places
    if sparse := _tried(trial, neighbouring_datasets.sparse(trial.plain)):
        yield from _crowded(sparse, trial)
        yield from _by_class(sparse, trial)
    yield from fresh(plain, opened)
    yield from server(plain.seen, trial.seed)
    yield from replays([one for seen in (plain.seen, *plain.later.values()) for one in seen.trained], trial.seed)


def _fewer(plain: Examples) -> list[Examples]:
    """Sets of few records, which one more sways more."""
    few = neighbouring_datasets.few(plain)
    rare = neighbouring_datasets.rare(few)
    return [few, *([rare] if (rare.y != few.y).any() else []), few[:PAIR]]


def _in_classes(trial: Trial) -> list[LintFinding]:
    """The same of several classes where there are two, of which one always has half of all records and votes."""
    if trial.plain.classes != 2:
        return []
    wide = replace(
        trial, plain=neighbouring_datasets.classed(trial.plain), public=neighbouring_datasets.classed(trial.public)
    )
    plain = _tried(wide, wide.plain)
    others = [_tried(wide, other) for other in wide.against(plain)] if plain else []
    return [found for other in others if plain and other for found in blindfold(plain, other, wide)]


def _compared(base: Run, trial: Trial, alike: bool) -> list[tuple[list[LintFinding], Touched]]:
    """What a record more changes; where that is due to their number, what one in another's place changes.

    How many private records there are is public, so rows may follow from it; and where one generator deals out records
    twice, it gives others in the second place once it took one more in the first. alike: as many records are treated
    alike wherever they stand, or by chance, so that exchanged ones show all that one record does.
    """
    more, swaps = list[tuple[list[LintFinding], Touched]](), list[tuple[list[LintFinding], Touched]]()
    grown = list[Run]()
    for run, swapped in _neighbours(base, trial):
        (swaps if swapped else more).append(arrivals(base.seen, run.seen, swapped=swapped))
        grown += [] if swapped else [run]
    too_much = any(found or beyond(base.seen, touched) for found, touched in more)
    if too_much and alike and not _own(base, grown, trial):
        more = [([], touched) for touched in _exchanged(base, trial)] or more
    return [*more, *swaps]


def _own(base: Run, grown: Sequence[Run], trial: Trial) -> bool:
    """Whether a record more moves sums by what it alone adds, whatever else is in them: their number has no say.

    What follows from n records and moves with the next one by some amount moves with the one after that by about 1/n of
    it less, which is what is asked for. grown: runs of records of which each has another one more than `base`.
    """
    if not base.seen.summed or any(lost(base.seen, run.seen) for run in grown):
        return False  # where a row went, or is another, it is no matter of sums
    one, other = grown[:2]
    both = trial.run(neighbouring_datasets.more(one.private, other.private[len(base.private) :]), like=base)
    return additive(base.seen, one.seen, other.seen, both.seen, records=max(1, len(base.private)))


def _exchanged(base: Run, trial: Trial) -> list[Touched]:
    """What records far out take part in that stand in the places of others; none where that changes more than them."""
    far = [neighbouring_datasets.extreme(base.private, kind, trial.seed) for kind in neighbouring_datasets.NEIGHBOURS]
    several = min(SEVERAL, len(base.private))
    for one in far:  # several at once, for a threshold among equal records moves for no single one
        some = base.private
        for place in range(several):
            some = neighbouring_datasets.replaced(some, one, place)
        if lost(base.seen, trial.run(some, like=base).seen) > several:
            return []
    places, seen, touches = (0, len(base.private) // 2), list[Seen](), list[Touched]()
    for place, one in itertools.product(places, far):
        seen.append(trial.run(neighbouring_datasets.replaced(base.private, one, place), like=base).seen)
        found, touched = arrivals(base.seen, seen[-1], swapped=True)
        if found or beyond(base.seen, touched):
            return []
        touches.append(touched)
    both = neighbouring_datasets.replaced(
        neighbouring_datasets.replaced(base.private, far[0], places[0]), far[1], places[1]
    )
    alone = seen[0], seen[len(far) + 1]
    return touches if additive(base.seen, *alone, trial.run(both, like=base).seen) else []


def _crowded(sparse: Run, trial: Trial) -> list[LintFinding]:
    """Of sets with few and many records of each class; where that may be due to their number, of two with as many."""
    many = neighbouring_datasets.grown(sparse.private)
    grown, more = trial.run(many, like=sparse), len(many) - len(sparse.private)
    found = crowded(sparse.seen, grown.seen, more)
    if not found:
        return []
    with_as_many = trial.run(neighbouring_datasets.lopsided(many), like=sparse)
    return found if crowded(with_as_many.seen, grown.seen, 2 * more) else []


def _by_class(sparse: Run, trial: Trial) -> list[LintFinding]:
    """Of two sets of as many records, in one of which a class has few: how many of each there are is private."""
    many = neighbouring_datasets.grown(sparse.private)
    one, other = (_tried(trial, private) for private in (many, neighbouring_datasets.lopsided(many)))
    return blindfold(one, other, trial) if one and other else []


def _tried(trial: Trial, private: Examples) -> Run | None:
    """A run on few records, or None: so few need not do."""
    try:
        return trial.run(private)
    except Exception:  # noqa: BLE001 - they may fail in any way
        return None


def replays(trained: Sequence[Trained], seed: int) -> Iterator[LintFinding]:
    """The probes of what trainings do that were asked for: their sums, their noise and their lots."""
    asked = replay.distinct(trained)
    for one in asked:
        quiet, noisy, other = (one.steps(amount, seed + k) for amount, k in ((0.0, 0), (NOISE, 0), (NOISE, len(CLIPS))))
        yield from sensitivity(one, quiet, seed)
        yield from update(one, other, seed + len(CLIPS))
        yield from noise(one, quiet, noisy, other)
    yield from sampler([one.recipe for one in asked], seed)


def _neighbours(base: Run, trial: Trial) -> Iterator[tuple[Run, bool]]:
    """Runs on neighbouring sets, and whether they have a record swapped, not one more.

    Several where sums are noised, of which each has another record that moves it farthest.
    """
    ones = [neighbouring_datasets.extreme(base.private, kind, trial.seed) for kind in neighbouring_datasets.NEIGHBOURS]
    if not base.seen.summed:
        ones = ones[:1]
    elif base.private is not trial.plain:
        ones += [neighbouring_datasets.middle(trial.public, label) for label in (0, base.private.classes - 1)]
    for one in ones:
        yield trial.run(neighbouring_datasets.more(base.private, one), like=base), False
    if base.seen.averaged:
        yield trial.run(neighbouring_datasets.replaced(base.private, ones[0]), like=base), True
    if base.private is trial.plain and len(base.private):  # in front, where it may keep out all that is like it
        first = neighbouring_datasets.replaced(
            base.private, neighbouring_datasets.middle(base.private, int(base.private.y[0])), 0
        )
        yield trial.run(first, like=base), True
