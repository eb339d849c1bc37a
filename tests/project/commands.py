"""The `bench` commands that documents and workflows show, and how the program reads them."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shlex
from collections.abc import Iterable

from bench.cli import main, options
from bench.runner.registry import discover
from bench.runner.request import Request

USE = re.compile(r"(?:^|[;&|] *|do )(?:python -m )?bench +([^;&|]+)")


def in_shell(lines: Iterable[str]) -> list[list[str]]:
    """The words after every use of `bench` in lines of shell, at any position; comments are left out."""
    found = (USE.search(line.strip()) for line in lines)
    return [shlex.split(match[1], comments=True) for match in found if match]


def in_blocks(page: str) -> list[list[str]]:
    """The commands in a Markdown page's code blocks: lines indented by four, or fenced without a language."""
    fenced = re.findall(r"^```\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    indented = re.findall(r"^ {4}(.+)", re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return in_shell([*indented, *(line for block in fenced for line in block.splitlines())])


def in_prose(page: str) -> list[list[str]]:
    """The commands between backquotes in a Markdown page; some are only the beginning of one."""
    return [shlex.split(words) for words in re.findall(r"`bench ([^`]+)`", page.replace("\n", " "))]


def read(argv: list[str]) -> argparse.Namespace:
    """The arguments of a command as the program reads them. Raises UserError for what it would refuse."""
    return main.parse(argv)


def request(arguments: argparse.Namespace) -> Request:
    """What a command that selects components requests. Raises UserError for what is unknown."""
    settings, parts = options.settings(arguments)
    return options.request(discover(), settings, parts)


def flags(command: str) -> set[str]:
    """Every flag of one command, from its help."""
    page = io.StringIO()
    with contextlib.redirect_stdout(page):
        assert main.main([command, "--help"]) == 0
    return set(re.findall(r"--[a-z][a-z-]+", page.getvalue()))


def names() -> list[str]:
    """Every command of the program."""
    return list(main.COMMANDS)
