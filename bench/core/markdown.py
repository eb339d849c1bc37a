"""Markdown: the one home of tables and of escaping. A page may hold HTML, so HTML is escaped here, too."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from bench.core.text import one_line

# What could start a tag, an entity, a column, emphasis, a formula, a link or its definition (an underscore within a
# word is none of these), and the backslash, which would undo the escape that follows it.
_INLINE = re.compile(r"[\\<&|*~$]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])")
# What would start a block within a list item: a heading, a list, a quote, a rule, code.
_BLOCK = re.compile(r"[#+\-=>~]|```|\d+(?=[.)])")
_ENTITIES = {"<": "&lt;", "&": "&amp;"}


class Markup(str):
    """Markdown that this program wrote itself: `escape` leaves it as it is."""

    __slots__ = ()


def escape(text: str) -> Markup:
    """Text on one line that reads the same in a page: no part of it is a column, a link, emphasis, a tag or a block.

    Backquotes stay: within them nothing has a meaning, and the sentences of this program use them for code.
    """
    if isinstance(text, Markup):
        return text
    return Markup(_INLINE.sub(lambda found: _ENTITIES.get(found[0]) or _escaped(found[0]), one_line(text)))


def _escaped(mark: str) -> str:
    return "]\\" if mark == "]" else "\\" + mark


def bold(text: str) -> Markup:
    """Text in bold."""
    return Markup(f"**{escape(text)}**")


def code(text: str) -> Markup:
    """Text as code: between more backquotes than it has in a row, so that nothing in it has a meaning."""
    text = one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return Markup(f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}")


def heading(level: int, text: str) -> str:
    """A heading of a level."""
    return f"{'#' * level} {escape(text)}"


def item(text: str) -> str:
    """An item of a list."""
    words: str = escape(text)
    if not isinstance(text, Markup) and (block := _BLOCK.match(words)):
        at = block.end() if block[0].isdigit() else 0
        words = f"{words[:at]}\\{words[at:]}"
    return f"- {words}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table, line by line."""
    return [_line(head), "|" + "---|" * len(head), *(_line(row) for row in rows)]


def _line(words: Sequence[str]) -> str:
    return "| " + " | ".join(map(escape, words)) + " |"
