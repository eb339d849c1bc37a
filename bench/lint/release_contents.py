"""What the accesses of a release are made of, be it ever asked for: whoever has the release has that, too."""

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

MOST = 20_000  # things that are looked at
LIBRARIES = ("tensorflow", "keras", "numpy", "scipy", "sklearn", "dp_accounting", "builtins")
SCALARS = (bool, int, float, str, bytes, np.generic)


def held(release: Release) -> Arrays:
    """Every number, text and array that hangs on an access, by its path through attributes, closures and lists."""
    found: Arrays = {}
    waiting = [(name, getattr(release, name)) for name in sorted(ACCESS)]
    seen: dict[int, Any] = {}  # what was looked at is kept alive, for another thing may get its number
    while waiting and len(seen) < MOST:
        path, thing = waiting.pop()
        if isinstance(thing, SCALARS) or thing is None:
            found[path] = np.array(repr(thing))
        elif id(thing) not in seen:
            seen[id(thing)] = thing
            if isinstance(thing, np.ndarray) and thing.dtype != object:
                found[path] = thing.copy()
            else:
                waiting += [(f"{path} {name}", part) for name, part in _parts(thing)]
    return found


def _parts(thing: Any) -> Iterator[tuple[str, Any]]:
    """What hangs on a thing, by name; nothing of modules, classes and libraries, but the weights of networks."""
    if isinstance(thing, (type, types.ModuleType)):
        return
    if isinstance(thing, types.MethodType):
        yield from (("self", thing.__self__), ("function", thing.__func__))
    elif isinstance(thing, types.FunctionType):
        for name, cell in zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True):
            # A function that asks records for the number of their classes holds all of them, and does no harm.
            if not _empty(cell) and not (isinstance(cell.cell_contents, Examples) and _schema(thing.__code__, name)):
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


def _schema(code: types.CodeType, name: str) -> bool:
    """Whether a function takes of the records that it knows by this name what is public of them, and nothing else."""
    steps = list(dis.get_instructions(code))
    for i, step in enumerate(steps):
        if "DEREF" in step.opname and step.opname.startswith("LOAD") and step.argval == name:
            asked = steps[i + 1].argval if steps[i + 1].opname in ("LOAD_ATTR", "LOAD_METHOD") else None
            if asked not in ("classes", "shape") and steps[i - 1].argval != "len":
                return False
    return all(_schema(one, name) for one in code.co_consts if isinstance(one, types.CodeType))


def _empty(cell: Any) -> bool:
    try:
        return cell.cell_contents is None
    except ValueError:  # not filled yet
        return True
