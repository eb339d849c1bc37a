"""The checks of a defense that claims privacy: its claim is the requested one, and nothing else depends on records."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from bench.conformance.check import Skip, check, skip_refusals
from bench.conformance.defense_checks import changed, reads_nothing
from bench.conformance.short_runs import ShortRuns, small_data
from bench.core.component import Component
from bench.core.release import Release
from bench.dp import accounting
from bench.lint import instrumentation
from bench.lint.neighbouring_datasets import disjoint_records

N = 200  # private records of `small_data`


def claims_nothing(component: Component) -> str:
    """Why a check of the guarantee does not apply."""
    return "" if component.private else "it does not claim privacy (private=True)."


def has_no_epsilon(component: Component) -> str:
    """Why a check of the option epsilon does not apply."""
    return "" if "epsilon" in component.options else "it has no option epsilon."


def epsilon_of(release: Release) -> float:
    """The epsilon of a release on N records."""
    return float(accounting.claim(release.dp_event, N)["epsilon"])


@check("claims privacy exactly where its epsilon is finite")
def claims_what_it_spends(runs: ShortRuns) -> Iterator[str]:
    """`private=True` and a finite epsilon go together."""
    epsilon = epsilon_of(runs.release())
    if runs.component.private and math.isinf(epsilon):
        yield "it declares private=True and has an infinite epsilon: correct dp_event, or drop private."
    if not runs.component.private and math.isfinite(epsilon):
        yield f"it has epsilon {epsilon:.3g} and claims no privacy: declare it private=True, or use no_privacy()."


@check("spends the requested epsilon", has_no_epsilon)
def spends_requested_epsilon(runs: ShortRuns) -> Iterator[str]:
    """Not more, and not far less, which would be unnecessary noise."""
    data = small_data("breast_cancer")
    for requested in (0.5, 8.0):
        known = runs.choice.settings["epsilon"] == requested
        release = runs.release() if known else runs.train(data.private, data.public, epsilon=requested)
        epsilon = epsilon_of(release)
        if epsilon > requested * (1 + 1e-6):
            yield f"with epsilon={requested:g} it spends {epsilon:.4g}: use bench.accounting.noise_multiplier."
        elif epsilon <= 0.95 * requested and not reads_nothing(release):
            yield f"with epsilon={requested:g} it spends only {epsilon:.4g}: add less noise, or correct dp_event."


@check("claims no privacy with epsilon=inf", has_no_epsilon)
def claims_nothing_without_noise(runs: ShortRuns) -> Iterator[str]:
    """Without noise it still works, and claims nothing."""
    data = small_data("breast_cancer")
    release = runs.train(data.private, data.public, epsilon=math.inf)
    claim = accounting.claim(release.dp_event, N)
    if not (math.isinf(claim["epsilon"]) and math.isinf(claim["epsilon_rdp"])):
        yield f"with epsilon=inf it claims {claim['epsilon']:.3g}: return dp_event=bench.accounting.no_privacy() then."
    found = runs.outputs_of(release, "breast_cancer")
    if bad := dict.fromkeys(key.split()[0] for key in found if not np.isfinite(found[key]).all()):
        yield f"with epsilon=inf its {', '.join(bad)} held numbers that are not finite: avoid 0 times inf."


@check("depends on no private record where it spends epsilon 0")
def zero_epsilon_reads_nothing(runs: ShortRuns) -> Iterator[str]:
    """An epsilon of 0 is a claim as well."""
    if not reads_nothing(runs.release()):
        raise Skip("its epsilon is above 0.")
    data = small_data(runs.data_name)
    other = runs.train(disjoint_records(data.private), data.public, seed=1)
    again = runs.train(data.private, data.public, seed=1)
    if differ := changed(runs.outputs_of(again), runs.outputs_of(other)):
        yield (
            f"it spends epsilon 0, but its {', '.join(differ)} depend on private records: "
            "return the dp_event of what was done with them."
        )


@check("prints nothing that depends on private records", claims_nothing)
def prints_nothing_private(runs: ShortRuns) -> Iterator[str]:
    """With the private inputs of DP replaced by constants, two data sets must yield the same text."""
    runs.release()
    if not any(effects.printed.getvalue() for effects in runs.side_effects):
        return
    data = small_data("breast_cancer")
    privates = data.private, disjoint_records(data.private), data.private
    with instrumentation.watching(blank_inputs=True):
        for private in privates:
            runs.train(private, data.public)
    first, other, again = (effects.printed.getvalue() for effects in runs.side_effects[-3:])
    if first == again and first != other:
        yield "what it prints depends on private records: print nothing about them, since others read logs."


@check("passes the linter", claims_nothing)
def passes_the_linter(runs: ShortRuns) -> Iterator[str]:
    """Every probe of `bench.lint`."""
    from bench.lint.linter import lint

    with skip_refusals():
        found = lint(runs.choice, small_data("breast_cancer"), 0)
    for finding in found:
        yield f"{finding.probe}: {finding.what}"


CHECKS = (
    claims_what_it_spends, spends_requested_epsilon, claims_nothing_without_noise, zero_epsilon_reads_nothing,
    prints_nothing_private, passes_the_linter,
)  # fmt: skip
