"""The verbs that measure: `run`, `check`, `figure` and `control`; and `plan`, which says what they would take."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli.options import (
    OF_PARTS,
    WORDS,
    add_accepting,
    add_shared,
    add_words,
    data_dir,
    flags,
    note_unplayable,
    request,
    settings,
)
from bench.cli.read_commands import Verbs, add_reader, discover, publish, stored
from bench.core.errors import UserError, warn_user

if TYPE_CHECKING:
    from bench.report.figures import Plan
    from bench.runner.cell import Cell
    from bench.runner.registry import Registry
    from bench.runner.request import Request
    from bench.runner.run import Outcome
    from bench.store.store import Store


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
    return add_accepting(add_words(run, _run))


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
    return add_words(check, _check)


def add_plan(verbs: Verbs) -> argparse.ArgumentParser:
    """The parser of `plan`."""
    purpose = "say what `run` with the same words would do, and what it would take"
    plan: argparse.ArgumentParser = verbs.add_parser("plan", allow_abbrev=False, help=purpose)
    plan.add_argument("--budget", metavar="TIME", help="as of `run`: only what it would get to by these estimates")
    return add_accepting(add_words(plan, _plan))


def add_figure(verbs: Verbs) -> argparse.ArgumentParser:
    """The parser of `figure`."""
    figure: argparse.ArgumentParser = verbs.add_parser(
        "figure", allow_abbrev=False, help="measure what a figure of the paper needs, then draw it",
        description="Measure the cells of a figure that are not yet measured, then draw it below results/figures/.",
    )  # fmt: skip
    figure.add_argument("name", nargs="+", metavar="NAME", help="a figure (`bench list figures`), or all")
    figure.add_argument("--draw-only", action="store_true", help="measure nothing: draw what is stored")
    add_shared(figure, seeds="as of `run` (default: those of the figure)")
    figure.set_defaults(does=_figure)
    return add_accepting(figure)


def add_control(verbs: Verbs) -> argparse.ArgumentParser:
    """The parser of `control`."""
    purpose = "try attacks where nothing defends, and where there is nothing to find"
    parser = add_reader(verbs, "control", purpose, _control)
    parser.add_argument("--data-dir", metavar="DIR", help="as of `run`: some controls are played on a larger data set")
    choice = "NAME[,OPTION=VALUE...]"
    parser.add_argument("--attack", action="append", metavar=choice, help="as of `run`; repeatable (default: all)")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    given, parts = settings(arguments)
    if arguments.release is not None:
        return _release(Path(arguments.release), given, parts)
    registry = discover(given["plugin"])
    asked = request(registry, given, parts)
    note_unplayable(asked)

    from bench.runner import cell as cells

    doubted = _probe(asked, registry)
    store, outcome = _measure(asked, registry)
    games = ((cell.data.label, cell.attack.component.game) for cell in cells.playable(asked.grids))
    kinds = {(data, game.name) for data, game in games if game}
    refuted = publish(store, registry, outcome.failed, lambda section: (section.data, section.game.split()[0]) in kinds)
    return max(_exit(outcome), 3 * (doubted or refuted))


def _probe(asked: Request, registry: Registry) -> bool:
    """Probe whoever claims DP and was not probed by today's code; say what was found of all that are asked for."""
    from bench.core.progress import Progress
    from bench.lint import verdicts
    from bench.report import reproduce as check
    from bench.runner import cell as cells
    from bench.store import lint_verdicts
    from bench.store.store import Store, uncollected

    store, defenses = Store(asked.results), [one for grid in asked.grids for one in grid.defenses]
    with uncollected():
        todo = verdicts.stale(store, registry, defenses)
    if todo:
        store.check_writable()
        if gone := check.lacking(cells.playable(asked.grids), asked.where):  # known before minutes go into probes
            raise UserError(" ".join(gone.values()))
    with Progress() as progress:
        for done, one in enumerate(todo):
            progress.step(f"probing what {one.label} claims", done, len(todo))
            lint_verdicts.save(store, verdicts.measure(one, registry))
    wrong = {one.label: verdicts.caveat(store, registry, one.label) for one in defenses}
    for label, sentence in wrong.items():
        if sentence:
            warn_user(f"{label}: {sentence}")
    return any(wrong.values())


def _release(folder: Path, given: dict[str, Any], parts: Sequence[dict[str, Any]]) -> int:
    from bench.core.progress import Progress
    from bench.lint.linter import lint
    from bench.runner import release

    release.check_words(parts)
    registry = discover(given["plugin"])
    asked = request(registry, given, parts)
    planned = release.plan(asked.grids, folder)
    with Progress() as progress:
        return release.run(planned, asked.where, progress, lint)


