"""The paired difference of two figures, a line of comparisons.csv, and what must hold between its fields."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from bench.games.intervals import Z
from bench.store.figures import TINY, WHOLE
from bench.store.records import Label

if TYPE_CHECKING:  # what readers see; msgspec checks the types below
    What = str
else:
    What = Literal["leakage", "accuracy"]


class PairedDifference(Struct, frozen=True, forbid_unknown_fields=True):
    """The figure of `first` less that of `second` (labels of defense and attack), over the seeds that both have.

    what: "leakage", or "accuracy" of the release. p: two-sided, by the normal distribution. paired: on the same
    targets, in every seed. unmatched: in what the two claims differ, empty where they are alike. of: digest of the
    cells that were compared.
    """

    kind: ClassVar[str] = "difference"

    what: What
    data: Label
    first: Label
    second: Label
    seeds: Annotated[int, Meta(ge=1, le=WHOLE)]
    value: Annotated[float, Meta(ge=-2, le=2)]
    low: Annotated[float, Meta(ge=-100, le=100)]
    high: Annotated[float, Meta(ge=-100, le=100)]
    p: Annotated[float, Meta(ge=0, le=1)]
    paired: bool
    unmatched: str
    of: str

    @property
    def se(self) -> float:
        """The standard error, read off the interval."""
        return (self.high - self.low) / (2 * Z)

    def check(self) -> None:
        """Raise ValueError unless the interval lies around the value and p is what the two say."""
        if self.se < 0 or not math.isclose(self.low + self.high, 2 * self.value, abs_tol=TINY):
            raise ValueError("its interval does not lie around its value")
        if not math.isclose(self.p, two_sided(self.value, self.se), rel_tol=1e-6, abs_tol=1e-300):
            raise ValueError("its p is not that of its value and interval")


def two_sided(value: float, se: float) -> float:
    """The p that a normal variable of mean 0 and this standard error lies at least so far out."""
    return math.erfc(abs(value) / se / math.sqrt(2)) if se else float(value == 0)
