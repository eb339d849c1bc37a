"""What was done to the most exposed record, as seen at the doors, beside what the release says that it spent."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.core.component import Choice
from bench.dp import accounting
from bench.lint.instrumentation import Seen
from bench.lint.probe_run import Run
from bench.lint.record_sensitivity import Touched
from bench.store.lint_verdicts import LintFinding

if TYPE_CHECKING:
    from dp_accounting import DpEvent

ROUNDING = 1e-3  # of a move beside its bound
TOLERANCE = 1e-3  # of epsilon, relative, and rounding of the accountant in small ones


def account(run: Run, touches: Sequence[Touched], choice: Choice) -> list[LintFinding]:
    """Hold the claim against the option, and against every record that was seen; touches: of single records."""
    delta = accounting.delta_for(len(run.private))
    claimed = accounting.epsilon(run.release.dp_event, delta)
    asked = choice.settings.get("epsilon")
    if math.isinf(claimed):
        what = "it claims DP, but spent has no finite epsilon: return the event of what was done, or say private=False"
        return [LintFinding("account", what)]
    found = []
    if isinstance(asked, (int, float)) and claimed > asked * (1 + TOLERANCE):
        what = f"it spends epsilon {claimed:.4g}, above the option epsilon={asked:g}: calibrate the noise to it"
        found.append(what)
    for trained in run.seen.trained:
        if trained.steps() != trained.recipes[0].steps:
            what = f"{trained.steps()} steps ran where the recipe has {trained.recipes[0].steps}: account what runs"
            found.append(what)
    worst = max(
        (accounting.epsilon(event, delta) for event in _events(run, touches, run.release.dp_event)), default=0.0
    )
    if worst > claimed * (1 + TOLERANCE) + TOLERANCE:
        found.append(
            f"it claims epsilon {claimed:.4g}, but what one record took part in costs at least {worst:.4g}: account "
            "the steps, rates and noise that run, each use of the Gaussian mechanism as a step of rate 1 (lots drawn "
            "by hand are not believed: bench.dp.train.train draws some), one after the other where a record is in both"
        )
    return [LintFinding("account", what) for what in dict.fromkeys(found)]


def _events(run: Run, touches: Sequence[Touched], dp_event: DpEvent) -> Iterator[DpEvent]:
    """What may have been done to one record, but what is spent itself."""
    import dp_accounting as dp

    patterns = {tuple(pattern) for pattern in (*_by_neighbours(run, touches), *_by_rows(run))}
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


Step = tuple[float, float, int]


def _by_neighbours(run: Run, touches: Sequence[Touched]) -> Iterator[list[Step]]:
    """By what changed with the record: the same trainings, sums and rounds, whoever asked for them.

    What is asked of the release later spends beside it, but of the protocols one run at a time is covered.
    """
    rest = run.later["rest"]
    by_row = {i for t in touches for i, far in t.summed if far > run.seen.summed[i].l2_sensitivity * (1 + ROUNDING)}
    for touched in touches:
        seen = run.seen
        steps = [_trained(seen, i, k) for i, k in touched.trained]
        for i, far in touched.summed:
            one = seen.summed[i]
            # As one vector, of which a move beyond the bound costs what that much less noise costs; but where the
            # bound is that of a row (`bench.dp.gaussian_mechanism`), another record may move every row as far.
            less = min(1.0, one.l2_sensitivity / far)
            rows = len(one.values) if i in by_row and one.values.ndim else 1
            steps.append((1.0, one.noise_multiplier * (less if rows == 1 else 1.0), rows))
        yield [*steps, *_rounds(seen), *_all(rest), *_rounds(rest)]
    for name, seen in run.later.items():
        if name != "rest":
            yield [*_largest(seen), *_rounds(seen)]


def _trained(seen: Seen, i: int, k: int) -> Step:
    one = seen.trained[i]
    privacy = one.recipes[k].privacy
    assert privacy
    return one.recipes[k].rate, privacy.noise_multiplier, one.steps()


def _rounds(seen: Seen) -> list[Step]:
    """A client's update is in every round."""
    return [(1.0, one.policy.noise_multiplier, 1) for one in seen.averaged]


def _largest(seen: Seen) -> Iterator[Step]:
    """Of each training the dearest part: whose records are in it nobody knows."""
    for i, one in enumerate(seen.trained):
        steps = [_trained(seen, i, k) for k in range(len(one.parts))]
        if steps[0][2]:
            yield min(steps, key=lambda step: (step[1], -step[0]))


def _all(seen: Seen) -> list[Step]:
    return [*_largest(seen), *((1.0, one.noise_multiplier, 1) for one in seen.summed)]


def _by_rows(run: Run) -> Iterator[list[Step]]:
    """By where the very same row stands: in two parts, or in two trainings."""
    held: dict[bytes, list[Step]] = {}
    for i, one in enumerate(run.seen.trained):
        if any(len(set(_keys(part.x))) < len(part) for part in one.parts):
            continue  # rows that look alike are no records
        for k, part in enumerate(one.parts):
            for key in _keys(part.x):
                held.setdefault(key, []).append(_trained(run.seen, i, k))
    yield from map(list, set(map(tuple, held.values())))


def _keys(x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Iterable[bytes]:
    return [row.tobytes() for row in x]
