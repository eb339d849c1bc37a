"""What a person can get wrong, said in one sentence; and the doubts that travel with a number."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable

LISTED = 60  # names; more, as of stored cells, are no sentence any more


class UserError(Exception):
    """Something the user can mend; the message is one sentence that says what to do. The program exits with 2."""


class Caveat(UserWarning):
    """A reason to believe a number less; the runner stores it with the number and the table marks it."""


def suggest(word: str, known: Iterable[str]) -> str:
    """The end of an "unknown X" sentence: the nearest known name if one is near, else all of them, or the first."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    more = f" and {len(known) - LISTED} more" if len(known) > LISTED else ""
    return f"did you mean {close[0]!r}?" if close else "known: " + (", ".join(known[:LISTED]) or "none") + f"{more}."


def warn_user(sentence: str) -> None:
    """Say it to the user, as one line on stderr."""
    print(f"bench: {' '.join(sentence.split())}", file=sys.stderr)
