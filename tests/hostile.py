"""A text with everything that a page or terminal could interpret, and checks that it is shown literally."""

from __future__ import annotations

from collections.abc import Iterator

from markdown_it import MarkdownIt
from markdown_it.token import Token

from bench.core.text import one_line

# Terminal controls (7 and 8 bits), tags, blocks, columns, links and their definitions, emphasis, code, entities,
# formulas, and a mark that reverses the text after it.
HOSTILE = (
    "\x1b[31m\x9b0m<script>alert(1)</script><!-- \n# x\r\n\n- y | z](http://z) [a]: http://b ![i](j) **b** __u__ *e* "
    "~~s~~ &lt; \\| \\ $m$ \u202egnp.\u2028end"
)
# Block markup at the start of a list item, and a lone surrogate, which no stored record contains.
BLOCKS = ("# x", "- x", "+ x", "> x", "1. x", "2) x", "``` x", "~~~ x", "=== x", "[a]: http://b", "<b>", "\ud800")
SHOWN = one_line(HOSTILE)


def tokens(page: str) -> Iterator[Token]:
    """The parsed page (CommonMark with tables and strike-through, as GitHub has them), inner tokens too."""
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page):
        yield token
        yield from token.children or ()


def text(page: str) -> str:
    """The visible text of a page."""
    kinds = ("text", "code_inline", "fence", "code_block")
    return "\n".join(token.content for token in tokens(page) if token.type in kinds and token.content)


def check_page(page: str, links: int = 0) -> None:
    """Fail if the page contains a control character, HTML, other links than these, or a ragged table row."""
    assert all(one.isprintable() for one in page.replace("\n", ""))
    found = list(tokens(page))
    kinds = [token.type for token in found]
    assert not {"html_inline", "html_block", "image", "em_open", "s_open", "blockquote_open"} & set(kinds)
    assert kinds.count("link_open") == links, [token.attrs for token in found if token.type == "link_open"]
    assert "javascript" not in page
    width = None
    for line in page.splitlines():
        bare = line.replace("\\\\", "").replace("\\|", "")
        width = None if not line.startswith("|") else width or bare.count("|")
        assert width in (None, bare.count("|")), line


def check_shown(page: str, text_: str = HOSTILE) -> None:
    """Fail if the page does not show the text literally."""
    assert "".join(one_line(text_).split()) in "".join(text(page).split()), text_
