"""What the linter is tried on: mistakes, planted in a defense or in the optimizer, and defenses that are right."""

from __future__ import annotations

from .bar import BAR, MORE
from .beside import BESIDE, RIGHT
from .bug import CORRECT, Bug
from .fresh import FRESH
from .right import ALSO_RIGHT
from .steps import STEPS

# What is right, and what is planted: for the bar, more of that sort, and what was made up later.
GROUPS: dict[str, tuple[Bug, ...]] = {
    "right": (*CORRECT, *RIGHT, *ALSO_RIGHT),
    "bar": BAR,
    "more": MORE,
    "beside": BESIDE,
    "steps": STEPS,
    "fresh": FRESH,
}
