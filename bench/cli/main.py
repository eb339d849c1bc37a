"""The program `bench`: one subcommand per file of this package. A mistake of the user is one sentence, exit 2."""

from __future__ import annotations

import argparse
import errno
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn, TextIO

from bench import __version__
from bench.cli.audit import add_audit
from bench.cli.read_commands import add_exposed, add_list, add_plot, add_score, add_table, add_why
from bench.cli.run_commands import add_check, add_control, add_figure, add_plan, add_run
from bench.cli.test import add_test
from bench.core.errors import Caveat, UserError, suggest, warn_user

VERBS = {
    "run": add_run, "plan": add_plan, "why": add_why, "list": add_list, "table": add_table, "plot": add_plot,
    "figure": add_figure, "control": add_control, "exposed": add_exposed,
    "score": add_score, "audit": add_audit, "check": add_check, "test": add_test,
}  # fmt: skip


RESUMED = ("run", "figure", "control", "check")  # verbs that find again what was measured when they were stopped
STORED = "what was measured is stored, and the same command goes on from there"
KEPT = "what had ended is kept, and the same command starts the rest anew"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what an output says that takes no more


class Parser(argparse.ArgumentParser):
    """A parser that reports a mistake as every other part of the program does."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError."""
        raise UserError(f"{message}: see `{self.prog} --help`.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    0 is done, 1 a cell failed, 2 a mistake of the user, 3 a claim refuted or a release refused, 4 drift, 130 stopped.
    """
    _prepare_streams()
    try:
        with warnings.catch_warnings():
            _show_doubts()
            arguments = _parse(_read(sys.argv[1:] if argv is None else argv))
            verb: Callable[[argparse.Namespace], int] = arguments.does
            code = verb(arguments)
        sys.stdout.flush()
    except UserError as error:
        warn_user(str(error))
        return 2
    except KeyboardInterrupt:
        words = list(sys.argv[1:] if argv is None else argv)
        goes_on = words[0] in RESUMED and not any(word.startswith("--release") for word in words)
        warn_user(f"stopped; {STORED if goes_on else KEPT}.")
        return 130
    except BrokenPipeError:
        _leave_stdout()  # whoever read has seen enough
        return 1
    except OSError as error:
        if error.filename is not None or error.errno not in FULL:
            raise
        _leave_stdout()
        warn_user(
            f"cannot write the output ({error.strerror}). All measured cells are saved; free some disk space and rerun."
        )
        return 2
    except SystemExit as end:  # argparse after --help and --version, rich on a closed pipe
        return end.code if isinstance(end.code, int) else 0
    return code


def _prepare_streams() -> None:
    """A stream that was closed swallows what it is told, and letters that a locale lacks are spelled out."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for as long as we run
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _leave_stdout() -> None:
    """Without this Python complains again when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _read(argv: Sequence[str]) -> list[str]:
    """The words. Raises UserError for one in another encoding than that of the locale, which no file can hold."""
    for word in argv:
        if not word.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in word):
            raise UserError(f"{word!a} is not text in this locale ({sys.getfilesystemencoding()}): set LC_ALL=C.UTF-8.")
    return list(argv)


def _show_doubts() -> None:
    """A Caveat that nobody stored with a number is a line for the user, without Python's file and line."""
    plain = warnings.showwarning

    def show(
        message: Warning | str, category: type[Warning], filename: str, lineno: int,
        file: TextIO | None = None, line: str | None = None,
    ) -> None:  # fmt: skip
        if issubclass(category, Caveat):
            warn_user(f"note: {message}")
        else:
            plain(message, category, filename, lineno, file, line)

    warnings.showwarning = show


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(prog="bench", allow_abbrev=False, description="Defenses, attacks and the board that judges both.")
    parser.add_argument("--version", action="version", version=f"bench {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    parsers = {verb: add(verbs) for verb, add in VERBS.items()}
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help", "--version")):
        given = f", and {argv[0]!r} after it" if argv else ""
        raise UserError(f"say first what to do{given}: {', '.join(parsers)}, or --help.")
    if not argv[0].startswith("-") and argv[0] not in parsers:
        raise UserError(f"there is no verb {argv[0]!r}: {suggest(argv[0], parsers)}")
    arguments, rest = parser.parse_known_args(argv)
    if rest and not rest[0].startswith("-"):
        raise UserError(
            f"`{argv[0]}` does not take {rest[0]!r} by itself: write a flag before it, see `bench {argv[0]} --help`."
        )
    if rest:
        flags = (
            re.findall(r"--[a-z-]+", parsers[argv[0]].format_help()) if argv[0] in parsers else ["--help", "--version"]
        )
        raise UserError(f"`{argv[0]}` does not take {rest[0]!r}: {suggest(rest[0].partition('=')[0], set(flags))}")
    return arguments
