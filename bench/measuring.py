"""The verbs that measure: `run`, `check`, `figure` and `control`; and `plan`, which says what they would take."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import UserError, complain
from bench.reading import Verbs, add_reader, discover, publish, stored

if TYPE_CHECKING:
    from bench.figures import Plan
    from bench.registry import Crossing, Registry, Request
    from bench.runner import Outcome
    from bench.store import Store

# The words of `bench run`, on the command line and in --config, and how each is read.
WORDS = {
    "defense": list, "attack": list, "data": list, "plugin": list, "seeds": str, "epsilon": str, "results": str,
    "data-dir": str, "offline": bool, "accept-published": bool, "budget": str,
}  # fmt: skip
OF_PARTS = ("defense", "attack", "data", "seeds", "epsilon")  # what each part of a configuration can say for itself


def add_run(verbs: Verbs) -> argparse.ArgumentParser:
    """The parser of `run`."""
    run: argparse.ArgumentParser = verbs.add_parser(
        "run", allow_abbrev=False, help="measure what is not yet measured, then print the board",
        description="Measure each chosen defense against each attack that can be played; nothing chosen is everything.",
    )  # fmt: skip
    run.add_argument("--budget", metavar="TIME", help="as in 90s, 20m or 2h: what narrows the board most in that time")
    run.add_argument(
        "--release", nargs="?", const="release", metavar="DIR",
        help="train each defense once, with noise from the system, and write what it publishes (default: release)",
    )  # fmt: skip
    return _add_accepting(_add_words(run, _run))


def add_check(verbs: Verbs) -> argparse.ArgumentParser:
    """The parser of `check`."""
    check: argparse.ArgumentParser = verbs.add_parser(
        "check", allow_abbrev=False, help="measure stored cells again, apart, and compare",
        description="Measure the stored ones of the cells that `run` with the same words would measure again, in a "
        "folder of their own, and compare. Exit codes: 0 every cell came back, equal or inside its stored interval; "
        "1 a cell failed; 2 a mistake in the command; 4 a cell drifted out of its interval, or its claim changed.",
    )  # fmt: skip
    check.add_argument("--budget", metavar="TIME", help="as of `run`: what is not measured by then is not compared")
    check.add_argument("--sample", type=int, metavar="N", help="so many of the cells, spread over rows and attacks")
    check.add_argument("--sample-seed", type=int, metavar="SEED", help="draw the sample that another check printed")
    check.add_argument("--into", metavar="DIR", help="where to measure, to be resumed (default: a temporary folder)")
    check.add_argument("--write", metavar="FILE", help="write the difference, in Markdown, to a file too")
    return _add_words(check, _check)


def add_plan(verbs: Verbs) -> argparse.ArgumentParser:
    """The parser of `plan`."""
    purpose = "say what `run` with the same words would do, and what it would take"
    plan: argparse.ArgumentParser = verbs.add_parser("plan", allow_abbrev=False, help=purpose)
    return _add_accepting(_add_words(plan, _plan))


def _add_words(run: argparse.ArgumentParser, does: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    choice: dict[str, Any] = {"action": "append", "metavar": "NAME[,OPTION=VALUE...]"}
    run.add_argument("--defense", **choice, help="a defense and its options; repeatable (default: all)")
    run.add_argument(
        "--attack", **choice, help="an attack, or a game for all of its attacks; repeatable (default: all)"
    )
    run.add_argument("--data", **choice, help="a data set, or a .csv or .npz file; repeatable (default: digits)")
    run.add_argument("--epsilon", help="as in 1,8,inf: repeat each defense that has the option once a value")
    _add_shared(run, seeds="as in 0-4 or 0,3 (default: 0-2)")
    run.add_argument("--config", metavar="FILE", help="a YAML file with these words; flags win over it")
    run.set_defaults(does=does)
    return run


def add_figure(verbs: Verbs) -> argparse.ArgumentParser:
    """The parser of `figure`."""
    figure: argparse.ArgumentParser = verbs.add_parser(
        "figure", allow_abbrev=False, help="measure what a figure of the paper needs, then draw it",
        description="Measure the cells of a figure that are not yet measured, then draw it below results/figures/.",
    )  # fmt: skip
    figure.add_argument("name", nargs="+", metavar="NAME", help="a figure (`bench list figures`), or all")
    figure.add_argument("--draw-only", action="store_true", help="measure nothing: draw what is stored")
    _add_shared(figure, seeds="as of `run` (default: those of the figure)")
    figure.set_defaults(does=_figure)
    return _add_accepting(figure)


def _add_shared(parser: argparse.ArgumentParser, *, seeds: str) -> None:
    """The flags of whatever measures cells."""
    flag = argparse.BooleanOptionalAction
    parser.add_argument("--seeds", help=seeds)
    parser.add_argument("--results", metavar="DIR", help="where the cells are kept (default: results)")
    parser.add_argument(
        "--data-dir", metavar="DIR", help="where official files of data sets are (default: $BENCH_DATA_DIR)"
    )
    parser.add_argument("--offline", action=flag, help="never download")
    parser.add_argument(
        "--plugin", action="append", metavar="FILE", help="a Python file with more components; repeatable"
    )


def _add_accepting(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The flag of whatever need not measure everything itself."""
    flag = argparse.BooleanOptionalAction
    parser.add_argument("--accept-published", action=flag, help="take cells that another machine measured as done")
    return parser


