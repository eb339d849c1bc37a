"""What the linter is tried on: mistakes, planted in a defense or in the optimizer, and defenses that are right."""

from __future__ import annotations

from planted.bar import BAR, MORE
from planted.beside import BESIDE, RIGHT
from planted.bug import CORRECT, Bug
from planted.fresh import FRESH
from planted.right import ALSO_RIGHT
from planted.steps import STEPS

# What is right, and what is planted: for the bar, more of that sort, and what was made up later.
GROUPS: dict[str, tuple[Bug, ...]] = {
    "right": (*CORRECT, *RIGHT, *ALSO_RIGHT),
    "bar": BAR,
    "more": MORE,
    "beside": BESIDE,
    "steps": STEPS,
    "fresh": FRESH,
}
