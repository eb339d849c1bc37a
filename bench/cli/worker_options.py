"""The flags that say which processes measure, and what they mean; a configuration has the same words."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from bench.cli import completion
from bench.core.errors import UserError

if TYPE_CHECKING:
    from bench.runner.request import Workers


def add_workers(parser: argparse.ArgumentParser) -> None:
    """The flags that say which processes measure."""
    from bench.runner.job_clusters import OPTIONS

    workers = parser.add_argument_group("workers", "The processes that measure: all at once, one training each.")
    workers.add_argument(
        "--workers", metavar="N", help="how many (default: one per GPU, else per core; of a cluster 1; 1 starts none)"
    )
    workers.add_argument("--scheduler", metavar="ADDRESS", help="those of a Dask scheduler, as in tcp://HOST:8786")
    cluster = workers.add_argument("--cluster", metavar="KIND", help=f"jobs of a cluster: {', '.join(OPTIONS)}")
    completion.attach(cluster, completion.fixed(*OPTIONS))
    workers.add_argument(
        "--cluster-option", action="append", metavar="NAME=VALUE", help="of each job, as in queue=gpu; repeatable"
    )
    workers.add_argument(
        "--dry-run", action=argparse.BooleanOptionalAction, help="only print the script of a job of the cluster"
    )


def workers(settings: dict[str, Any]) -> Workers:
    """The processes that measure. With `dry-run`, prints the script of a job and ends the program, as `--help` does.

    Raises UserError where these settings contradict each other.
    """
    from bench.runner import clusters
    from bench.runner.request import Workers

    number = settings["workers"]
    if number is not None and not (number.isascii() and number.isdecimal()):
        raise UserError(f"--workers is a whole number from 1, not {number!r}.")
    pairs = [option.partition("=") for option in settings["cluster-option"] or ()]
    if unequal := [name for name, equals, _ in pairs if not equals]:
        raise UserError(f"--cluster-option is NAME=VALUE, as in queue=gpu, not {unequal[0]!r}.")
    selected = Workers(
        None if number is None else int(number),
        settings["scheduler"],
        settings["cluster"],
        tuple((name, value) for name, _, value in pairs),
    )
    clusters.check(selected)
    if settings["dry-run"]:
        print(clusters.job_script(selected), end="")
        raise SystemExit(0)
    return selected
