"""What `bench run` can be told, on the command line and in a configuration, and the request that it makes.

Other verbs take the same words: `plan`, `check`, `audit`, and of them what they need `figure` and `test`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.errors import UserError, warn_user

if TYPE_CHECKING:
    from bench.runner.registry import Registry
    from bench.runner.request import Grid, Request

# The words of `bench run`, on the command line and in --config, and how each is read.
WORDS = {
    "defense": list, "attack": list, "data": list, "plugin": list, "seeds": str, "epsilon": str, "results": str,
    "data-dir": str, "offline": bool, "accept-published": bool, "budget": str,
}  # fmt: skip
OF_PARTS = ("defense", "attack", "data", "seeds", "epsilon")  # what each part of a configuration can say for itself


CHOICE: dict[str, Any] = {"action": "append", "metavar": "NAME[,OPTION=VALUE...]"}


def add_words(run: argparse.ArgumentParser, does: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    """The flags of whatever measures chosen defenses against chosen attacks."""
    add_rows(run)
    run.add_argument(
        "--attack", **CHOICE, help="an attack, or a game for all of its attacks; repeatable (default: all)"
    )
    add_shared(run, seeds="as in 0-4 or 0,3 (default: 0-2)")
    run.set_defaults(does=does)
    return run


def add_rows(parser: argparse.ArgumentParser) -> None:
    """The flags that choose rows of the board."""
    parser.add_argument("--defense", **CHOICE, help="a defense and its options; repeatable (default: all)")
    parser.add_argument("--data", **CHOICE, help="a data set, or a .csv or .npz file; repeatable (default: digits)")
    parser.add_argument("--epsilon", help="as in 1,8,inf: repeat each defense that has the option once a value")
    parser.add_argument("--config", metavar="FILE", help="a YAML file with these words; flags win over it")


def add_shared(parser: argparse.ArgumentParser, *, seeds: str) -> None:
    """The flags of whatever measures cells."""
    parser.add_argument("--seeds", help=seeds)
    add_where(parser)


def add_where(parser: argparse.ArgumentParser) -> None:
    """The flags that say where things are."""
    parser.add_argument("--results", metavar="DIR", help="where what is found is kept (default: results)")
    parser.add_argument(
        "--data-dir", metavar="DIR", help="where official files of data sets are (default: $BENCH_DATA_DIR)"
    )
    parser.add_argument("--offline", action=argparse.BooleanOptionalAction, help="never download")
    parser.add_argument(
        "--plugin", action="append", metavar="FILE", help="a Python file with more components; repeatable"
    )


def add_accepting(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The flag of whatever need not measure everything itself."""
    flag = argparse.BooleanOptionalAction
    parser.add_argument("--accept-published", action=flag, help="take cells that another machine measured as done")
    return parser


def settings(arguments: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Flags over the file over nothing, by word: those of the whole run, and of each of its parts."""
    given = flags(arguments)
    if arguments.config is None:
        return given, [given]
    from bench.runner import config_file

    shared, parts = config_file.read(Path(arguments.config), WORDS, OF_PARTS)
    said = {word: value for word, value in given.items() if value is not None}
    return {**given, **shared, **said}, [{**given, **shared, **part, **said} for part in parts]


def flags(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every word of a run and what the flags say of it, None where they say nothing or have no such flag."""
    return {word: getattr(arguments, word.replace("-", "_"), None) for word in WORDS}


def request(registry: Registry, settings: dict[str, Any], parts: Sequence[dict[str, Any]]) -> Request:
    """Turn the words of `bench run` into a typed request; a word that was left out is None."""
    from bench.core.dataset import Where
    from bench.runner import selection
    from bench.runner.request import Request

    folder = data_dir(settings["data-dir"])
    results = Path(settings["results"] or "results")
    if results.exists() and not results.is_dir():
        raise UserError(f"{results} is not a folder: give --results the folder of the cells.")
    return Request(
        grids=tuple(_crossing(registry, part) for part in parts),
        results=results,
        where=Where(folder, bool(settings["offline"])),
        accept_published=bool(settings["accept-published"]),
        budget=None if settings["budget"] is None else selection.duration(settings["budget"]),
    )


def note_unplayable(asked: Request) -> None:
    """Say so where there is no cell to measure: doing nothing must not look like having done it."""
    from bench.core.component import missing

    wanting = [
        missing(attack.component, defense.component, data.component)
        for one in asked.grids
        for data in one.data
        for defense in one.defenses
        for attack in one.attacks
    ]
    if all(wanting):
        names = ", ".join(sorted({name for names in wanting for name in names}))
        warn_user(
            f"note: no chosen attack can be played against a chosen defense on this data, for want of {names}: choose "
            "others, `bench list` says what each needs and publishes."
        )


def _crossing(registry: Registry, part: dict[str, Any]) -> Grid:
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


def data_dir(given: str | None) -> Path | None:
    """Where official files are, by the flag or else the environment. Raises UserError for what is no folder."""
    folder = given or os.environ.get("BENCH_DATA_DIR") or None
    if folder is not None and not Path(folder).is_dir():
        raise UserError(f"the data folder {folder} does not exist: correct --data-dir or BENCH_DATA_DIR.")
    return Path(folder) if folder else None
