"""The verbs that read: `list`, `table`, `plot`, `why`, `exposed`, `score`; and what the others share with them."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.errors import UserError, suggest, warn_user

if TYPE_CHECKING:
    from bench.report.leaderboard import Section
    from bench.runner.registry import Registry
    from bench.store.store import Key, Store

PARTS = ("defenses", "attacks", "games", "data", "figures")
Verbs = Any  # argparse names the type of add_subparsers() only privately


def add_list(verbs: Verbs) -> argparse.ArgumentParser:
    """The parser of `list`."""
    parser: argparse.ArgumentParser = verbs.add_parser("list", allow_abbrev=False, help="show what there is to choose")
    parser.add_argument("part", nargs="?", metavar="PART", help=f"{', '.join(PARTS)} (default: all of them)")
    parser.add_argument("name", nargs="?", metavar="NAME", help="of `data`: the card of one set, or of a file of yours")
    parser.add_argument("--plugin", action="append", metavar="FILE", help="a Python file with more components")
    parser.set_defaults(does=_list)
    return parser


def add_table(verbs: Verbs) -> argparse.ArgumentParser:
    """The parser of `table`."""
    return add_reader(verbs, "table", "print and write the board", _table)


def add_plot(verbs: Verbs) -> argparse.ArgumentParser:
    """The parser of `plot`."""
    return add_reader(verbs, "plot", "draw privacy against utility, and ROC curves", _plot)


def add_reader(
    verbs: Verbs, verb: str, purpose: str, does: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    """The parser of a verb that needs to know no more than where the cells are."""
    parser: argparse.ArgumentParser = verbs.add_parser(verb, allow_abbrev=False, help=purpose)
    parser.add_argument("--results", metavar="DIR", default="results", help="where the cells are (default: results)")
    parser.add_argument("--plugin", action="append", metavar="FILE", help="a Python file with more components")
    parser.set_defaults(does=does)
    return parser


def discover(plugins: Sequence[str] | None) -> Registry:
    """Every component, those of the plugins too; a note where an edit of this checkout is not what runs."""
    from bench.runner import editable_install
    from bench.runner.registry import discover

    if note := editable_install.unused_edit(Path.cwd()):
        warn_user(f"note: {note}")
    return discover([Path(plugin) for plugin in plugins or ()])


def stored(results: str | None) -> Store:
    """The cells in a folder, by default `results`. Raises UserError where there is no such folder."""
    from bench.store.store import Store

    folder = Path(results or "results")
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: measure first with `bench run`, or correct --results.")
    return Store(folder)


def add_why(verbs: Verbs) -> argparse.ArgumentParser:
    """The parser of `why`."""
    parser = add_reader(verbs, "why", "say what changed since a cell was measured", _why)
    cell = "data/defense/attack/seed or the path of its file (default: all of them, counted by cause)"
    parser.add_argument("cell", nargs="?", metavar="CELL", help=cell)
    return parser


def add_exposed(verbs: Verbs) -> argparse.ArgumentParser:
    """The parser of `exposed`."""
    parser = add_reader(verbs, "exposed", "which private records are found, under which defenses", _exposed)
    parser.add_argument("--fpr", type=float, default=0.01, help="the false positive rate allowed (default: 0.01)")
    return parser


def add_score(verbs: Verbs) -> argparse.ArgumentParser:
    """The parser of `score`."""
    purpose = "what scores of anybody's model prove against its epsilon"
    parser: argparse.ArgumentParser = verbs.add_parser("score", allow_abbrev=False, help=purpose)
    parser.add_argument("file", metavar="FILE", help="an .npz: `in` and `out`, `scores` and `member`, or `included`")
    parser.add_argument("--confidence", type=float, default=0.95, help="of each bound (default: 0.95)")
    parser.add_argument("--results", metavar="DIR", default="results", help="where the row is kept (default: results)")
    parser.set_defaults(does=_score)
    return parser


def _list(arguments: argparse.Namespace) -> int:
    if arguments.part is not None and arguments.part not in PARTS:
        raise UserError(f"there is no list of {arguments.part!r}: {suggest(arguments.part, PARTS)}")
    if arguments.name is not None and arguments.part != "data":
        raise UserError(f"only data sets have a card: leave {arguments.name!r} out, or `bench list data NAME`.")
    registry = discover(arguments.plugin)

    from bench.report import catalogue
    from bench.runner import selection

    if arguments.name is not None:
        for choice in selection.choose(registry, "data", arguments.name):
            catalogue.show_card(choice.name, choice.component)
        return 0
    catalogue.show(registry, [arguments.part] if arguments.part else PARTS)
    return 0


def _table(arguments: argparse.Namespace) -> int:
    registry = discover(arguments.plugin)
    for line in registry.broken:
        warn_user(f"note: {line}")
    return 3 if publish(stored(arguments.results), registry, {}) else 0


def _plot(arguments: argparse.Namespace) -> int:
    registry = discover(arguments.plugin)

    from bench.report import plots
    from bench.store.freshness import freshness

    for path in plots.draw(stored(arguments.results), freshness(registry.find)):
        print(path)
    return 0


def _exposed(arguments: argparse.Namespace) -> int:
    registry = discover(arguments.plugin)

    from bench.report import exposure
    from bench.store.freshness import freshness

    store, fresh = stored(arguments.results), freshness(registry.find)
    paths, _ = exposure.export(store, filter(fresh, store.results()), arguments.fpr)
    print(paths[-1].read_text(), *paths, sep="\n")
    return 0


def _score(arguments: argparse.Namespace) -> int:
    from bench.audit import score_audit, score_file
    from bench.report.score_rows import lines_of
    from bench.store import score_rows
    from bench.store.store import Store

    found = score_audit.audit(score_file.load(Path(arguments.file)), arguments.confidence)
    path = score_rows.save(found, Store(Path(arguments.results)))
    print(*lines_of(found), f"{path}: a row for `bench table`", sep="\n")
    return 3 if found.violated else 0


def _why(arguments: argparse.Namespace) -> int:
    registry = discover(arguments.plugin)

    from bench.store import staleness

    store = stored(arguments.results)
    if arguments.cell in (None, "all"):
        said = staleness.summary(store, registry.find)
    else:
        said = staleness.explain(store, staleness.find(store, arguments.cell), registry.find, store.known_machine)
    print("\n".join(said))
    return 0


def publish(
    store: Store,
    registry: Registry,
    failed: Mapping[Key, str],
    wanted: Callable[[Section], bool] = lambda section: True,
) -> bool:
    """Write the board of all that is stored, print the wanted sections; whether they show a claim that is refuted."""
    from bench.lint import verdicts
    from bench.report import audit_page, epsilon_column, ranking, render
    from bench.report.comparisons import Comparisons
    from bench.runner import controls
    from bench.store.freshness import freshness
    from bench.store.store import AUDITS, uncollected

    with uncollected(), store.lock():  # else of two runs that end together the first to read may be the last to write
        compare = Comparisons(store)
        caveat = functools.partial(controls.caveat, store, registry)
        known = epsilon_column.known(store, registry, functools.partial(verdicts.caveat, store, registry))
        board = ranking.compared(
            render.build(store, registry, failed, freshness(registry.find), caveat, known), compare
        )
        render.write(board, store)
        if (store.root / AUDITS).is_dir():
            audit_page.write(store, registry)
        compare.save()
    render.show(board, wanted=wanted)
    return any(row.claim.violated for section in filter(wanted, board.sections) for row in section.rows)
