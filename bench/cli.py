"""The program: `run` and `control` measure, the other verbs read. A mistake is one sentence and exit 2."""

from __future__ import annotations

import argparse
import functools
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from bench import __version__
from bench.errors import Doubt, UserError, nearest

if TYPE_CHECKING:
    from bench.registry import Crossing, Registry, Request
    from bench.store import Store

# The words of `bench run`, on the command line and in --config, and how each is read.
WORDS = {
    "defense": list, "attack": list, "data": list, "plugin": list, "seeds": str, "epsilon": str, "results": str,
    "data-dir": str, "offline": bool, "accept-published": bool, "budget": str,
}  # fmt: skip
OF_PARTS = ("defense", "attack", "data", "seeds", "epsilon")  # what each part of a configuration can say for itself
PARTS = ("defenses", "attacks", "games", "data")


class Parser(argparse.ArgumentParser):
    """A parser that reports a mistake as every other part of the program does."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError."""
        raise UserError(f"{message}: see `{self.prog} --help`.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; 0 is done, 1 a cell failed, 2 a mistake of the user, 130 stopped by the user."""
    try:
        with warnings.catch_warnings():
            _show_doubts()
            arguments = _parse(list(sys.argv[1:] if argv is None else argv))
            verb: Callable[[argparse.Namespace], int] = arguments.does
            code = verb(arguments)
        sys.stdout.flush()
    except UserError as error:
        _complain(str(error))
        return 2
    except KeyboardInterrupt:
        _complain("stopped; what was measured is stored, and the same command goes on from there.")
        return 130
    except BrokenPipeError:
        # Whoever read has seen enough; without this Python complains again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as end:  # argparse after --help and --version, rich on a closed pipe
        return end.code if isinstance(end.code, int) else 0
    return code


def _complain(sentence: str) -> None:
    print(f"bench: {' '.join(sentence.split())}", file=sys.stderr)


def _show_doubts() -> None:
    """A Doubt that nobody stored with a number is a line for the user, without Python's file and line."""
    plain = warnings.showwarning

    def show(
        message: Warning | str, category: type[Warning], filename: str, lineno: int,
        file: TextIO | None = None, line: str | None = None,
    ) -> None:  # fmt: skip
        if issubclass(category, Doubt):
            _complain(f"note: {message}")
        else:
            plain(message, category, filename, lineno, file, line)

    warnings.showwarning = show


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(prog="bench", allow_abbrev=False, description="Defenses, attacks and the board that judges both.")
    parser.add_argument("--version", action="version", version=f"bench {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    parsers = {verb: add(verbs) for verb, add in (("run", _add_run), ("list", _add_list), ("table", _add_table))}
    parsers["plot"] = _add_plot(verbs)
    parsers["control"] = _add_control(verbs)
    parsers["exposed"] = _add_exposed(verbs)
    parsers["plan"] = _add_plan(verbs)
    parsers["why"] = _add_why(verbs)
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help", "--version")):
        given = f", and {argv[0]!r} after it" if argv else ""
        raise UserError(f"say first what to do{given}: {', '.join(parsers)}, or --help.")
    if not argv[0].startswith("-") and argv[0] not in parsers:
        raise UserError(f"there is no verb {argv[0]!r}: {nearest(argv[0], parsers)}")
    arguments, rest = parser.parse_known_args(argv)
    if rest:
        flags = (
            re.findall(r"--[a-z-]+", parsers[argv[0]].format_help()) if argv[0] in parsers else ["--help", "--version"]
        )
        raise UserError(f"`{argv[0]}` does not take {rest[0]!r}: {nearest(rest[0].partition('=')[0], set(flags))}")
    return arguments


Verbs = Any  # argparse names the type of add_subparsers() only privately


def _add_run(verbs: Verbs) -> argparse.ArgumentParser:
    run: argparse.ArgumentParser = verbs.add_parser(
        "run", allow_abbrev=False, help="measure what is not yet measured, then print the board",
        description="Measure each chosen defense against each attack that can be played; nothing chosen is everything.",
    )  # fmt: skip
    run.add_argument("--budget", metavar="TIME", help="as in 90s, 20m or 2h: what narrows the board most in that time")
    return _add_words(run, _run)


def _add_plan(verbs: Verbs) -> argparse.ArgumentParser:
    purpose = "say what `run` with the same words would do, and what it would take"
    plan: argparse.ArgumentParser = verbs.add_parser("plan", allow_abbrev=False, help=purpose)
    plan.set_defaults(budget=None)
    return _add_words(plan, _plan)


def _add_words(run: argparse.ArgumentParser, does: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    choice: dict[str, Any] = {"action": "append", "metavar": "NAME[,OPTION=VALUE...]"}
    run.add_argument("--defense", **choice, help="a defense and its options; repeatable (default: all)")
    run.add_argument(
        "--attack", **choice, help="an attack, or a game for all of its attacks; repeatable (default: all)"
    )
    run.add_argument("--data", **choice, help="a data set; repeatable (default: digits)")
    run.add_argument("--seeds", help="as in 0-4 or 0,3 (default: 0-2)")
    run.add_argument("--epsilon", help="as in 1,8,inf: repeat each defense that has the option once a value")
    run.add_argument("--results", metavar="DIR", help="where the cells are kept (default: results)")
    run.add_argument(
        "--data-dir", metavar="DIR", help="where official files of data sets are (default: $BENCH_DATA_DIR)"
    )
    flag = argparse.BooleanOptionalAction
    run.add_argument("--offline", action=flag, help="never download")
    run.add_argument("--accept-published", action=flag, help="take cells that another machine measured as done")
    run.add_argument("--plugin", action="append", metavar="FILE", help="a Python file with more components; repeatable")
    run.add_argument("--config", metavar="FILE", help="a YAML file with these words; flags win over it")
    run.set_defaults(does=does)
    return run


def _add_list(verbs: Verbs) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser("list", allow_abbrev=False, help="show what there is to choose")
    parser.add_argument("part", nargs="?", metavar="PART", help=f"{', '.join(PARTS)} (default: all of them)")
    parser.add_argument("--plugin", action="append", metavar="FILE", help="a Python file with more components")
    parser.set_defaults(does=_list)
    return parser


def _add_table(verbs: Verbs) -> argparse.ArgumentParser:
    return _add_reader(verbs, "table", "print and write the board", _table)


def _add_plot(verbs: Verbs) -> argparse.ArgumentParser:
    return _add_reader(verbs, "plot", "draw privacy against utility, and ROC curves", _plot)


def _add_why(verbs: Verbs) -> argparse.ArgumentParser:
    parser = _add_reader(verbs, "why", "say what changed since a cell was measured", _why)
    cell = "data/defense/attack/seed or the path of its file (default: all of them, counted by cause)"
    parser.add_argument("cell", nargs="?", metavar="CELL", help=cell)
    return parser


def _add_control(verbs: Verbs) -> argparse.ArgumentParser:
    purpose = "try attacks where nothing defends, and where there is nothing to find"
    parser = _add_reader(verbs, "control", purpose, _control)
    parser.add_argument("--data-dir", metavar="DIR", help="as of `run`: some controls are played on a larger data set")
    choice = "NAME[,OPTION=VALUE...]"
    parser.add_argument("--attack", action="append", metavar=choice, help="as of `run`; repeatable (default: all)")
    return parser


def _add_exposed(verbs: Verbs) -> argparse.ArgumentParser:
    parser = _add_reader(verbs, "exposed", "which private records are found, under which defenses", _exposed)
    parser.add_argument("--fpr", type=float, default=0.01, help="the false positive rate allowed (default: 0.01)")
    return parser


def _add_reader(
    verbs: Verbs, verb: str, purpose: str, does: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(verb, allow_abbrev=False, help=purpose)
    parser.add_argument("--results", metavar="DIR", default="results", help="where the cells are (default: results)")
    parser.add_argument("--plugin", action="append", metavar="FILE", help="a Python file with more components")
    parser.set_defaults(does=does)
    return parser


def _discover(plugins: Sequence[str] | None) -> Registry:
    from bench import checkout
    from bench.registry import discover

    if note := checkout.unused_edit(Path.cwd()):
        _complain(f"note: {note}")
    return discover([Path(plugin) for plugin in plugins or ()])


def _settings(arguments: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Flags over the file over nothing, by word: those of the whole run, and of each of its parts."""
    given = {word: getattr(arguments, word.replace("-", "_")) for word in WORDS}
    if arguments.config is None:
        return given, [given]
    from bench import config

    shared, parts = config.read(Path(arguments.config), WORDS, OF_PARTS)
    flags = {word: value for word, value in given.items() if value is not None}
    return {**given, **shared, **flags}, [{**given, **shared, **part, **flags} for part in parts]


def request(registry: Registry, settings: dict[str, Any], parts: Sequence[dict[str, Any]]) -> Request:
    """Turn the words of `bench run` into a typed request; a word that was left out is None."""
    from bench import choosing
    from bench.data import Where
    from bench.registry import Request

    data_dir = _data_dir(settings["data-dir"])
    results = Path(settings["results"] or "results")
    if results.exists() and not results.is_dir():
        raise UserError(f"{results} is not a folder: give --results the folder of the cells.")
    return Request(
        crossings=tuple(_crossing(registry, part) for part in parts),
        results=results,
        where=Where(data_dir, bool(settings["offline"])),
        accept_published=bool(settings["accept-published"]),
        budget=None if settings["budget"] is None else choosing.duration(settings["budget"]),
    )


def _crossing(registry: Registry, part: dict[str, Any]) -> Crossing:
    from bench import choosing
    from bench.registry import Crossing

    defenses = choosing.choose_all(registry, "defense", part["defense"] or [])
    if part["epsilon"] is not None:
        defenses = choosing.sweep(defenses, choosing.epsilons(part["epsilon"]))
    return Crossing(
        defenses=choosing.distinct(defenses),
        attacks=choosing.distinct(choosing.choose_all(registry, "attack", part["attack"] or [])),
        data=choosing.distinct(choosing.choose_all(registry, "data", part["data"] or [])),
        seeds=choosing.seeds("0-2" if part["seeds"] is None else part["seeds"]),
    )


def _data_dir(given: str | None) -> Path | None:
    data_dir = given or os.environ.get("BENCH_DATA_DIR") or None
    if data_dir is not None and not Path(data_dir).is_dir():
        raise UserError(f"the data folder {data_dir} does not exist: correct --data-dir or BENCH_DATA_DIR.")
    return Path(data_dir) if data_dir else None


def _run(arguments: argparse.Namespace) -> int:
    settings, parts = _settings(arguments)
    registry = _discover(settings["plugin"])
    asked = request(registry, settings, parts)

    from bench import runner
    from bench.progress import Progress
    from bench.store import Store

    for line in registry.broken:
        _complain(f"note: {line}")
    store = Store(asked.results)
    with Progress() as progress:
        outcome = runner.run(asked, registry, store, progress)
    _publish(store, registry, outcome.failed)
    for why in dict.fromkeys(outcome.failed.values()):
        cells = ["/".join(map(str, cell)) for cell, reason in outcome.failed.items() if reason == why]
        more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
        _complain(f"failed: {cells[0]}{more}: {why}")
    if outcome.left:
        some = ", ".join("/".join(map(str, cell)) for cell in outcome.left[:3]) + ", ..." * (len(outcome.left) > 3)
        _complain(f"note: the budget left {len(outcome.left)} to measure ({some}); `bench plan` says what that takes.")
    return 1 if outcome.failed else 0


def _plan(arguments: argparse.Namespace) -> int:
    settings, parts = _settings(arguments)
    registry = _discover(settings["plugin"])
    asked = request(registry, settings, parts)

    from bench import plan
    from bench.store import Store

    print("\n".join(plan.lines(plan.make(asked, Store(asked.results)))))
    return 0


def _why(arguments: argparse.Namespace) -> int:
    registry = _discover(arguments.plugin)

    from bench import why
    from bench.store import Store

    store = Store(_results(arguments))
    if arguments.cell in (None, "all"):
        said = why.summary(store, registry)
    else:
        said = why.explain(why.find(store, arguments.cell), registry, store.machine)
    print("\n".join(said))
    return 0


def _list(arguments: argparse.Namespace) -> int:
    if arguments.part is not None and arguments.part not in PARTS:
        raise UserError(f"there is no list of {arguments.part!r}: {nearest(arguments.part, PARTS)}")
    registry = _discover(arguments.plugin)

    from bench import listing

    listing.show(registry, [arguments.part] if arguments.part else PARTS)
    return 0


def _table(arguments: argparse.Namespace) -> int:
    registry = _discover(arguments.plugin)

    from bench.store import Store

    for line in registry.broken:
        _complain(f"note: {line}")
    _publish(Store(_results(arguments)), registry, {})
    return 0


def _publish(store: Store, registry: Registry, failed: Mapping[tuple[str, str, str, int], str]) -> None:
    """Write the board of all that is stored, and print it."""
    from bench import controls, standing, table
    from bench.cells import freshness
    from bench.comparing import Comparisons

    with store.lock():  # else of two runs that end together the first to read may be the last to write
        compare = Comparisons(store)
        caveat = functools.partial(controls.caveat, store, registry)
        board = standing.compared(table.build(store, registry, failed, freshness(registry), caveat), compare)
        table.write(board, store)
        compare.save()
    table.show(board)


def _control(arguments: argparse.Namespace) -> int:
    registry = _discover(arguments.plugin)

    from bench import choosing, controls
    from bench.data import Where
    from bench.progress import Progress
    from bench.store import Store

    store = Store(Path(arguments.results))
    chosen = choosing.distinct(choosing.choose_all(registry, "attack", arguments.attack or []))
    with Progress() as progress:
        found = controls.run(chosen, registry, store, Where(_data_dir(arguments.data_dir)), progress)
    for control in found:
        print(control)
    return 1 if any(control.red for control in found) else 0


def _exposed(arguments: argparse.Namespace) -> int:
    registry = _discover(arguments.plugin)

    from bench import exposed
    from bench.cells import freshness
    from bench.store import Store

    store, fresh = Store(_results(arguments)), freshness(registry)
    paths, _ = exposed.export(store, filter(fresh, store.results()), arguments.fpr)
    print(paths[-1].read_text(), *paths, sep="\n")
    return 0


def _plot(arguments: argparse.Namespace) -> int:
    registry = _discover(arguments.plugin)

    from bench import plot
    from bench.cells import freshness
    from bench.store import Store

    for path in plot.draw(Store(_results(arguments)), freshness(registry)):
        print(path)
    return 0


def _results(arguments: argparse.Namespace) -> Path:
    results = Path(arguments.results)
    if not results.is_dir():
        raise UserError(f"there is no folder {results}: measure first with `bench run`, or correct --results.")
    return results
