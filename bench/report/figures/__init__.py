"""The figures of the paper, measured here: each is a plan of cells and a function that draws them."""

from __future__ import annotations

from collections.abc import Sequence

from bench.core.errors import UserError, suggest
from bench.report.figures.attacks import ATTACKS
from bench.report.figures.curves import AUGM_EPSILON, GENERATORS, PUBLIC_SIZE, VAEGM_EPSILON
from bench.report.figures.page import draw
from bench.report.figures.pictures import RECONSTRUCTIONS, SAMPLES
from bench.report.figures.plan import Plan, Point, Words

__all__ = ["FIGURES", "Plan", "Point", "Words", "choose", "draw"]

FIGURES = {
    plan.name: plan
    for plan in (AUGM_EPSILON, GENERATORS, PUBLIC_SIZE, VAEGM_EPSILON, ATTACKS, SAMPLES, RECONSTRUCTIONS)
}


def choose(names: Sequence[str]) -> list[Plan]:
    """The figures with these names, each once; `all` is every one. Raises UserError for an unknown name."""
    for name in names:
        if name not in FIGURES and name != "all":
            raise UserError(f"there is no figure {name!r}: {suggest(name, [*FIGURES, 'all'])}")
    return [plan for name, plan in FIGURES.items() if name in names or "all" in names]
