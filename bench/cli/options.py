"""What several commands share: their flags, the settings of a run, and the request that these make.

The settings are those of `bench run`, as flags or in a configuration. `plan`, `reproduce` and `audit` take the same
ones; `release`, `figure` and `test` take some of them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli import completion
from bench.core.errors import UserError, warn_user

if TYPE_CHECKING:
    from bench.runner.registry import Registry
    from bench.runner.request import Grid, Request
    from bench.store.store import Store

# Each setting of a run with the type that it has in a configuration.
SETTINGS = {
    "defense": list, "attack": list, "data": list, "plugin": list, "seeds": str, "epsilon": str, "results": str,
    "data-dir": str, "offline": bool, "reuse-committed": bool, "reference": bool, "budget": str,
    "workers": str, "scheduler": str, "cluster": str, "cluster-option": list, "dry-run": bool,
}  # fmt: skip
PART_SETTINGS = ("defense", "attack", "data", "seeds", "epsilon")  # those that a part of a configuration may set
CHOICE: dict[str, Any] = {"action": "append", "metavar": "NAME[,OPTION=VALUE...]"}

Commands = Any  # argparse names the type of add_subparsers() only privately
Execute = Callable[[argparse.Namespace], int]


def new_parser(
    commands: Commands, name: str, execute: Execute, purpose: str, description: str | None = None
) -> argparse.ArgumentParser:
    """The parser of one command. purpose: what `bench --help` says of it, and its own help where that is all."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        prog=f"bench {name}",
        allow_abbrev=False,
        help=purpose,
        description=description or f"{purpose[0].upper()}{purpose[1:]}.",
        formatter_class=help_formatter,
    )
    parser.set_defaults(execute=execute)
    return parser


def help_formatter(prog: str) -> argparse.HelpFormatter:
    """The layout of help texts, imported only where one is shown: that takes as long as all else together."""
    from rich_argparse import RichHelpFormatter

    class Formatter(RichHelpFormatter):
        text_markup = help_markup = False  # brackets in our texts are no markup

    return Formatter(prog)


def add_grid(parser: argparse.ArgumentParser) -> None:
    """The flags of commands that measure selected defenses against selected attacks."""
    add_rows(parser)
    add_attack(parser)
    add_seeds(parser, "as in 0-4 or 0,3 (default: 0-2)")
    add_locations(parser)


def add_rows(parser: argparse.ArgumentParser) -> None:
    """The flags that select rows of the leaderboard."""
    defense = parser.add_argument("--defense", **CHOICE, help="a defense and its options; repeatable (default: all)")
    completion.attach(defense, completion.components("defense"))
    data = parser.add_argument(
        "--data", **CHOICE, help="a data set, or a .csv or .npz file; repeatable (default: digits)"
    )
    completion.attach(data, completion.components("data"))
    parser.add_argument("--epsilon", help="as in 1,8,inf: repeat each defense that has this option, once per value")
    parser.add_argument("--config", metavar="FILE", help="a YAML file with these settings; flags win over it")


def add_attack(parser: argparse.ArgumentParser) -> None:
    """The flag that selects attacks."""
    attack = parser.add_argument(
        "--attack", **CHOICE, help="an attack, or a game for all of its attacks; repeatable (default: all)"
    )
    completion.attach(attack, completion.components("attack"))


def add_seeds(parser: argparse.ArgumentParser, text: str) -> None:
    """The flag that selects seeds."""
    parser.add_argument("--seeds", help=text)


def add_locations(parser: argparse.ArgumentParser, *, results: bool = True) -> None:
    """The flags that say where results, data sets and plugins are."""
    if results:
        parser.add_argument("--results", metavar="DIR", help="folder of the results (default: results)")
    add_data_dir(parser)
    parser.add_argument("--offline", action=argparse.BooleanOptionalAction, help="never download")
    add_plugin(parser)


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """The flag that says where official files are."""
    parser.add_argument(
        "--data-dir", metavar="DIR", help="folder of official files of data sets (default: $BENCH_DATA_DIR)"
    )


def add_plugin(parser: argparse.ArgumentParser) -> None:
    """The flag that loads more components."""
    parser.add_argument(
        "--plugin", action="append", metavar="FILE", help="a Python file with more components; repeatable"
    )


def add_stored(parser: argparse.ArgumentParser) -> None:
    """The flags of commands that read results."""
    parser.add_argument("--results", metavar="DIR", default="results", help="folder of the results (default: results)")
    add_plugin(parser)


def add_reuse(parser: argparse.ArgumentParser) -> None:
    """The flag of commands that need not measure everything themselves."""
    flag = argparse.BooleanOptionalAction
    parser.add_argument("--reuse-committed", action=flag, help="take cells that another machine measured as done")


def add_reference(parser: argparse.ArgumentParser) -> None:
    """The flag of commands that measure what attacks reach where nothing defends, too."""
    parser.add_argument(
        "--reference",
        action=argparse.BooleanOptionalAction,
        help="measure the undefended reference of each defense, too (default: yes)",
    )


