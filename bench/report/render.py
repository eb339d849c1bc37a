"""The leaderboard in the terminal, in Markdown and in CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.core.files import write as put
from bench.core.markdown import escape, table
from bench.core.notices import SEEDED
from bench.report import score_rows
from bench.report.aggregate import build
from bench.report.leaderboard import TITLES, Board, Cell, Equals, Figure, Row, Section

if TYPE_CHECKING:
    from rich.console import Console

    from bench.report.epsilon_column import Claim
    from bench.store.records import CellResult
    from bench.store.store import Store

__all__ = ["Board", "build", "show", "write"]

AUDITED = "audited epsilon"
LESS = "less than undefended"
LAST = ("baseline", "gain")  # columns of the details, after those of the attack alone
EMPTY = "Nothing is stored yet: `bench run` measures the first cells."


def write(board: Board, store: Store) -> None:
    """Write leaderboard.md and leaderboard.csv, and the details beside each data set's cells, where they change."""
    records = [_record(result, new, board.claim(result.data, result.defense)) for result, new in board.results]
    pages = {"leaderboard.md": _markdown(board, store), "leaderboard.csv": _csv(records), **_details(board, store)}
    for name, text in pages.items():
        path, data = store.root / name, text.encode()
        if not path.exists() or path.read_bytes() != data:
            put(path, data)


def show(
    board: Board, console: Console | None = None, wanted: Callable[[Section], bool] = lambda section: True
) -> None:
    """Print the wanted sections: as tables where the terminal is wide enough, else a short paragraph a defense."""
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    if not board.sections and not board.handed_in:
        console.print(Text(EMPTY))
        return
    for section in filter(wanted, board.sections):
        _show_section(section.tried, section.apart, console)
    if board.handed_in:
        console.print(Text("Scores handed in", style="italic"))
        console.print(Text("\n".join(map(score_rows.summary, board.handed_in))), end="\n\n", soft_wrap=True)
    for note in ("* beats chance and the blind answer beyond noise.", *board.notes) if board.sections else ():
        console.print(Text(note, style="dim"))


def _value(section: Section, cell: Cell) -> str:
    return (str(cell.found) if cell.found else cell.state) + section.marks(cell)


def _worst(row: Row) -> str:
    worst = row.worst
    return f"{worst.found.value:.3f} {worst.attack}" if worst and worst.found else "-"


def _rank(row: Row) -> str:
    return "-" if row.rank is None else str(row.rank)


def _plain(row: Row) -> str:
    return row.claim.audited.replace("**", "")


def _baseline(section: Section) -> str:
    luck = f"by luck {section.chance:.3g}"
    return (
        f"A cell: {_title(section.headline)}, {luck}. "
        f"Blind answer (never sees the release): {section.baseline or 'not measured'}"
    )


def _title(metric: str) -> str:
    return TITLES.get(metric, metric.replace("_", " "))


# Terminal


FIXED = {AUDITED: 18, "sampler": 24}  # columns of prose, which is folded


def _show_section(section: Section, apart: Sequence[str], console: Console) -> None:
    from rich.text import Text

    console.print(Text(f"{section.data}: {section.game}", style="italic"))
    head = ["rank", "defense", "utility", "epsilon", AUDITED, "delta", "sampler", *section.attacks]
    head += ["worst attack", "seeds"]
    rows = [_words(section, row) for row in section.rows]
    # a number must never be cut: where the table does not fit, the same words go below one another
    if _width(head, rows) <= console.width:
        _show_wide(head, rows, console)
    else:
        console.print(Text.assemble("\n", *_narrow(section)), end="")
    column_caveats = (f"! {caveat}" for caveat in section.column_caveats)
    caveats = (f"({i}) {caveat}" for i, caveat in enumerate(section.caveats, 1))
    console.print(Text("\n".join([*apart, _baseline(section), *column_caveats, *caveats])), end="\n\n")


