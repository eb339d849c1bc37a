"""Traced programs that are kept for the next training of the same shape: tracing one takes longer than many trainings.

Shadow models, seeds and rounds train one network again and again, with other records, weights, batches and noise.
"""

from __future__ import annotations

import importlib
import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench.core.digest import digest
from bench.dp.training_program import Program, in_pieces

if TYPE_CHECKING:
    from bench.dp.recipe import Recipe

MOST = 8  # programs that are kept, the last ones used
MOST_BYTES = 2**28  # of the weights and optimizer states of all of them
# What is traced comes from these modules and from the class of the network.
TRACED = ("clipping", "forward", "layers", "networks", "optimizer", "training_program", "vae")


class ProgramCache:
    """Programs by their key. A program belongs to the training that took it until it is put back: no two share it.

    Safe to use from several threads.
    """

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._programs: OrderedDict[Hashable, Program] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: Hashable) -> Program | None:
        """The program under this key, which is no longer in the cache; None where there is none."""
        with self._lock:
            return self._programs.pop(key, None)

    def put(self, key: Hashable, program: Program) -> None:
        """Keep a program whose training is over; the ones used longest ago go where there are too many."""
        with self._lock:
            self._programs[key] = program
            while len(self._programs) > self._most or sum(map(_bytes, self._programs.values())) > self._most_bytes:
                self._programs.popitem(last=False)

    def clear(self) -> None:
        """Let go of all programs."""
        with self._lock:
            self._programs.clear()

    def __len__(self) -> int:
        return len(self._programs)


PROGRAMS = ProgramCache()  # of this process


def program_key(recipes: Sequence[Recipe], data: Sequence[Any]) -> Hashable:
    """Equal for trainings that one program serves: all that it has as constants, and the code that it is traced from.

    The number of records and the rate are not among them, nor is the number of steps where no schedule depends on it.
    """
    axis = min(len(recipes), 2) - 1
    shapes = [[*v.shape[:axis], *v.shape[axis + 1 :]] for v in data]
    constants = [replace(one, rate=1.0, steps=1 if one.schedule == "constant" else one.steps) for one in recipes]
    return digest((constants, shapes, in_pieces(recipes, data))), type(recipes[0].net), _code(type(recipes[0].net))


def _code(net: type) -> tuple[Any, ...]:
    """The functions that a program is traced from: where one is replaced, programs of the other do not fit any more."""
    modules = [importlib.import_module(f"bench.dp.{name}") for name in TRACED]
    found = [value for module in modules for value in vars(module).values() if callable(value)]
    classes = {one for kind in (*found, net) if isinstance(kind, type) for one in kind.__mro__ if one is not object}
    methods = [value for one in classes for value in vars(one).values() if callable(value)]
    return tuple(sorted({id(value): value for value in (*found, *methods)}.items()))


def _bytes(program: Program) -> int:
    return sum(v.shape.num_elements() * v.dtype.size for v in program.state)
