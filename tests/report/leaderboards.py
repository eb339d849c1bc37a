"""A stored leaderboard of made-up cells, and its pages as text."""

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
    """A registry, as far as the board looks at one."""
    return SimpleNamespace(
        defenses={name: SimpleNamespace(publishes=frozenset(given)) for name, given in defenses.items()},
        attacks={name: SimpleNamespace(needs=frozenset(needs), game=GAME) for name, needs in attacks.items()},
        data={"digits": SimpleNamespace(has=frozenset({"pictures"}))},
    )


PLAIN = known({"none": {"predict"}}, {"confidence": {"predict"}})


def keep(path: Path, results: Iterable[CellResult]) -> Store:
    store = Store(path)
    for result in results:
        store.save(result)
    return store


def only(board: Any) -> Any:
    """The single cell of a board with one."""
    ((cell,),) = [row.cells for section in board.sections for row in section.rows]
    return cell


def printed(board: Any, width: int) -> str:
    file = io.StringIO()
    show(board, Console(file=file, width=width))
    return file.getvalue()


def write(board: Any, store: Store) -> None:
    pages.write(board, store)
    csv_page.write(board, store)


def markdown(board: Any, store: Store) -> str:
    """The leaderboard and the pages of details."""
    write(board, store)
    return "".join(page.read_text() for page in [store.root / "leaderboard.md", *store.root.glob("*/details.md")])
