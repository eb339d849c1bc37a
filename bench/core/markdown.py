"""Markdown: the one home of tables and of escaping."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown, line by line."""
    return [_line(head), "|" + "---|" * len(head), *(_line(row) for row in rows)]


def _line(words: Sequence[str]) -> str:
    return "| " + " | ".join(map(escape, words)) + " |"


def escape(word: str) -> str:
    return " ".join(word.replace("|", "\\|").replace("](", "]\\(").split())  # a name is neither a column nor a link
