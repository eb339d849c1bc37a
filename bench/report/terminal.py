"""The leaderboard in a terminal: as tables where it is wide enough, else a short paragraph per defense."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.core.text import one_line
from bench.report import score_rows, wording
from bench.report.leaderboard import Cell, Leaderboard, Row, Section

if TYPE_CHECKING:
    from rich.console import Console

Word = tuple[str, str]  # a text and its style
PROSE = {wording.AUDITED: 18, "sampler": 24}  # columns that are folded, with their widths


def show(board: Leaderboard, console: Console | None = None) -> None:
    """Print the sections, the submitted scores and the notes."""
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    if not board.sections and not board.score_rows:
        console.print(Text(wording.EMPTY))
        return
    for section in board.sections:
        _section(section.measured, section.unmeasured, console)
    if board.score_rows:
        console.print(Text(wording.SUBMITTED, style="italic"))
        lines = (one_line(score_rows.summary(row)) for row in board.score_rows)
        console.print(Text("\n".join(lines)), end="\n\n", soft_wrap=True)
    for note in (f"* {wording.BEATS_CHANCE}", *board.notes) if board.sections else ():
        console.print(Text(one_line(note), style="dim"))


def _section(section: Section, unmeasured: Sequence[str], console: Console) -> None:
    from rich.text import Text

    console.print(Text(one_line(f"{section.data}: {section.game}"), style="italic"))
    head = [one_line(word) for word in wording.head(section)]
    rows = [[(one_line(word), style) for word, style in _words(section, row)] for row in section.rows]
    # a number must never be cut: where the table does not fit, the same words go below one another
    if _width(head, rows) <= console.width:
        _wide(head, rows, console)
    else:
        console.print(Text.assemble("\n", *_narrow(section, rows)), end="")
    column_caveats = (f"! {caveat}" for caveat in section.column_caveats)
    caveats = (f"({i}) {caveat}" for i, caveat in enumerate(section.caveats, 1))
    below = (*unmeasured, wording.metric_line(section), *column_caveats, *caveats)
    console.print(Text("\n".join(map(one_line, below))), end="\n\n")


def _words(section: Section, row: Row) -> list[Word]:
    """The words of a row, each with its style."""
    claim = (
        wording.rank(row),
        row.defense,
        str(row.utility),
        wording.epsilon(row.epsilon),
        row.claim.audited,
        wording.delta(row.delta),
        row.sampler,
    )
    cells = (_styled(section, cell) for cell in row.cells)
    return [*((word, "") for word in claim), *cells, (wording.worst(row), ""), (str(row.seeds), "")]


def _styled(section: Section, cell: Cell) -> Word:
    # the star says what bold says where the output goes to a file
    star = " *" if cell.above_baseline else ""
    text = str(cell.headline or cell.state) + star + section.marks(cell)
    return text, "bold" if star else "" if cell.headline else "dim"


def _width(head: Sequence[str], rows: Sequence[Sequence[Word]]) -> int:
    """The width of the table with nothing cut, in columns of the terminal."""
    from rich.cells import cell_len

    widest = [max(map(cell_len, (head[i], *(row[i][0] for row in rows)))) for i in range(len(head))]
    return sum(PROSE.get(name, width) + 3 for name, width in zip(head, widest, strict=True)) + 1


def _wide(head: Sequence[str], rows: Sequence[Sequence[Word]], console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in head:
        width = PROSE.get(name)
        table.add_column(name, no_wrap=width is None, width=width, overflow="fold" if width else "ellipsis")
    for row in rows:
        table.add_row(*(Text(*word) for word in row))
    console.print(table)


def _narrow(section: Section, rows: Sequence[Sequence[Word]]) -> Iterator[Word | str]:
    """Words with their styles, a short paragraph per row: printed at once, for there are thousands."""
    attacks = [one_line(name) for name in section.attacks]
    width = max(len(name) for name in (*attacks, "utility", "sampler"))
    for row, words in zip(section.rows, rows, strict=True):
        (rank, *_), (defense, *_), (utility, *_), (epsilon, *_), (audited, *_), (delta, *_), (sampler, *_) = words[:7]
        *cells, (worst, _), (seeds, _) = words[7:]
        yield defense, "bold underline"
        yield "\n"
        if row.seeds:
            claim = f"epsilon {epsilon}  delta {delta}  seeds {seeds}  rank {rank}"
            lines = {"claims": claim, "audited": audited, "sampler": sampler, "utility": utility}
            yield "".join(f"  {name:{width}}  {text}\n" for name, text in lines.items())
        for attack, cell in zip(attacks, cells, strict=True):
            yield f"  {attack:{width}}  "
            yield cell
            yield "\n"
        yield f"  {'worst':{width}}  {worst}\n\n" if row.worst else "\n"
