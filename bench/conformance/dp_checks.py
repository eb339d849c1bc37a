"""What a defense owes that claims privacy: its claim is what was asked for, and nothing leaves beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from bench.conformance.check import Skip, check, refusable
from bench.conformance.defense_checks import changed, reads_nothing
from bench.conformance.short_runs import Tried, small
from bench.core.component import Component
from bench.core.release import Release
from bench.dp import accounting
from bench.lint import instrumentation
from bench.lint.neighbouring_datasets import disjoint_records

N = 200  # private records of `small`


def claims_nothing(component: Component) -> str:
    """Why a guarantee is not asked for."""
    return "" if component.private else "it does not claim privacy (private=True)."


def has_no_epsilon(component: Component) -> str:
    """Why a budget cannot be asked for."""
    return "" if "epsilon" in component.options else "it has no option epsilon."


def spends(release: Release) -> float:
    """The epsilon of a release."""
    return float(accounting.claim(release.dp_event, N)["epsilon"])


@check("claims privacy where it spends little, and only there")
def claims_what_it_spends(tried: Tried) -> Iterator[str]:
    """`private=True` and a finite epsilon go together."""
    epsilon = spends(tried.release())
    if tried.component.private and math.isinf(epsilon):
        yield "it says private=True and spends an infinite epsilon: let spent say what was done, or drop private."
    if not tried.component.private and math.isfinite(epsilon):
        yield f"it spends epsilon {epsilon:.3g} and claims no privacy: declare it private=True, or use no_privacy()."


@check("spends the epsilon that it is asked for", has_no_epsilon)
def spends_what_is_asked(tried: Tried) -> Iterator[str]:
    """Not more, and not far less, which would be noise for nothing."""
    data = small("breast_cancer")
    for asked in (0.5, 8.0):
        known = tried.choice.settings["epsilon"] == asked
        release = tried.release() if known else tried.train(data.private, data.public, epsilon=asked)
        epsilon = spends(release)
        if epsilon > asked * (1 + 1e-6):
            yield f"asked for epsilon={asked:g} it spends {epsilon:.4g}: use bench.dp.accounting.noise_multiplier."
        elif epsilon <= 0.95 * asked and not reads_nothing(release):
            yield f"asked for epsilon={asked:g} it spends only {epsilon:.4g}: less noise would do, or spent is wrong."


@check("says so where epsilon=inf protects nobody", has_no_epsilon)
def says_where_nothing_protects(tried: Tried) -> Iterator[str]:
    """Without noise it still works, and claims nothing."""
    data = small("breast_cancer")
    release = tried.train(data.private, data.public, epsilon=math.inf)
    claim = accounting.claim(release.dp_event, N)
    if not (math.isinf(claim["epsilon"]) and math.isinf(claim["epsilon_rdp"])):
        yield f"with epsilon=inf it claims {claim['epsilon']:.3g}: let spent be bench.dp.accounting.no_privacy() then."
    seen = tried.look(release, "breast_cancer")
    if bad := dict.fromkeys(key.split()[0] for key in seen if not np.isfinite(seen[key]).all()):
        yield f"with epsilon=inf its {', '.join(bad)} held what is no finite number: mind 0 times inf."


@check("depends on no private record where it says that it reads none")
def reads_none_where_it_says_so(tried: Tried) -> Iterator[str]:
    """An epsilon of 0 is a claim like any other."""
    if not reads_nothing(tried.release()):
        raise Skip("it says that it reads private records.")
    data = small(tried.ground)
    foreign = tried.train(disjoint_records(data.private), data.public, seed=1)
    again = tried.train(data.private, data.public, seed=1)
    if differ := changed(tried.look(again), tried.look(foreign)):
        yield (
            f"it spends epsilon 0, but its {', '.join(differ)} depend on private records: "
            "let spent say what was done to them."
        )


@check("prints nothing that depends on private records", claims_nothing)
def prints_nothing_private(tried: Tried) -> Iterator[str]:
    """With DP training blindfolded two sets of records give one text."""
    tried.release()
    if not any(reach.said.getvalue() for reach in tried.reached):
        return
    data = small("breast_cancer")
    privates = data.private, disjoint_records(data.private), data.private
    with instrumentation.watching(blindfold=True):
        for private in privates:
            tried.train(private, data.public)
    first, other, again = (reach.said.getvalue() for reach in tried.reached[-3:])
    if first == again and first != other:
        yield "what it prints depends on private records: print nothing of them, for a log is read by others too."


@check("passes the linter", claims_nothing)
def passes_the_linter(tried: Tried) -> Iterator[str]:
    """Every probe of `bench.lint`."""
    from bench.lint.linter import lint

    with refusable():
        found = lint(tried.choice, small("breast_cancer"), 0)
    for finding in found:
        yield f"{finding.probe}: {finding.what}"


CHECKS = (
    claims_what_it_spends, spends_what_is_asked, says_where_nothing_protects, reads_none_where_it_says_so,
    prints_nothing_private, passes_the_linter,
)  # fmt: skip
