"""Escaped text is shown literally: parsed as Markdown, it gives the same text."""

from __future__ import annotations

import re

import pytest
from hostile import BLOCKS, HOSTILE, check_page, check_shown, text, tokens
from hypothesis import given
from hypothesis import strategies as st

from bench.core import markdown
from bench.core.markdown import Markup, bold, code, escape, heading, item, table
from bench.core.text import one_line

SPECIAL = st.text(st.sampled_from("\\`*_{}[]()#+-.!|<>&~$:=ab1 \n\x1b"), max_size=30)


def page(words: str) -> str:
    rows = table(["a", "b"], [[words, "1"], ["2", words]])
    return "\n".join([heading(2, words), "", f"{escape('x')} {escape(words)}", "", item(words), "", *rows, ""])


@pytest.mark.parametrize("words", [HOSTILE, *BLOCKS])
def test_hostile_text_comes_out_as_text(words: str) -> None:
    check_page(page(words))
    check_shown(page(words), words)
    assert text(page(words)).count(one_line(words).strip("`~ ")[:10]) >= 5


@given(SPECIAL)
def test_whatever_it_holds_no_block_link_or_tag_comes_of_it(words: str) -> None:
    shown = page(f"x{words}")
    kinds = [token.type for token in tokens(shown)]
    assert not {"html_inline", "html_block", "link_open", "image", "em_open", "strong_open", "s_open"} & set(kinds)
    assert kinds.count("heading_open") == kinds.count("list_item_open") == kinds.count("table_open") == 1
    assert kinds.count("td_open") == 4
    if "`" not in words:  # within code, an escape is shown
        check_shown(shown, f"x{words}")


@given(SPECIAL)
def test_an_item_of_a_list_is_one_paragraph(words: str) -> None:
    kinds = [token.type for token in tokens(item(words)) if token.type.endswith("_open")]
    assert kinds[:2] == ["bullet_list_open", "list_item_open"]
    assert set(kinds[2:]) <= {"paragraph_open"}


@given(st.text(st.sampled_from("`a|\\<*_ "), min_size=1).filter(lambda words: words.strip()))
def test_code_shows_every_character(words: str) -> None:
    [found] = [token for token in tokens(f"x {code(words)} y") if token.type == "code_inline"]
    assert found.content.strip() == one_line(words)


def test_a_name_is_neither_a_column_nor_a_link() -> None:
    """Names of submitted scores are chosen by their authors."""
    assert table(["defense"], [["a|b [c](http://d)"]])[2] == "| a\\|b [c]\\(http://d) |"
    assert table(["utility"], [["0.912 [0.871, 0.953]"]])[2] == "| 0.912 [0.871, 0.953] |"
    assert table(["defense"], [["dp_sgd,batch_size=1000"]])[2] == "| dp_sgd,batch_size=1000 |"


def test_only_what_is_marked_as_markdown_passes() -> None:
    assert escape("**x**") == "\\*\\*x\\*\\*"
    assert escape(Markup("**x**")) == "**x**"
    assert bold("a*b") == "**a\\*b**"
    assert escape(bold("x") + " y") == "\\*\\*x\\*\\* y", "markup joined with other text is escaped"


def comes_out_as_text(words: str) -> bool:
    try:
        test_hostile_text_comes_out_as_text(words)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("dropped", ["_INLINE", "_BLOCK", "one_line"])
def test_a_page_without_escaping_is_found(monkeypatch: pytest.MonkeyPatch, dropped: str) -> None:
    """Mutants that these tests must detect."""
    never = (lambda words: words) if dropped == "one_line" else re.compile("(?!)")
    monkeypatch.setattr(markdown, dropped, never)
    assert not all(map(comes_out_as_text, (HOSTILE, *BLOCKS)))