def _check(arguments: argparse.Namespace) -> int:
    given, parts = settings(arguments)
    registry = discover(given["plugin"])
    asked = request(registry, given, parts)

    from bench.core.files import write
    from bench.report import reproduce as check

    kept = stored(given["results"])
    chosen = check.choose(asked, kept, arguments.sample, arguments.sample_seed)
    into = Path(arguments.into) if arguments.into else None
    try:
        with check.folder(into, kept) as anew:
            cells, notes = check.reachable(chosen.cells, anew, asked.where)
            again = replace(asked, results=anew.root, grids=check.grids(cells), accept_published=False)
            _, outcome = _measure(again, registry)
            if outcome.left:
                notes.append(f"the budget left {len(outcome.left)} cells, which are not compared")
            report = check.compare(chosen, anew, outcome.failed, registry, kept, notes)
    except KeyboardInterrupt:
        if into:
            raise  # whoever calls says how to go on
        warn_user("stopped; nothing was kept: with --into DIR the same command goes on where it stopped.")
        return 130
    text = check.markdown(report)
    print(text, end="")
    if arguments.write:
        write(Path(arguments.write), text.encode())
    return report.code


def _measure(asked: Request, registry: Registry) -> tuple[Store, Outcome]:
    from bench.core.progress import Progress
    from bench.report.budget import Budget
    from bench.runner import cell as cells
    from bench.runner import run as runner
    from bench.store.freshness import freshness
    from bench.store.store import Store, uncollected

    for line in registry.broken:
        warn_user(f"note: {line}")
    store = Store(asked.results)
    with uncollected():  # the runner asks for each again, and finds what was read here
        for cell in cells.playable(asked.grids):
            store.load(*cell.name)
    budget = None if asked.budget is None else Budget(asked.budget, store, freshness(registry.find))
    with Progress() as progress:
        return store, runner.run(asked, registry, store, progress, budget)


def _exit(outcome: Outcome) -> int:
    """Say which cells failed and why; the exit code that this makes."""
    for why in dict.fromkeys(outcome.failed.values()):
        cells = ["/".join(map(str, cell)) for cell, reason in outcome.failed.items() if reason == why]
        more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
        warn_user(f"failed: {cells[0]}{more}: {why}")
    if outcome.left:
        some = ", ".join("/".join(map(str, cell)) for cell in outcome.left[:3]) + ", ..." * (len(outcome.left) > 3)
        warn_user(f"note: the budget left {len(outcome.left)} to measure ({some}); `bench plan` says what that takes.")
    return 1 if outcome.failed else 0


def _plan(arguments: argparse.Namespace) -> int:
    given, parts = settings(arguments)
    registry = discover(given["plugin"])
    asked = request(registry, given, parts)
    note_unplayable(asked)

    from bench.report import budget
    from bench.report import cost_estimate as plan
    from bench.store.freshness import freshness
    from bench.store.store import Store

    store = Store(asked.results)

    def within(cells: list[Cell]) -> list[Cell]:
        return cells if asked.budget is None else budget.foreseen(asked.budget, cells, store, freshness(registry.find))

    print("\n".join(plan.lines(plan.make(asked, store, within))))
    return 0


def _figure(arguments: argparse.Namespace) -> int:
    from bench.report import figures
    from bench.runner.cell import playable
    from bench.store.freshness import freshness

    plans = figures.choose(arguments.name)
    given = flags(arguments)
    registry = discover(given["plugin"])
    requests = [_planned(registry, plan, given) for plan in plans]
    if arguments.draw_only:
        store, code = stored(given["results"]), 0
    else:
        every = tuple(grid for one in requests for grid in one.grids)
        store, outcome = _measure(replace(requests[0], grids=every), registry)
        publish(store, registry, outcome.failed, lambda section: False)
        code = _exit(outcome)
    cells = [playable(one.grids) for one in requests]
    said = [f" --{word} {value}" for word in ("seeds", "plugin") for value in _several(given[word])]
    drawn = dict(zip(plans, cells, strict=True))
    for path in figures.draw(drawn, figures.FIGURES, store, freshness(registry.find), "".join(said)):
        print(path)
    return code


def _several(given: str | list[str] | None) -> list[str]:
    return [given] if isinstance(given, str) else given or []


def _planned(registry: Registry, plan: Plan, given: dict[str, Any]) -> Request:
    """What `bench run --config` would ask for with the plan as its parts. Raises UserError that names the figure."""
    from bench.runner import config_file

    said = {word: value for word, value in given.items() if value is not None}
    own = {word: WORDS[word] for word in OF_PARTS}
    try:
        parts = [config_file.typed(plan.name, part, own) for part in plan.parts]
        return request(registry, given, [{**given, **part, **said} for part in parts])
    except UserError as error:
        raise UserError(f"the figure {plan.name} cannot be planned: {error}") from error


def _control(arguments: argparse.Namespace) -> int:
    registry = discover(arguments.plugin)

    from bench.core.dataset import Where
    from bench.core.progress import Progress
    from bench.runner import controls, selection
    from bench.store.store import Store

    store = Store(Path(arguments.results))
    chosen = selection.distinct(selection.choose_all(registry, "attack", arguments.attack or []))
    with Progress() as progress:
        found = controls.run(chosen, registry, store, Where(data_dir(arguments.data_dir)), progress)
    for control in found:
        print(control)
    return 1 if any(control.red for control in found) else 0
