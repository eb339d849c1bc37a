"""Writes all pages of the leaderboard and prints it: what `bench table` does, and `bench run` at its end."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from bench.core.errors import UserError, warn_user
from bench.report import aggregate, audit_page, csv, epsilon_column, markdown, page_state, ranking, terminal
from bench.report.comparisons import Comparisons
from bench.store import code_release
from bench.store.freshness import freshness
from bench.store.store import AUDITS, uncollected

if TYPE_CHECKING:
    from bench.report.leaderboard import Leaderboard, Place
    from bench.runner.registry import Registry
    from bench.store.store import Key, Store

READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}


def publish(
    store: Store,
    registry: Registry,
    failed: Mapping[Key, str],
    control: Callable[[str], str | None],
    probed: Callable[[str], str | None],
    wanted: Collection[Place] | None = None,
) -> bool:
    """Write the leaderboard of all stored cells and print the wanted sections; whether they show a refuted claim.

    failed: the error of each cell that failed in the run that has just ended. control, probed: the caveat of an attack
    by its controls and of a defense by its probes. wanted: None for all sections; without one nothing is printed.
    Pages that are those of the present results and code are not written again. The leaderboard is printed even where it
    cannot be written: a read-only folder is only mentioned, anything else that is in the way raises UserError
    afterwards.
    """
    known = epsilon_column.known(store, registry, probed)

    def built(compare: Comparisons, data: Collection[str] | None = None) -> Leaderboard:
        board = aggregate.build(store, registry, failed, freshness(registry.find), control, known, data)
        return ranking.compared(board, compare)

    refusal = None
    with uncollected():
        if wanted is not None and not failed and store.pages and store.pages == page_state.state(store, registry):
            board = built(Comparisons(store), {data for data, _ in wanted})
        else:
            board, refusal = _rewritten(store, registry, built, lasting=not failed)
    board = board if wanted is None else aggregate.limited(board, wanted)
    if wanted is None or wanted:
        terminal.show(board)
    if refusal and not _read_only(refusal):
        raise refusal
    if refusal:
        warn_user(f"note: the leaderboard is printed and not stored, for nothing can be written to {store.root}.")
    return any(row.claim.violated for section in board.sections for row in section.rows)


def _rewritten(
    store: Store, registry: Registry, built: Callable[[Comparisons], Leaderboard], *, lasting: bool
) -> tuple[Leaderboard, UserError | None]:
    """The leaderboard of all stored cells, of which every page is written, and the error that stopped that, if any.

    lasting: whether a later run would write the same pages; not so where they show what failed in this run.
    """
    refusal = None
    with ExitStack() as stack:
        try:
            # else, of two runs that end together, the first to read the cells may be the last to write the pages
            stack.enter_context(store.lock())
        except UserError as error:
            refusal = error
        before, compare = store.files(), Comparisons(store)
        board = built(compare)
        refusal = refusal or _written(board, store, registry, compare)
        if lasting and not refusal:
            page_state.remember(store, registry, before)
    return board, refusal


def _written(board: Leaderboard, store: Store, registry: Registry, compare: Comparisons) -> UserError | None:
    """Write every page and delete lists of code that no cell needs; the error that stopped it, if one did."""
    try:
        markdown.write(board, store)
        csv.write(board, store)
        if (store.root / AUDITS).is_dir():
            audit_page.write(store, registry)
        compare.save()
        code_release.prune(store)
    except UserError as error:
        return error
    return None


def _read_only(refusal: UserError) -> bool:
    return isinstance(refusal.__cause__, OSError) and refusal.__cause__.errno in READ_ONLY
