"""What leaves beside the doors: with nothing private let through them, no release may depend on the records at all."""

from __future__ import annotations

from typing import Any

from bench.lint.instrumentation import Seen
from bench.lint.probe_run import Run, Trial
from bench.lint.release_outputs import Arrays, differing, same
from bench.store.lint_verdicts import LintFinding


def blindfold(one: Run, other: Run, trial: Trial) -> list[LintFinding]:
    """Compare two blindfolded runs with one seed on records that share their number alone."""
    told = [name for name in ("training", "mechanism", "server") if _told(one.seen)[name] != _told(other.seen)[name]]
    leaks = sorted(differing(one.let_out, other.let_out))
    dp_event = one.release.dp_event != other.release.dp_event
    kept = _kept(one.held, other.held)
    if not (told or leaks or dp_event or kept):
        return []
    again = trial.run(one.private)
    if differing(one.let_out, again.let_out):
        what = ", ".join(sorted(differing(one.let_out, again.let_out)))
        return [LintFinding("fresh", f"two runs with one seed differ in {what}: draw all that is random from the seed")]
    found = []
    if leaks:
        found.append(
            f"{', '.join(leaks)} depends on private records beside DP training and the Gaussian mechanism: take from "
            "public records what you can, train with bench.dp.train.train, and let other private numbers out through "
            "bench.dp.gaussian_mechanism.gaussian, called by that name"
        )
    elif paths := sorted(kept - _kept(one.held, again.held)):
        names = ", ".join(dict.fromkeys(path.split()[0] for path in paths))
        found.append(
            f"{names} depends on private records in what it is made of ({paths[0]}), though its answers here do not "
            "show it: let out functions of what was trained, and keep no record or figure of records in them"
        )
    if told:
        found.append(
            f"what the {' and the '.join(told)} is told (rate, batch_size, clip, noise, seed, how many parts) "
            "depends on private records: take it from options, public records, their number or what noise was added to"
        )
    if dp_event:
        found.append("what it says that it spent depends on private records: spent may depend on options and n alone")
    return [LintFinding("blindfold", sentence) for sentence in found]


def _kept(one: Arrays, other: Arrays) -> set[str]:
    """The paths by which two releases hold different things."""
    paths = one.keys() | other.keys()
    return {path for path in paths if path not in one or path not in other or not same(one[path], other[path])}


def _told(seen: Seen) -> dict[str, list[Any]]:
    """All that a door is told besides the private values themselves."""
    return {
        "training": [(list(one.recipes), list(one.seeds), [p.shape for p in one.parts]) for one in seen.trained],
        "mechanism": [(one.values.shape, one.l2_sensitivity, one.noise_multiplier) for one in seen.summed],
        "server": [(one.policy, one.clients) for one in seen.averaged],
    }
