"""The options and data sizes with which the linter and `bench test` run a component in seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bench.core.component import Choice, Component, OptionValue

SIZES = {"private": 200, "holdout": 120, "public": 100}
SHORT_OPTIONS: Mapping[str, OptionValue] = {
    "steps": 4, "classifier_steps": 4, "samples": 40, "classifier_samples": 40,
    "rounds": 2, "local_steps": 2, "encoder_steps": 4,
}  # fmt: skip


def claims_privacy(choice: Choice) -> bool:
    """Whether the defense claims DP with a finite epsilon; only then is there a claim to test."""
    return choice.component.private and choice.settings.get("epsilon") != math.inf


def verdict_choice(choice: Choice) -> Choice:
    """The choice whose verdict also holds for this one: without epsilon and without the options that a probe sets."""
    free = {*SHORT_OPTIONS, *(["epsilon"] if choice.component.options.get("epsilon") != math.inf else [])}
    return Choice(choice.component, {name: value for name, value in choice.options.items() if name not in free})


def short_options(component: Component, **changed: Any) -> dict[str, Any]:
    """`SHORT_OPTIONS` updated with `changed`, restricted to the options that the component has."""
    return {name: value for name, value in {**SHORT_OPTIONS, **changed}.items() if name in component.options}


def shortened(choice: Choice) -> Choice:
    """The same choice with `SHORT_OPTIONS`."""
    return Choice(choice.component, {**choice.options, **short_options(choice.component)})
