"""The input-independence test: what reaches a release outside of DP.

With all private inputs of DP replaced by constants, two different data sets must yield bit-identical releases.
"""

from __future__ import annotations

from typing import Any

from bench.lint.instrumentation import Seen
from bench.lint.probe_run import ProbeRun, ProbeSetup
from bench.lint.release_outputs import Arrays, differing, equal
from bench.store.records import LintFinding

PROBE = "input independence"


def input_independence(one: ProbeRun, other: ProbeRun, setup: ProbeSetup) -> list[LintFinding]:
    """Compare two runs with constant inputs and the same seed, on data sets that share nothing but their size."""
    received = [
        name
        for name in ("training", "mechanism", "server")
        if _received_arguments(one.seen)[name] != _received_arguments(other.seen)[name]
    ]
    leaks = sorted(differing(one.outputs, other.outputs))
    dp_event = one.release.dp_event != other.release.dp_event
    reachable = _differing_paths(one.reachable, other.reachable)
    if not (received or leaks or dp_event or reachable):
        return []
    again = setup.run(one.private)
    if differing(one.outputs, again.outputs):
        what = ", ".join(sorted(differing(one.outputs, again.outputs)))
        sentence = f"two runs with the same seed differ in {what}: draw all that is random from the seed"
        return [LintFinding("noise reuse", sentence)]
    found = []
    if leaks:
        found.append(
            f"{', '.join(leaks)} depends on private records outside of DP training and the Gaussian mechanism: compute "
            "from public records what you can, train with bench.train, and release other private statistics through "
            "bench.gaussian, called by that name"
        )
    elif paths := sorted(reachable - _differing_paths(one.reachable, again.reachable)):
        names = ", ".join(dict.fromkeys(path.split()[0] for path in paths))
        found.append(
            f"{names} holds objects that depend on private records ({paths[0]}), though its outputs here do not: "
            "release functions of trained models, and keep no record and no private statistic in them"
        )
    if received:
        found.append(
            f"the arguments that the {' and the '.join(received)} receives (rate, batch_size, clip, noise, seed, "
            "number of data sets) depend on private records: derive them from options, public records, the number of "
            "records or noised values"
        )
    if dp_event:
        found.append("dp_event depends on private records: it may depend on options and the number of records alone")
    return [LintFinding(PROBE, sentence) for sentence in found]


def _differing_paths(one: Arrays, other: Arrays) -> set[str]:
    """The paths at which two releases hold different objects."""
    paths = one.keys() | other.keys()
    return {path for path in paths if path not in one or path not in other or not equal(one[path], other[path])}


def _received_arguments(seen: Seen) -> dict[str, list[Any]]:
    """The arguments of each use of DP, but the private values themselves."""
    return {
        "training": [(list(one.recipes), list(one.seeds), [p.shape for p in one.parts]) for one in seen.trained],
        "mechanism": [(one.values.shape, one.l2_sensitivity, one.noise_multiplier) for one in seen.summed],
        "server": [(one.policy, one.clients) for one in seen.averaged],
    }
