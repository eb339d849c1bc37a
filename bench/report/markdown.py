"""The leaderboard as Markdown pages: leaderboard.md, and details.md beside the cells of each data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.core.files import write_if_changed
from bench.core.markdown import Markup, bold, escape, heading, item, table
from bench.core.notices import SEEDED
from bench.report import score_rows, wording
from bench.report.epsilon_column import VIOLATION, Claim
from bench.report.leaderboard import Cell, EqualClaims, Estimate, Leaderboard, Row, Section

if TYPE_CHECKING:
    from bench.store.store import Store

REDUCTION = "less than undefended"
LAST = ("baseline", "gain")  # columns of the details, after those of the attack alone


def write(board: Leaderboard, store: Store) -> None:
    """Write leaderboard.md and the details of each data set, where they changed."""
    for name, text in {"leaderboard.md": _page(board, store), **_details(board, store)}.items():
        write_if_changed(store.root / name, text.encode())


def _page(board: Leaderboard, store: Store) -> str:
    lines = ["# Leaderboard", ""]
    if not board.sections and not board.score_rows:
        return "\n".join([*lines, wording.EMPTY, ""])
    lines += ["Written by `bench table`; results/README.md of the project says what each column means.", ""]
    for section in board.sections:
        lines += _section(section, store)
    for equal in board.equal_claims:
        claim = f"epsilon {wording.epsilon(equal.epsilon)}, delta {wording.delta(equal.delta)}"
        lines += [heading(2, f"{equal.data}: utility at {claim}"), "", *_equal_claims(equal), ""]
    if board.score_rows:
        rows = map(score_rows.row_of, board.score_rows)
        lines += [heading(2, wording.SUBMITTED), "", *table(list(score_rows.HEAD), rows), "", *score_rows.NOTES, ""]
    if not board.sections:
        return "\n".join(lines)
    lines += ["## Notes", "", f"- **Bold**: {wording.BEATS_CHANCE}"]
    return "\n".join([*lines, *map(item, board.notes), ""])


def _section(whole: Section, store: Store) -> list[str]:
    section = whole.measured
    lines = [heading(2, f"{section.data}: {section.game}"), "", *_main(section), ""]
    for sentence in whole.unmeasured:
        lines += [escape(sentence), ""]
    lines += [escape(wording.metric_line(section)) + ".", ""]
    below = [item(caveat) for caveat in section.column_caveats]
    below += [item(f"({i}) {caveat}") for i, caveat in enumerate(section.caveats, 1)]
    lines += [*below, ""] if below else []
    if _measured(section):
        lines += [f"[All estimates of each cell](<{_details_path(store, section.data)}>)", ""]
    return lines


def _main(section: Section) -> list[str]:
    rows = []
    for row in section.rows:
        claim = [
            str(row.utility),
            wording.epsilon(row.epsilon),
            _audited(row.claim),
            wording.delta(row.delta),
            row.sampler,
        ]
        cells = [_cell(section, cell) for cell in row.cells]
        rows.append([wording.rank(row), row.defense, *claim, *cells, wording.worst(row), str(row.seeds)])
    return table(wording.head(section), rows)


def _audited(claim: Claim) -> str:
    return Markup(f"{bold(VIOLATION)} {escape(claim.bound)}") if claim.violated else claim.bound


def _cell(section: Section, cell: Cell) -> str:
    marks = section.marks(cell)
    return Markup(bold(str(cell.headline)) + marks) if cell.above_baseline else str(cell.headline or cell.state) + marks


def _equal_claims(equal: EqualClaims) -> list[str]:
    head = ["rank", "defense", "utility", f"beyond {equal.reference}", "epsilon if selected", "sampler"]
    rows = [
        [
            wording.rank(row),
            row.defense,
            str(row.utility),
            str(gain or "-"),
            wording.epsilon(row.epsilon_selected),
            row.sampler,
        ]
        for row, gain in zip(equal.rows, equal.gains, strict=True)
    ]
    return table(head, rows)


def _details(board: Leaderboard, store: Store) -> dict[str, str]:
    """By path, one page per data set with every estimate of its cells: one page for all would be too long to show."""
    pages: dict[str, list[str]] = {}
    for section in (whole.measured for whole in board.sections):
        if measured := _measured(section):
            path = _details_path(store, section.data)
            page = pages.setdefault(path, [heading(1, f"All estimates: {section.data}"), "", SEEDED, ""])
            names = dict.fromkeys(name for _, cell in measured for name in cell.estimates or ())
            shown = [name for name in names if name != section.headline and name not in LAST]
            shown += [name for name in LAST if name in names]
            rows = [
                [row.defense, cell.attack, *(_detail(cell, name) for name in shown), str(cell.reduction or "-")]
                for row, cell in measured
            ]
            head = ["defense", "attack", *map(wording.title, shown), REDUCTION]
            page += [heading(2, section.game), "", *table(head, rows), ""]
    return {path: "\n".join(lines) for path, lines in pages.items()}


def _measured(section: Section) -> list[tuple[Row, Cell]]:
    return [(row, cell) for row in section.rows for cell in row.cells if cell.estimates is not None]


def _details_path(store: Store, data: str) -> str:
    return f"{store.path(data, '-', '-', 0).parents[2].name}/details.md"


def _detail(cell: Cell, name: str) -> str:
    """An estimate; of a true positive rate also the false positive rate it came at, and the counts of all seeds."""
    estimate = (cell.estimates or {}).get(name, "-")
    stored = (result.metrics.get(name) for result in cell.results)
    found = [one for one in stored if isinstance(one, dict) and "fpr" in one]
    if not isinstance(estimate, Estimate) or not found:
        return str(estimate)
    realised = sum(one["fpr"] for one in found) / len(found)
    hits, members, alarms, others = (
        sum(one[count] for one in found) for count in ("true_positives", "members", "false_positives", "non_members")
    )
    return f"{estimate} at FPR {realised:.4f} ({hits}/{members} members, {alarms}/{others} non-members)"