def add_control(verbs: Verbs) -> argparse.ArgumentParser:
    """The parser of `control`."""
    purpose = "try attacks where nothing defends, and where there is nothing to find"
    parser = add_reader(verbs, "control", purpose, _control)
    parser.add_argument("--data-dir", metavar="DIR", help="as of `run`: some controls are played on a larger data set")
    choice = "NAME[,OPTION=VALUE...]"
    parser.add_argument("--attack", action="append", metavar=choice, help="as of `run`; repeatable (default: all)")
    return parser


def settings(arguments: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Flags over the file over nothing, by word: those of the whole run, and of each of its parts."""
    given = _given(arguments)
    if arguments.config is None:
        return given, [given]
    from bench import config

    shared, parts = config.read(Path(arguments.config), WORDS, OF_PARTS)
    flags = {word: value for word, value in given.items() if value is not None}
    return {**given, **shared, **flags}, [{**given, **shared, **part, **flags} for part in parts]


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every word of a run and what the flags say of it, None where they say nothing or have no such flag."""
    return {word: getattr(arguments, word.replace("-", "_"), None) for word in WORDS}


def request(registry: Registry, settings: dict[str, Any], parts: Sequence[dict[str, Any]]) -> Request:
    """Turn the words of `bench run` into a typed request; a word that was left out is None."""
    from bench import choosing
    from bench.data import Where
    from bench.registry import Request

    folder = data_dir(settings["data-dir"])
    results = Path(settings["results"] or "results")
    if results.exists() and not results.is_dir():
        raise UserError(f"{results} is not a folder: give --results the folder of the cells.")
    return Request(
        crossings=tuple(_crossing(registry, part) for part in parts),
        results=results,
        where=Where(folder, bool(settings["offline"])),
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


def data_dir(given: str | None) -> Path | None:
    """Where official files are, by the flag or else the environment. Raises UserError for what is no folder."""
    folder = given or os.environ.get("BENCH_DATA_DIR") or None
    if folder is not None and not Path(folder).is_dir():
        raise UserError(f"the data folder {folder} does not exist: correct --data-dir or BENCH_DATA_DIR.")
    return Path(folder) if folder else None


def _run(arguments: argparse.Namespace) -> int:
    given, parts = settings(arguments)
    if arguments.release is not None:
        return _release(Path(arguments.release), given, parts)
    registry = discover(given["plugin"])
    asked = request(registry, given, parts)

    from bench import cells

    doubted = _probe(asked, registry)
    store, outcome = _measure(asked, registry)
    games = ((cell.data.label, cell.attack.component.game) for cell in cells.asked(asked.crossings))
    kinds = {(data, game.name) for data, game in games if game}
    refuted = publish(
        store, registry, outcome.failed, lambda section: (section.data, section.game.split()[0]) in kinds
    )
    return max(_exit(outcome), 3 * (doubted or refuted))


def _probe(asked: Request, registry: Registry) -> bool:
    """Probe whoever claims DP and was not probed by today's code; say what was found of all that are asked for."""
    from bench.probes import verdicts
    from bench.progress import Progress
    from bench.store import Store

    store, defenses = Store(asked.results), [one for crossing in asked.crossings for one in crossing.defenses]
    todo = verdicts.stale(store, registry, defenses)
    if todo:
        store.check_writable()
    with Progress() as progress:
        for done, one in enumerate(todo):
            progress.step(f"probing what {one.label} claims", done, len(todo))
            verdicts.save(store, verdicts.measure(one, registry))
    wrong = {one.label: verdicts.caveat(store, registry, one.label) for one in defenses}
    for label, sentence in wrong.items():
        if sentence:
            complain(f"{label}: {sentence}")
    return any(wrong.values())


def _release(folder: Path, given: dict[str, Any], parts: Sequence[dict[str, Any]]) -> int:
    from bench import releasing
    from bench.progress import Progress

    releasing.check_words(parts)
    registry = discover(given["plugin"])
    asked = request(registry, given, parts)
    planned = releasing.plan(asked.crossings, folder)
    with Progress() as progress:
        return releasing.run(planned, asked.where, progress)


def _check(arguments: argparse.Namespace) -> int:
    given, parts = settings(arguments)
    registry = discover(given["plugin"])
    asked = request(registry, given, parts)

    from bench import check
    from bench.store import write

    kept = stored(given["results"])
    chosen = check.choose(asked, kept, arguments.sample, arguments.sample_seed)
    into = Path(arguments.into) if arguments.into else None
    try:
        with check.folder(into, kept) as anew:
            cells, notes = check.reachable(chosen.cells, anew, asked.where)
            again = replace(asked, results=anew.root, crossings=check.crossings(cells), accept_published=False)
            _, outcome = _measure(again, registry)
            if outcome.left:
                notes.append(f"the budget left {len(outcome.left)} cells, which are not compared")
            report = check.compare(chosen, anew, outcome.failed, registry, kept, notes)
    except KeyboardInterrupt:
        if into:
            raise  # whoever calls says how to go on
        complain("stopped; nothing was kept: with --into DIR the same command goes on where it stopped.")
        return 130
    text = check.markdown(report)
    print(text, end="")
    if arguments.write:
        write(Path(arguments.write), text.encode())
    return report.code


def _measure(asked: Request, registry: Registry) -> tuple[Store, Outcome]:
    from bench import runner
    from bench.progress import Progress
    from bench.store import Store

    for line in registry.broken:
        complain(f"note: {line}")
    store = Store(asked.results)
    with Progress() as progress:
        return store, runner.run(asked, registry, store, progress)


def _exit(outcome: Outcome) -> int:
    """Say which cells failed and why; the exit code that this makes."""
    for why in dict.fromkeys(outcome.failed.values()):
        cells = ["/".join(map(str, cell)) for cell, reason in outcome.failed.items() if reason == why]
        more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
        complain(f"failed: {cells[0]}{more}: {why}")
    if outcome.left:
        some = ", ".join("/".join(map(str, cell)) for cell in outcome.left[:3]) + ", ..." * (len(outcome.left) > 3)
        complain(f"note: the budget left {len(outcome.left)} to measure ({some}); `bench plan` says what that takes.")
    return 1 if outcome.failed else 0


def _plan(arguments: argparse.Namespace) -> int:
    given, parts = settings(arguments)
    registry = discover(given["plugin"])
    asked = request(registry, given, parts)

    from bench import plan
    from bench.store import Store

    print("\n".join(plan.lines(plan.make(asked, Store(asked.results)))))
    return 0


def _figure(arguments: argparse.Namespace) -> int:
    from bench import figures
    from bench.cells import asked, freshness

    plans = figures.choose(arguments.name)
    given = _given(arguments)
    registry = discover(given["plugin"])
    requests = [_planned(registry, plan, given) for plan in plans]
    if arguments.draw_only:
        store, code = stored(given["results"]), 0
    else:
        every = tuple(crossing for one in requests for crossing in one.crossings)
        store, outcome = _measure(replace(requests[0], crossings=every), registry)
        publish(store, registry, outcome.failed, lambda section: False)
        code = _exit(outcome)
    cells = [asked(one.crossings) for one in requests]
    said = [f" --{word} {value}" for word in ("seeds", "plugin") for value in _several(given[word])]
    drawn = dict(zip(plans, cells, strict=True))
    for path in figures.draw(drawn, figures.FIGURES, store, freshness(registry), "".join(said)):
        print(path)
    return code


def _several(given: str | list[str] | None) -> list[str]:
    return [given] if isinstance(given, str) else given or []


def _planned(registry: Registry, plan: Plan, given: dict[str, Any]) -> Request:
    """What `bench run --config` would ask for with the plan as its parts. Raises UserError that names the figure."""
    from bench import config

    flags = {word: value for word, value in given.items() if value is not None}
    own = {word: WORDS[word] for word in OF_PARTS}
    try:
        parts = [config.typed(plan.name, part, own) for part in plan.parts]
        return request(registry, given, [{**given, **part, **flags} for part in parts])
    except UserError as error:
        raise UserError(f"the figure {plan.name} cannot be planned: {error}") from error


def _control(arguments: argparse.Namespace) -> int:
    registry = discover(arguments.plugin)

    from bench import choosing, controls
    from bench.data import Where
    from bench.progress import Progress
    from bench.store import Store

    store = Store(Path(arguments.results))
    chosen = choosing.distinct(choosing.choose_all(registry, "attack", arguments.attack or []))
    with Progress() as progress:
        found = controls.run(chosen, registry, store, Where(data_dir(arguments.data_dir)), progress)
    for control in found:
        print(control)
    return 1 if any(control.red for control in found) else 0
