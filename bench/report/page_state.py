"""Whether the pages of the leaderboard are those that would be written now; then nobody needs to write them again."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from bench.core.digest import digest
from bench.core.errors import UserError
from bench.core.source_code import BENCH
from bench.store.freshness import versions

if TYPE_CHECKING:
    from bench.runner.registry import Registry
    from bench.store.store import Store

CODE = (BENCH, BENCH.parent / "defenses", BENCH.parent / "attacks")
Files = dict[str, tuple[int, ...]]


def state(store: Store, registry: Registry) -> str:
    """Stands for all that the pages are made of and the pages: every stored file, the code, the versions of packages.

    "" where nobody can know: components of plugins may run code that lies anywhere.
    """
    return _state(store.files(), registry)


def remember(store: Store, registry: Registry, before: Files) -> None:
    """Note the present state as that of the pages just written; before: the files when reading them began."""
    files = store.files()
    now = _state(files, registry)
    if now in ("", store.pages) or _records(files) != _records(before):
        return  # nobody can know, or nothing is new, or another process stored something that the pages lack
    with suppress(UserError):  # a note: where it cannot be written the next run writes the pages again
        store.save_pages(now)


def _state(files: Files, registry: Registry) -> str:
    own = {folder.name for folder in CODE}
    if any(one.function.__module__.partition(".")[0] not in own for one in registry.components):
        return ""
    # by way of JSON, which is quick where there are thousands of files
    return digest(json.dumps([files, _code(), versions(), registry.broken], sort_keys=True))


def _records(files: Files) -> Files:
    return {path: state for path, state in files.items() if path.endswith(".json")}


def _code() -> Files:
    found: Files = {}
    for folder in CODE:
        for path in folder.rglob("*.py"):
            one = os.stat(path)
            found[str(path)] = (one.st_ino, one.st_ctime_ns, one.st_size)
    return found
