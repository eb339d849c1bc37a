"""Programs of trainings that are over, forgotten: TensorFlow keeps every one in which a Keras optimizer took a step."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FunctionType
from typing import Any


@contextmanager
def forgetting() -> Iterator[None]:
    """Inside, what only TensorFlow's registry of gradients holds of such a step is garbage like any other.

    Keras sums gradients over replicas, of which there is one here, and that sum has a gradient of its own, which is
    registered under a name for good, and with it all of the program around it: a board of a thousand trainings grew to
    10 GB. Nobody takes the gradient of such a sum, so whenever Python collects all garbage, these names go first.
    """
    gc.callbacks.append(_collecting)
    try:
        yield
    finally:
        gc.callbacks.remove(_collecting)


def _collecting(phase: str, info: Mapping[str, int]) -> None:
    if phase != "start" or info["generation"] < 2:
        return
    ops = sys.modules.get("tensorflow.python.framework.ops")
    known = getattr(ops, "gradient_registry", None)  # the module may be on its way in: importing collects, too
    registry: dict[str, dict[str, Any]] = {} if known is None else known._registry
    for name in [name for name, entry in registry.items() if _of_a_sum(entry["type"])]:
        del registry[name]


def _of_a_sum(gradient: object, depth: int = 2) -> bool:
    """Whether a gradient, or what it calls, is that of the sum over replicas."""
    if not isinstance(gradient, FunctionType):
        return False
    if ".all_reduce.<locals>" in gradient.__qualname__:
        return True
    inside = []
    for cell in gradient.__closure__ or ():
        with suppress(ValueError):  # a name that nothing was bound to yet
            inside.append(cell.cell_contents)
    return depth > 0 and any(_of_a_sum(one, depth - 1) for one in inside)
