"""Inspects the objects reachable from a release (closures, attributes, weights): an adversary can read them."""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bench.core.dataset import Examples
from bench.core.release import ACCESS, Release
from bench.lint.release_outputs import Arrays

MAX_OBJECTS = 20_000  # inspected
LIBRARIES = ("tensorflow", "keras", "numpy", "scipy", "sklearn", "dp_accounting", "builtins")
SCALARS = (bool, int, float, str, bytes, np.generic)


def reachable_objects(release: Release) -> Arrays:
    """Every number, text and array reachable from an access, by its path of attributes, closure variables and items."""
    found: Arrays = {}
    waiting = [(name, getattr(release, name)) for name in sorted(ACCESS)]
    visited: dict[int, Any] = {}  # keeps visited objects alive, since a new object may reuse the id of a freed one
    while waiting and len(visited) < MAX_OBJECTS:
        path, thing = waiting.pop()
        if isinstance(thing, SCALARS) or thing is None:
            found[path] = np.array(repr(thing))
        elif id(thing) not in visited:
            visited[id(thing)] = thing
            if isinstance(thing, np.ndarray) and thing.dtype != object:
                found[path] = thing.copy()
            else:
                waiting += [(f"{path} {name}", part) for name, part in _children(thing)]
    return found


def _children(thing: Any) -> Iterator[tuple[str, Any]]:
    """The objects that an object refers to, by name; of networks the weights, of modules and library objects none."""
    if isinstance(thing, (type, types.ModuleType)):
        return
    if isinstance(thing, types.MethodType):
        yield from (("self", thing.__self__), ("function", thing.__func__))
    elif isinstance(thing, types.FunctionType):
        for name, cell in zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True):
            # A function that only reads the number of classes keeps a reference to all records: that is no leak.
            if not _empty(cell) and not (
                isinstance(cell.cell_contents, Examples) and _reads_schema_only(thing.__code__, name)
            ):
                yield name, cell.cell_contents
        yield "defaults", (thing.__defaults__, thing.__kwdefaults__)
        yield "attributes", vars(thing)
    elif isinstance(thing, functools.partial):
        yield "partial", (thing.func, thing.args, thing.keywords)
    elif isinstance(thing, (set, frozenset)):
        yield "members", sorted(map(repr, thing)) if all(isinstance(one, SCALARS) for one in thing) else len(thing)
    elif isinstance(thing, Mapping):
        yield from ((repr(key) if isinstance(key, SCALARS) else "item", value) for key, value in thing.items())
        yield "keys", {key for key in thing if isinstance(key, SCALARS)}
    elif isinstance(thing, (list, tuple)) or (isinstance(thing, np.ndarray) and thing.dtype == object):
        yield from ((str(i), part) for i, part in enumerate(thing))
    elif hasattr(thing, "get_weights"):
        yield "weights", thing.get_weights()
    elif not type(thing).__module__.startswith(LIBRARIES) and hasattr(thing, "__dict__"):
        yield from sorted(vars(thing).items())


def _reads_schema_only(code: types.CodeType, name: str) -> bool:
    """Whether a function reads only `classes`, `shape` and the length of the records in the variable `name`."""
    steps = list(dis.get_instructions(code))
    for i, step in enumerate(steps):
        if "DEREF" in step.opname and step.opname.startswith("LOAD") and step.argval == name:
            attribute = steps[i + 1].argval if steps[i + 1].opname in ("LOAD_ATTR", "LOAD_METHOD") else None
            if attribute not in ("classes", "shape") and steps[i - 1].argval != "len":
                return False
    return all(_reads_schema_only(one, name) for one in code.co_consts if isinstance(one, types.CodeType))


def _empty(cell: Any) -> bool:
    try:
        return cell.cell_contents is None
    except ValueError:  # not assigned yet
        return True
