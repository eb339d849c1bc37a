"""Test cases of the linter: bugs planted in a defense or in the optimizer, and correct defenses."""

from __future__ import annotations

from .bar import BAR, MORE
from .beside import BESIDE, RIGHT
from .bug import CORRECT, Bug
from .fresh import FRESH
from .right import ALSO_RIGHT
from .steps import STEPS

# Correct defenses, and bugs: the required ones, more of the same kind, and those that were written later.
GROUPS: dict[str, tuple[Bug, ...]] = {
    "right": (*CORRECT, *RIGHT, *ALSO_RIGHT),
    "bar": BAR,
    "more": MORE,
    "beside": BESIDE,
    "steps": STEPS,
    "fresh": FRESH,
}
