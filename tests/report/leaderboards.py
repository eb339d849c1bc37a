"""A stored leaderboard of synthetic cells, and its pages as text."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from bench.report import csv as csv_page
from bench.report import markdown as pages
from bench.report.terminal import show
from bench.store.records import CellResult
from bench.store.store import Store

GAME = SimpleNamespace(name="membership", requires=frozenset(), reference_attack="")


def known(defenses: dict[str, set[str]], attacks: dict[str, set[str]]) -> Any:
    """A registry with the fields that the leaderboard reads."""
    return SimpleNamespace(
        defenses={
            name: SimpleNamespace(publishes=frozenset(given), undefended=name in ("none", "federated"))
            for name, given in defenses.items()
        },
        attacks={name: SimpleNamespace(needs=frozenset(needs), game=GAME) for name, needs in attacks.items()},
        data={"digits": SimpleNamespace(has=frozenset({"pictures"}))},
    )


PLAIN = known({"none": {"predict"}}, {"confidence": {"predict"}})


def keep(path: Path, results: Iterable[CellResult]) -> Store:
    store = Store(path)
    for result in results:
        store.save(result)
    return store


def only(leaderboard: Any) -> Any:
    """The cell of a leaderboard that has exactly one."""
    ((cell,),) = [row.cells for section in leaderboard.sections for row in section.rows]
    return cell


def printed(leaderboard: Any, width: int) -> str:
    file = io.StringIO()
    show(leaderboard, Console(file=file, width=width))
    return file.getvalue()


def write(leaderboard: Any, store: Store) -> None:
    pages.write(leaderboard, store)
    csv_page.write(leaderboard, store)


def markdown(leaderboard: Any, store: Store) -> str:
    """The leaderboard and the pages of details."""
    write(leaderboard, store)
    return "".join(page.read_text() for page in [store.root / "leaderboard.md", *store.root.glob("*/details.md")])