def load_registry(plugins: Sequence[str] | None) -> Registry:
    """All components, those of plugins too; a note where an edit of this checkout is not what runs."""
    from bench.runner import editable_install
    from bench.runner.registry import discover

    if note := editable_install.unused_edit(Path.cwd()):
        warn_user(f"note: {note}")
    return discover([Path(plugin) for plugin in plugins or ()])


def open_store(results: str | None) -> Store:
    """The results in a folder, by default `results`. Raises UserError where there is no such folder."""
    from bench.store.store import Store

    folder = Path(results or "results")
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: measure first with `bench run`, or correct --results.")
    return Store(folder)


def data_dir(path: str | None) -> Path | None:
    """The folder of official files, by the flag or else the environment. Raises UserError for what is no folder."""
    folder = path or os.environ.get("BENCH_DATA_DIR") or None
    if folder is not None and not Path(folder).is_dir():
        raise UserError(f"the data folder {folder} does not exist: correct --data-dir or BENCH_DATA_DIR.")
    return Path(folder) if folder else None


def flags(arguments: argparse.Namespace) -> dict[str, Any]:
    """The value of each setting by the flags alone, None for one that is not set or that the command has not."""
    return {name: getattr(arguments, name.replace("-", "_"), None) for name in SETTINGS}


def settings(arguments: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The settings of the whole run and of each of its parts; flags win over the configuration."""
    by_flag = flags(arguments)
    if arguments.config is None:
        return by_flag, [by_flag]
    from bench.runner import config_file

    shared, parts = config_file.read(Path(arguments.config), SETTINGS, PART_SETTINGS)
    stated = {name: value for name, value in by_flag.items() if value is not None}
    return {**by_flag, **shared, **stated}, [{**by_flag, **shared, **part, **stated} for part in parts]


def request(registry: Registry, settings: dict[str, Any], parts: Sequence[dict[str, Any]]) -> Request:
    """The typed request of these settings. Raises UserError for whatever no run could use."""
    from bench.cli import worker_options
    from bench.core.dataset import DataLocation
    from bench.runner import selection
    from bench.runner.request import Request

    folder = data_dir(settings["data-dir"])
    results = Path(settings["results"] or "results")
    if results.exists() and not results.is_dir():
        raise UserError(f"{results} is not a folder: give --results the folder of the results.")
    return Request(
        grids=tuple(_grid(registry, part) for part in parts),
        results=results,
        where=DataLocation(folder, bool(settings["offline"])),
        reuse_committed=bool(settings["reuse-committed"]),
        budget=None if settings["budget"] is None else selection.duration(settings["budget"]),
        workers=worker_options.workers(settings),
    )


def _grid(registry: Registry, part: dict[str, Any]) -> Grid:
    from bench.runner import selection
    from bench.runner.request import Grid

    defenses = selection.choose_all(registry, "defense", part["defense"] or [])
    if part["epsilon"] is not None:
        defenses = selection.sweep(defenses, selection.epsilons(part["epsilon"]))
    return Grid(
        defenses=selection.distinct(defenses),
        attacks=selection.distinct(selection.choose_all(registry, "attack", part["attack"] or [])),
        data=selection.distinct(selection.choose_all(registry, "data", part["data"] or [])),
        seeds=selection.seeds("0-2" if part["seeds"] is None else part["seeds"]),
    )


def requested(arguments: argparse.Namespace, *, references: bool = False) -> tuple[Request, Registry]:
    """The request that flags and configuration make, and the components that it was read with.

    references: with the reference of each defense, unless flags or configuration say otherwise.
    """
    shared, parts = settings(arguments)
    registry = load_registry(shared["plugin"])
    made = request(registry, shared, parts)
    if references and shared["reference"] is not False:
        from bench.runner.reference import with_references

        made = replace(made, grids=with_references(made.grids, registry))
    return made, registry


def check_playable(request: Request) -> None:
    """Raise UserError where there is no cell to measure; warn of cells for which there are too few records."""
    from bench.core.component import missing
    from bench.runner.cell import playable

    lacking = [
        missing(attack.component, defense.component, data.component)
        for grid in request.grids
        for data in grid.data
        for defense in grid.defenses
        for attack in grid.attacks
    ]
    if all(lacking):
        names = ", ".join(sorted({name for names in lacking for name in names}))
        raise UserError(
            f"no selected attack can be played against a selected defense on this data, which lack {names}: select "
            "others; `bench list` shows what each attack needs and each defense publishes."
        )
    cells = playable(request.grids)
    lacking_records = [cell.lacks_records for cell in cells]
    few = [why for why in dict.fromkeys(lacking_records) if why]
    if few and all(lacking_records):
        raise UserError(f"{'; '.join(few)}: ask for more.")
    for why in few:
        warn_user(f"note: {why}: these cells will fail.")
