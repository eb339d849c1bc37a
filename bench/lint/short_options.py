"""What is tried of a defense: with which of its options, and what makes the trial of a component short."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bench.core.component import Choice, Component, OptionValue

SIZES = {"private": 200, "holdout": 120, "public": 100}
QUICK: Mapping[str, OptionValue] = {
    "steps": 4, "classifier_steps": 4, "samples": 40, "classifier_samples": 40,
    "rounds": 2, "local_steps": 2, "encoder_steps": 4,
}  # fmt: skip


def claims(choice: Choice) -> bool:
    """Whether there is anything to probe: whoever claims no privacy, or is asked for none, is believed."""
    return choice.component.private and choice.settings.get("epsilon") != math.inf


def probed(choice: Choice) -> Choice:
    """What stands for a choice that claims DP: without the options that a trial sets, and without epsilon."""
    free = {*QUICK, *(["epsilon"] if choice.component.options.get("epsilon") != math.inf else [])}
    return Choice(choice.component, {name: value for name, value in choice.options.items() if name not in free})


def quick(component: Component, **changed: Any) -> dict[str, Any]:
    """Options that make a component's training short, where it has them, and `changed`."""
    return {name: value for name, value in {**QUICK, **changed}.items() if name in component.options}


def short(choice: Choice) -> Choice:
    """The same choice with the options of `QUICK` that it has."""
    return Choice(choice.component, {**choice.options, **quick(choice.component)})
