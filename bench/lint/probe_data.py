"""The data sets on which a verdict rests, and the linter's findings on the first of them that a defense accepts."""

from __future__ import annotations

from collections.abc import Mapping

from bench.core.component import Choice, Component
from bench.core.dataset import DataLocation, Split
from bench.core.errors import UserError
from bench.core.randomness import stream
from bench.lint.short_options import SIZES
from bench.store.records import LintFinding

PROBE_DATA = ("digits", "breast_cancer")  # the second for a defense that rejects images
SEED = 0


def findings(choice: Choice, known: Mapping[str, Component]) -> tuple[LintFinding, ...]:
    """Lint a choice on the first of PROBE_DATA that it accepts; known: the data sets by name."""
    from bench.lint.linter import lint

    for name in PROBE_DATA:
        data: Split = known[name].function(DataLocation(), stream(SEED, "split", name), **SIZES)
        try:
            return lint(choice, data, SEED)
        except UserError as error:
            refusal = error
    return (LintFinding("run", f"it accepts neither images nor plain features, so it was not tested ({refusal})"),)
