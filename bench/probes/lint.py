"""Is a defense that claims DP what it says? Small probes, without reading its code: one call, `lint`."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence

from bench.component import Choice
from bench.data import Data
from bench.errors import Doubt, UserError
from bench.probes import records, replay
from bench.probes.account import account
from bench.probes.arrivals import arrivals
from bench.probes.blindfold import blindfold
from bench.probes.doors import Trained
from bench.probes.finding import Finding
from bench.probes.fresh import fresh
from bench.probes.noise import noise
from bench.probes.quick import claims, short
from bench.probes.sampler import sampler
from bench.probes.sensitivity import sensitivity
from bench.probes.server import server
from bench.probes.trial import Run, Trial

__all__ = ["Finding", "lint", "replays"]


def lint(choice: Choice, data: Data, seed: int, *, most: int = 100) -> tuple[Finding, ...]:
    """Probe a defense with short options on few records of `data`; empty where nothing is wrong, or none is claimed.

    most: findings after which to stop. Nothing is remembered of its trainings. Raises the UserError of a defense that
    does not take such records.
    """
    from bench.training import remembering

    if not claims(choice):
        return ()
    trial, found = Trial.of(short(choice), data, seed), list[Finding]()
    with remembering(None), warnings.catch_warnings():
        warnings.simplefilter("ignore", Doubt)
        try:
            found.extend(itertools.islice(_probes(trial, choice), most))  # what was found before an error is kept
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - a foreign defense fails in any way, and that is what is wrong
            why = " ".join(f"{type(error).__name__}: {error}".split())
            what = f"it fails on records that it should take ({why}): repair that, then probe again"
            found.append(Finding("trial", what))
    return tuple(dict.fromkeys(found))


def _probes(trial: Trial, choice: Choice) -> Iterator[Finding]:
    plain = trial.run(trial.plain)
    yield from blindfold(plain, trial.run(trial.against(plain)), trial)
    compared = [arrivals(plain.seen, run.seen, swapped=swapped) for run, swapped in _neighbours(plain, trial)]
    yield from dict.fromkeys(one for found, _ in compared for one in found)
    opened = trial.run(trial.plain, blindfold=False, again="another seed")
    yield from account(plain, [touched for _, touched in compared], choice)
    yield from account(opened, [], choice)
    yield from fresh(plain, opened)
    yield from server(plain.seen, trial.seed)
    yield from replays([one for seen in (plain.seen, *plain.later.values()) for one in seen.trained], trial.seed)


def replays(trained: Sequence[Trained], seed: int) -> Iterator[Finding]:
    """The probes of what trainings do that were asked for: their sums, their noise and their lots."""
    asked = replay.distinct(trained)
    for one in asked:
        quiet = one.steps(0.0, seed)
        yield from sensitivity(one, quiet, seed)
        yield from noise(one, quiet, seed)
    yield from sampler([one.recipe for one in asked], seed)


def _neighbours(plain: Run, trial: Trial) -> Iterator[tuple[Run, bool]]:
    """Runs on neighbouring sets, and whether they have a record swapped, not one more.

    Several where sums are noised, of which each has another record that moves it farthest.
    """
    for kind in records.NEIGHBOURS if plain.seen.summed else records.NEIGHBOURS[:1]:
        one = records.extreme(trial.plain, kind, trial.seed)
        yield trial.run(records.more(trial.plain, one)), False
    if plain.seen.averaged:
        yield trial.run(records.replaced(trial.plain, one)), True
