"""Compares the privacy loss of the most exposed record, as recorded during the run, with the claimed `dp_event`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.core.component import Choice
from bench.dp import accounting
from bench.lint.instrumentation import Seen
from bench.lint.probe_run import ProbeRun
from bench.lint.record_sensitivity import Participation
from bench.store.records import LintFinding

if TYPE_CHECKING:
    from dp_accounting import DpEvent

PROBE = "accounting"
ROUNDING = 1e-3  # of a change relative to its bound
TOLERANCE = 1e-3  # of epsilon, relative, and absolute for rounding of the accountant where it is small


def claimed_vs_done(run: ProbeRun, participations: Sequence[Participation], choice: Choice) -> list[LintFinding]:
    """Compare the claim with the option epsilon, and with the loss of each record; participations: of single ones."""
    delta = accounting.delta_for(len(run.private))
    claimed = accounting.epsilon(run.release.dp_event, delta)
    requested = choice.settings.get("epsilon")
    if math.isinf(claimed):
        what = (
            "it claims DP, but dp_event has no finite epsilon: return the event of what was done, or set private=False"
        )
        return [LintFinding(PROBE, what)]
    found = []
    if isinstance(requested, (int, float)) and claimed > requested * (1 + TOLERANCE):
        what = f"it spends epsilon {claimed:.4g}, above the option epsilon={requested:g}: calibrate the noise to it"
        found.append(what)
    for trained in run.seen.trained:
        if trained.steps() != trained.recipes[0].steps:
            planned = trained.recipes[0].steps
            found.append(f"{trained.steps()} steps ran where the recipe has {planned}: account for those that run")
    worst = max(
        (accounting.epsilon(event, delta) for event in _events(run, participations, run.release.dp_event)), default=0.0
    )
    if worst > claimed * (1 + TOLERANCE) + TOLERANCE:
        found.append(
            f"it claims epsilon {claimed:.4g}, but the privacy loss of one record is at least {worst:.4g}: account for "
            "the steps, rates and noise that run, for each use of the Gaussian mechanism as a step of rate 1 (batches "
            "sampled by hand are not amplified; bench.train samples them), and compose all that use the same record"
        )
    return [LintFinding(PROBE, what) for what in dict.fromkeys(found)]


def _events(run: ProbeRun, participations: Sequence[Participation], dp_event: DpEvent) -> Iterator[DpEvent]:
    """The privacy loss of single records, where it is not the claimed event itself."""
    import dp_accounting as dp

    patterns = {tuple(pattern) for pattern in (*_by_neighbours(run, participations), *_by_rows(run))}
    for pattern in patterns:
        counts = Counter(step for step in pattern if step[2])
        if not counts:
            continue
        events = [
            accounting.training_event(rate, sigma, times * steps) for (rate, sigma, steps), times in counts.items()
        ]
        event = events[0] if len(events) == 1 else dp.ComposedDpEvent(events)
        if event != dp_event:
            yield event


Step = tuple[float, float, int]  # rate, noise multiplier, number of steps


def _by_neighbours(run: ProbeRun, participations: Sequence[Participation]) -> Iterator[list[Step]]:
    """From what changed with one record: its trainings, sums and rounds.

    What is spent when outputs are requested later adds to that; of the protocols one run at a time is covered.
    """
    rest = run.later["rest"]
    by_row = {
        i for p in participations for i, far in p.summed if far > run.seen.summed[i].l2_sensitivity * (1 + ROUNDING)
    }
    for participation in participations:
        seen = run.seen
        steps = [_trained(seen, i, k) for i, k in participation.trained]
        for i, far in participation.summed:
            one = seen.summed[i]
            # As one vector, a change beyond the bound costs as much as proportionally less noise; but where the bound
            # is that of a row (`bench.dp.gaussian_mechanism`), another record may change every row as much.
            less = min(1.0, one.l2_sensitivity / far)
            rows = len(one.values) if i in by_row and one.values.ndim else 1
            steps.append((1.0, one.noise_multiplier * (less if rows == 1 else 1.0), rows))
        yield [*steps, *_rounds(seen), *_all(rest), *_rounds(rest)]
    for name, seen in run.later.items():
        if name != "rest":
            yield [*_most_expensive(seen), *_rounds(seen)]


def _trained(seen: Seen, i: int, k: int) -> Step:
    one = seen.trained[i]
    privacy = one.recipes[k].privacy
    assert privacy
    return one.recipes[k].rate, privacy.noise_multiplier, one.steps()


def _rounds(seen: Seen) -> list[Step]:
    """The server rounds: an update of a client is in every one."""
    return [(1.0, one.policy.noise_multiplier, 1) for one in seen.averaged]


def _most_expensive(seen: Seen) -> Iterator[Step]:
    """Of each training the data set with the largest privacy loss: which records are in it is unknown."""
    for i, one in enumerate(seen.trained):
        steps = [_trained(seen, i, k) for k in range(len(one.parts))]
        if steps[0][2]:
            yield min(steps, key=lambda step: (step[1], -step[0]))


def _all(seen: Seen) -> list[Step]:
    return [*_most_expensive(seen), *((1.0, one.noise_multiplier, 1) for one in seen.summed)]


def _by_rows(run: ProbeRun) -> Iterator[list[Step]]:
    """From where identical rows occur: in two data sets of a training, or in two trainings."""
    occurrences: dict[bytes, list[Step]] = {}
    for i, one in enumerate(run.seen.trained):
        if any(len(set(_keys(part.x))) < len(part) for part in one.parts):
            continue  # rows that occur twice are not records
        for k, part in enumerate(one.parts):
            for key in _keys(part.x):
                occurrences.setdefault(key, []).append(_trained(run.seen, i, k))
    yield from map(list, set(map(tuple, occurrences.values())))


def _keys(x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Iterable[bytes]:
    return [row.tobytes() for row in x]
