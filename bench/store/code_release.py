"""Which code a cell was measured by: the list of its files, kept once for all cells of one release of the code.

A cell holds the digest of that list. Of each file it knows the content digest and what it imports, so that
`bench why` can tell which of the files that a cell reached have changed since.
"""

from __future__ import annotations

import json
import os
import re
import time
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bench.core.component import Component
from bench.core.digest import digest
from bench.core.errors import Caveat
from bench.core.files import read_regular, write
from bench.core.source_code import BENCH, content_digest, decides, imports
from bench.store.freshness import sources
from bench.store.read_write import MOST
from bench.store.store import CODE, DAY

if TYPE_CHECKING:
    from bench.store.store import Store


_NAME = re.compile("[0-9a-f]{32}")
Files = Mapping[str, tuple[str, list[str]]]  # by name, the digest of a file's content and the names of what it imports


def name_of(path: Path) -> str:
    """The name of a file for readers: its place in the project, or that it is a plugin."""
    with suppress(ValueError):
        return path.relative_to(BENCH.parent).as_posix()
    return f"plugin/{path.name}"


def today(components: Iterable[Component]) -> Files:
    """Every file that decides numbers, and those of the components, as they are now."""
    files = {path for path in BENCH.rglob("*.py") if decides(path)} | set(sources(components))
    return {
        name_of(path): (content_digest(path), sorted(name_of(one) for one in imports(path) if one in files))
        for path in sorted(files)
    }


def keep(store: Store, components: Iterable[Component]) -> str:
    """Store today's list, unless it is stored, for the cells that are measured next; its digest."""
    files = today(components)
    name = digest(files)
    if load(store, name) is None:
        write(_path(store, name), json.dumps(files, indent=0, sort_keys=True).encode() + b"\n")
    else:
        with suppress(OSError):
            os.utime(_path(store, name))  # `prune` spares it until the first of these cells names it
    return name


def prune(store: Store) -> None:
    """Delete each list that no stored cell names and that no run has kept for a day.

    A run keeps its list before it stores its first cell. Where a cell cannot be read, every list stays.
    """
    lists = [path for path in store.root.joinpath(CODE).glob("*.json") if _NAME.fullmatch(path.stem)]
    if len(lists) < 2:  # the usual case, and nothing is read for it
        return
    with warnings.catch_warnings(record=True) as damaged:
        warnings.simplefilter("always", Caveat)
        named = {result.code for result in store.results()}
    if damaged:
        return
    for path in lists:
        with suppress(OSError):  # of a folder that can only be read, or of a list that another process deleted
            if path.stem not in named and time.time() - path.stat().st_mtime > DAY:
                path.unlink()


def load(store: Store, name: str) -> Files | None:
    """The list of a digest, or None where there is none that can be read."""
    try:
        data = read_regular(_path(store, name), MOST)
        found = msgspec.json.decode(data, type=dict[str, tuple[str, list[str]]])
        return found if digest(found) == name else None
    except (OSError, ValueError, RecursionError):
        return None


def _path(store: Store, name: str) -> Path:
    return store.root / CODE / f"{name}.json"


def reached(files: Files, components: Iterable[Component]) -> dict[str, str]:
    """The content digests, by name, of what a cell of these components reaches in a list."""
    ahead = [name_of(path) for path in sources(components)]
    found: dict[str, str] = {}
    while ahead:
        name = ahead.pop()
        if name in files and name not in found:
            found[name], more = files[name]
            ahead += more
    return found