def _words(section: Section, row: Row) -> list[tuple[str, str]]:
    """The words of a row, each with its style."""
    claims = (_rank(row), row.defense, str(row.utility), row.epsilon, _plain(row), row.delta, row.sampler)
    cells = (_styled(section, cell) for cell in row.cells)
    return [*((word, "") for word in claims), *cells, (_worst(row), ""), (str(row.seeds), "")]


def _width(head: Sequence[str], rows: Sequence[Sequence[tuple[str, str]]]) -> int:
    """How wide the table is with nothing cut, found out without having one drawn."""
    from rich.cells import cell_len

    widest = [max(map(cell_len, (head[i], *(row[i][0] for row in rows)))) for i in range(len(head))]
    return sum(FIXED.get(name, width) + 3 for name, width in zip(head, widest, strict=True)) + 1


def _show_wide(head: Sequence[str], rows: Sequence[Sequence[tuple[str, str]]], console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in head:
        width = FIXED.get(name)
        table.add_column(name, no_wrap=width is None, width=width, overflow="fold" if width else "ellipsis")
    for row in rows:
        table.add_row(*(Text(*word) for word in row))
    console.print(table)


def _narrow(section: Section) -> Iterator[tuple[str, str] | str]:
    """Words with their styles, a short paragraph a row: all of them printed at once, for there are thousands."""
    width = max(len(name) for name in (*section.attacks, "utility", "sampler"))
    for row in section.rows:
        yield row.defense, "bold underline"
        yield "\n"
        if row.seeds:
            claim = f"epsilon {row.epsilon}  delta {row.delta}  seeds {row.seeds}  rank {_rank(row)}"
            said = {"claims": claim, "audited": _plain(row), "sampler": row.sampler, "utility": row.utility}
            yield "".join(f"  {name:{width}}  {words}\n" for name, words in said.items())
        for cell in row.cells:
            yield f"  {cell.attack:{width}}  "
            yield _styled(section, cell)
            yield "\n"
        yield f"  {'worst':{width}}  {_worst(row)}\n\n" if row.worst else "\n"


def _styled(section: Section, cell: Cell) -> tuple[str, str]:
    # the star says what bold says where the output goes to a file
    star = " *" if cell.above_baseline else ""
    text = (str(cell.found) if cell.found else cell.state) + star + section.marks(cell)
    return text, "bold" if star else "" if cell.found else "dim"


# Markdown


def _markdown(board: Board, store: Store) -> str:
    lines = ["# Leaderboard", ""]
    if not board.sections and not board.handed_in:
        return "\n".join([*lines, EMPTY, ""])
    lines += ["Written by `bench table`; results/README.md of the project says what each column means.", ""]
    for whole in board.sections:
        section = whole.tried
        lines += [f"## {section.data}: {section.game}", "", *_main(section), ""]
        lines += [*(line for one in whole.apart for line in (escape(one), "")), _baseline(section) + ".", ""]
        below = [f"- {escape(caveat)}" for caveat in section.column_caveats]
        below += [f"- ({i}) {escape(caveat)}" for i, caveat in enumerate(section.caveats, 1)]
        lines += [*below, ""] if below else []
        if _measured(section):
            lines += [f"[All figures of each cell](<{_page(store, section.data)}>)", ""]
    for equals in board.equals:
        claim = f"epsilon {equals.epsilon}, delta {equals.delta}"
        lines += [f"## {equals.data}: utility at {claim}", "", *_equals(equals), ""]
    if board.handed_in:
        rows = map(score_rows.row_of, board.handed_in)
        lines += ["## Scores handed in", "", *table(list(score_rows.HEAD), rows), "", *score_rows.NOTES, ""]
    if not board.sections:
        return "\n".join(lines)
    lines += ["## Notes", "", "- **Bold**: beats chance and the blind answer beyond noise."]
    return "\n".join([*lines, *(f"- {escape(note)}" for note in board.notes), ""])


def _main(section: Section) -> list[str]:
    claimed = ("utility", "epsilon", AUDITED, "delta", "sampler")
    head = ["rank", "defense", *claimed, *section.attacks, "worst attack", "seeds"]
    rows = []
    for row in section.rows:
        cells = [
            f"**{cell.found}**{section.marks(cell)}" if cell.above_baseline else _value(section, cell)
            for cell in row.cells
        ]
        claims = [_rank(row), row.defense, str(row.utility), row.epsilon, row.claim.audited, row.delta, row.sampler]
        rows.append([*claims, *cells, _worst(row), str(row.seeds)])
    return table(head, rows)


def _equals(equals: Equals) -> list[str]:
    head = ["rank", "defense", "utility", f"beyond {equals.floor}", "epsilon if selected", "sampler"]
    rows = []
    for row, beyond in zip(equals.rows, equals.beyond, strict=True):
        rows.append([_rank(row), row.defense, str(row.utility), str(beyond or "-"), row.selected, row.sampler])
    return table(head, rows)


def _details(board: Board, store: Store) -> dict[str, str]:
    """By path, a page a data set with every figure of its cells: on one page they were too many to be shown or read."""
    pages: dict[str, list[str]] = {}
    for section in (whole.tried for whole in board.sections):
        if measured := _measured(section):
            page = pages.setdefault(_page(store, section.data), [f"# All figures: {section.data}", "", SEEDED, ""])
            names = dict.fromkeys(name for _, cell in measured for name in cell.figures or ())
            head = [name for name in names if name != section.headline and name not in LAST]
            head += [name for name in LAST if name in names]
            rows = [
                [row.defense, cell.attack, *(_detail(cell, name) for name in head), str(cell.less or "-")]
                for row, cell in measured
            ]
            page += [f"## {section.game}", "", *table(["defense", "attack", *map(_title, head), LESS], rows), ""]
    return {path: "\n".join(lines) for path, lines in pages.items()}


def _measured(section: Section) -> list[tuple[Row, Cell]]:
    return [(row, cell) for row in section.rows for cell in row.cells if cell.figures is not None]


def _page(store: Store, data: str) -> str:
    return f"{store.path(data, '-', '-', 0).parents[2].name}/details.md"


def _detail(cell: Cell, name: str) -> str:
    """A figure; of a true positive rate also the false positive rate it came at, and the counts of all seeds."""
    figure = (cell.figures or {}).get(name, "-")
    every = (result.metrics.get(name) for result in cell.results)
    found = [one for one in every if isinstance(one, dict) and "fpr" in one]
    if not isinstance(figure, Figure) or not found:
        return str(figure)
    realised = sum(one["fpr"] for one in found) / len(found)
    hits, members, alarms, others = (
        sum(one[name] for one in found) for name in ("true_positives", "members", "false_positives", "non_members")
    )
    return f"{figure} at FPR {realised:.4f} ({hits}/{members} members, {alarms}/{others} non-members)"


# CSV


def _record(result: CellResult, new: bool, claim: Claim) -> dict[str, Any]:
    """One cell and seed, flat: a column is named by its path in the JSON."""
    keys = ("data", "game", "defense", "attack", "seed")
    record: dict[str, Any] = {key: getattr(result, key) for key in keys}
    record["state"] = "fresh" if new else "stale"
    for key in ("utility", "privacy", "metrics", "seconds"):
        _flatten(key, getattr(result, key), record)
    record[AUDITED] = claim.audited.replace("**", "")
    record["peak_memory_mib"] = result.peak_memory_mib
    record["device"] = result.device
    record["caveats"] = "; ".join(result.caveats)
    record["digest"] = result.digest
    return record


def _flatten(path: str, values: Mapping[str, Any], record: dict[str, Any]) -> None:
    for key, value in values.items():
        name = f"{path}.{key}"
        if type(value) is dict:  # as JSON has them; these lines run hundreds of thousands of times
            if name != "metrics.roc":  # a curve is no figure; the JSON and the plots hold it
                _flatten(name, value, record)
        else:
            record[name] = "; ".join(map(str, value)) if type(value) in (list, tuple) else value


def _csv(records: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for record in records for key in record))
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(columns)
    lines.writerows(map(record.get, columns) for record in records)
    return text.getvalue()
