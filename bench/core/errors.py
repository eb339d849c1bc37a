"""Errors that a user can correct, and warnings that are stored with a number."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable

from bench.core.text import one_line

LISTED = 60  # names; a sentence with more, such as those of stored cells, would not be read


class UserError(Exception):
    """An error that the user can correct; its message is one sentence that says what to do. The exit code is 2."""


class Caveat(UserWarning):
    """A reason to trust a number less: the runner stores it with the number, and the leaderboard marks the number."""


def suggest(word: str, known: Iterable[str]) -> str:
    """The end of an "unknown X" sentence: the nearest known name if one is near, else all of them, or the first 60."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    more = f" and {len(known) - LISTED} more" if len(known) > LISTED else ""
    return f"did you mean {close[0]!r}?" if close else "known: " + (", ".join(known[:LISTED]) or "none") + f"{more}."


def warn_user(sentence: str) -> None:
    """Print a sentence for the user, as one line on stderr."""
    print(f"bench: {one_line(sentence)}", file=sys.stderr)
