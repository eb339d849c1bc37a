"""How text and numbers are written for people: the one home of terminal escaping, intervals and epsilons.

`bench.core.markdown` is that of Markdown, and of the HTML that a Markdown page may hold.
"""

from __future__ import annotations

import math


def one_line(text: str) -> str:
    r"""Text on one line that a terminal only prints: runs of white space are a space, control characters an escape.

    ESC becomes `\x1b`. Whatever Python does not call printable is escaped: control and format characters (those that
    reverse the direction of text, too) and lone surrogates, which no file could hold.
    """
    text = " ".join(text.split())
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def interval(value: float, low: float, high: float) -> str:
    """A number with its 95 % interval, such as 0.612 [0.580, 0.644]."""
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def claimed_epsilon(epsilon: float) -> str:
    """An epsilon that is claimed, with two digits, rounded up: a claim is never rounded in its own favour."""
    return "inf" if math.isinf(epsilon) else f"{math.ceil(round(epsilon * 100, 6)) / 100:.2f}"


def proved_epsilon(bound: float) -> str:
    """A lower bound on epsilon, with two digits, rounded down: no digit that is shown was left unproved."""
    return f"{math.floor(bound * 100) / 100:.2f}" if math.isfinite(bound) else "inf"
