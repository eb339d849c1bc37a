"""How text and numbers are written for people."""

from __future__ import annotations

import math
import unicodedata

import pytest
from hostile import BLOCKS, HOSTILE
from hypothesis import given
from hypothesis import strategies as st

from bench.core.errors import warn_user
from bench.core.text import claimed_epsilon, interval, one_line, proved_epsilon

ANY = st.text(st.characters())  # lone surrogates, too


def test_escape_sequences_and_line_breaks_come_out_as_text() -> None:
    assert one_line("a\x1b[31mb\n c\r\n\td\x9b") == "a\\x1b[31mb c d\\x9b"
    assert one_line("left\u202eright\ud800 ε") == "left\\u202eright\\ud800 ε"


@given(ANY)
def test_no_control_character_is_left(words: str) -> None:
    shown = one_line(words)
    assert not [one for one in shown if unicodedata.category(one)[0] == "C" or one in "\u2028\u2029"]
    assert shown.encode().decode() == shown
    assert one_line(shown) == shown, "escaping is idempotent"


def test_a_warning_is_one_line_of_text(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (HOSTILE, *BLOCKS):
        warn_user(words)
        assert capsys.readouterr().err == f"bench: {one_line(words)}\n"


@given(st.floats(0, 1e6))
def test_an_epsilon_is_never_rounded_in_its_favour(epsilon: float) -> None:
    assert float(claimed_epsilon(epsilon)) >= epsilon - 1e-8
    assert float(claimed_epsilon(epsilon)) < epsilon + 0.0101
    assert epsilon - 0.0101 < float(proved_epsilon(epsilon)) <= epsilon + 1e-8


def test_numbers_are_written_as_they_are_read() -> None:
    assert [claimed_epsilon(one) for one in (7.991, 8.0, 0.0, math.inf)] == ["8.00", "8.00", "0.00", "inf"]
    assert [proved_epsilon(one) for one in (7.999, 0.0, math.inf)] == ["7.99", "0.00", "inf"]
    assert interval(0.6123, 0.58, -0.0) == "0.612 [0.580, -0.000]"
