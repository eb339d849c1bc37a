"""The program `bench`: one command per file of this package. A mistake of the user is one sentence and exit code 2."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn, TextIO

from bench import __version__
from bench.cli import (
    audit,
    completion,
    controls,
    exposure,
    figure,
    list,
    plan,
    plot,
    release,
    reproduce,
    run,
    score,
    table,
    test,
    why,
)
from bench.cli.options import Execute, help_formatter
from bench.core.errors import Caveat, UserError, suggest, warn_user
from bench.runner import memory

COMMANDS = {
    "run": run, "plan": plan, "table": table, "list": list, "why": why, "plot": plot, "figure": figure,
    "controls": controls, "exposure": exposure, "score": score, "audit": audit, "reproduce": reproduce,
    "release": release, "test": test,
}  # fmt: skip
RENAMED_COMMANDS = {"check": "reproduce", "control": "controls", "exposed": "exposure"}
RENAMED_FLAGS = {"accept-published": "reuse-committed"}

RESUMED = ("run", "figure", "controls", "reproduce")  # these find again what they measured before they were stopped
STORED = "what was measured is stored; repeat the command to go on from there"
KEPT = "what was finished is kept; repeat the command to start the rest again"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of an output that takes no more


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
    memory.keep_freed()
    if "_ARGCOMPLETE" in os.environ:
        completion.answer(build_parser()[0])
    argv = [*(sys.argv[1:] if argv is None else argv)]
    try:
        with warnings.catch_warnings():
            _show_caveats()
            arguments = parse(_decoded(argv))
            execute: Execute = arguments.execute
            code = execute(arguments)
        sys.stdout.flush()
    except UserError as error:
        warn_user(str(error))
        return 2
    except KeyboardInterrupt:
        warn_user(f"stopped; {STORED if argv[0] in RESUMED else KEPT}.")
        return 130
    except BrokenPipeError:
        _leave_stdout()  # the reader has seen enough
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
    """Replace closed streams by the null device, and escape letters that the locale lacks."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for as long as we run
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _leave_stdout() -> None:
    """Without this Python reports an error again when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _decoded(argv: Sequence[str]) -> Sequence[str]:
    """The argv. Raises UserError for one in another encoding than that of the locale, which no file can hold."""
    for word in argv:
        if not word.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in word):
            raise UserError(f"{word!a} is not text in this locale ({sys.getfilesystemencoding()}): set LC_ALL=C.UTF-8.")
    return argv


def _show_caveats() -> None:
    """Show a Caveat that is not stored with a number as a line for the user, without Python's file and line."""
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


def build_parser() -> tuple[Parser, dict[str, argparse.ArgumentParser]]:
    """The parser of the program, and those of its commands by name."""
    parser = Parser(
        prog="bench", allow_abbrev=False, formatter_class=help_formatter,
        description="Differentially private generators put to the test: defenses, attacks, and their leaderboard.",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"bench {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND [OPTIONS]", required=True, prog="bench")
    return parser, {name: command.add(commands) for name, command in COMMANDS.items()}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of one command. Raises UserError for a mistake."""
    parser, commands = build_parser()
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help", "--version")):
        after = f", and {argv[0]!r} after it" if argv else ""
        raise UserError(f"write a command first{after}: {', '.join(commands)}, or --help.")
    name = argv[0]
    if name in RENAMED_COMMANDS:
        raise UserError(f"`bench {name}` is now called `bench {RENAMED_COMMANDS[name]}`.")
    if not name.startswith("-") and name not in commands:
        raise UserError(f"there is no command {name!r}: {suggest(name, commands)}")
    arguments, rest = parser.parse_known_args(argv)
    if rest:
        raise UserError(_unknown_word(name, rest[0], commands.get(name, parser)))
    return arguments


def _unknown_word(command: str, word: str, parser: argparse.ArgumentParser) -> str:
    if not word.startswith("-"):
        return f"`{command}` does not take {word!r} by itself: write a flag before it, see `bench {command} --help`."
    flag = word.partition("=")[0]
    if (command, flag) == ("run", "--release"):
        return "`bench run --release` is now called `bench release`."
    for old, new in RENAMED_FLAGS.items():
        if flag in (f"--{old}", f"--no-{old}"):
            return f"{flag} is now called {flag.replace(old, new)}."
    return f"`{command}` does not take {word!r}: {suggest(flag, parser._option_string_actions)}"
