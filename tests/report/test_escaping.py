"""Every page writer and the terminal show hostile names and sentences of records and errors as plain text."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cells import cell
from hostile import HOSTILE, SHOWN, check_page, check_shown
from rich.console import Console

from bench.core import markdown as core_markdown
from bench.core.errors import UserError
from bench.core.progress import Progress
from bench.report import aggregate, audit_page, epsilon_column, exposure, markdown, ranking, reproduce, terminal
from bench.report import csv as csv_page
from bench.report import score_rows as score_pages
from bench.report.comparisons import Comparisons
from bench.report.cost_estimate import Row as PlanRow
from bench.report.cost_estimate import lines
from bench.report.figures import page as figures_page
from bench.report.figures.plan import Plan, Point
from bench.report.leaderboard import Leaderboard
from bench.report.reproduce import Compared, Report
from bench.store.records import AuditedRow, AuditFinding
from bench.store.score_rows import RESTS_ON, ScoreRow
from bench.store.store import Store

EVIL = f"evil {HOSTILE}"


class Results(Store):
    """A store that returns invalid records: pages must escape text even if the reader did not refuse it."""

    def results(self, data: Any = None) -> list[Any]:
        words = {"data": EVIL, "game": EVIL, "caveats": (EVIL, "few records"), "public_knowledge": (EVIL,)}
        made = [
            cell(f"{name} {EVIL}", f"one {EVIL}", epsilon=1.0, auc=0.5 + i / 10, **words)
            for i, name in enumerate("abc")
        ]
        for one in made:
            one.privacy["sampler"] = EVIL
            one.privacy["relation"] = EVIL
            one.metrics["tpr_at_fpr_0.001"] = {"not_measurable": EVIL}
            one.metrics[EVIL] = {"value": 0.5, "low": 0.4, "high": 0.6}
        gap = cell("none", f"gap {EVIL}", **words)
        gap.metrics["auc"] = {"not_measurable": EVIL}
        return [*made, gap]


def submitted() -> ScoreRow:
    rate = {"not_measurable": EVIL}
    bounds = {name: {"value": 3.0, "most": 4.0} for name in RESTS_ON} | {"one_run": {"not_measurable": EVIL}}
    return ScoreRow(
        defense=EVIL, data=EVIL, attack=EVIL, utility=0.5, epsilon=1.0, delta=1e-5, confidence=0.95, held_in=10,
        held_out=10, headline="beta_binomial", bounds=bounds, auc=rate, tpr={"0.01": rate, "0.001": rate},
        code=score_pages.score_digest(),
    )  # fmt: skip


def finding() -> AuditFinding:
    parts = ({"what": EVIL},)
    return AuditFinding(
        kind="one_step", epsilon=0.5, delta=1e-5, lower=(1.0, 0.9, 0.8), most=(7.0,) * 3, trials=100, parts=parts,
        seconds=1.0, digest="",
    )  # fmt: skip


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Leaderboard, Store]:
    monkeypatch.setattr("bench.store.score_rows.every", lambda store: (submitted(),))
    store = Results(tmp_path / "results")
    failed = {(EVIL, "a", f"failed {EVIL}", 0): EVIL}
    claim = epsilon_column.Claim(f"1.00 {EVIL}", violated=True, caveat=EVIL)
    found = aggregate.build(store, None, failed, control=lambda attack: EVIL, claim=lambda data, defense: claim)
    return ranking.compared(found, Comparisons(store)), store


def leaderboard(built: tuple[Leaderboard, Store]) -> str:
    markdown.write(*built)
    return (built[1].root / "leaderboard.md").read_text()


def details(built: tuple[Leaderboard, Store]) -> str:
    markdown.write(*built)
    return "\n".join(page.read_text() for page in built[1].root.glob("*/details.md"))


def audits(built: tuple[Leaderboard, Store]) -> str:
    return audit_page.write(built[1], SimpleNamespace()).read_text()  # type: ignore[arg-type]


def figures(built: tuple[Leaderboard, Store]) -> str:
    choice: Any = SimpleNamespace(label=EVIL)
    one: Any = SimpleNamespace(data=choice, defense=choice, attack=choice)
    found = Point(choice, choice, choice, built[0].sections[0].rows[0].cells[0])
    section = figures_page._section(Plan("one", "One", "One.", (), lambda points: None), [found], [(one, EVIL)], EVIL)  # type: ignore[arg-type,return-value]
    return figures_page._page({"one": section}, {"one": SimpleNamespace(title="One", name="one")})  # type: ignore[dict-item]


def reproduced(built: tuple[Leaderboard, Store]) -> str:
    old, new = built[1].results()[:2]
    return reproduce.markdown(Report((Compared(old, new, "drift", (EVIL,), (EVIL,)),), (EVIL,)))


def exposed(built: tuple[Leaderboard, Store]) -> str:
    found = exposure.Exposure(EVIL, 0, 0.01, (EVIL,), (1, 1), (1.0, 0.0), (EVIL,))
    return exposure._markdown([found])


# the page and its allowed links: to the details of each section, to the data of the figure
PAGES: dict[str, tuple[Callable[[tuple[Leaderboard, Store]], str], int]] = {
    "leaderboard": (leaderboard, 1),
    "details": (details, 0),
    "audits": (audits, 0),
    "figures": (figures, 1),
    "reproduced": (reproduced, 0),
    "exposed": (exposed, 0),
}


@pytest.fixture
def audited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_page, "every", lambda store: [AuditedRow(EVIL, EVIL, {"one_step": finding()})])
    monkeypatch.setattr(epsilon_column, "fresh", lambda row, registry: list(row.findings.values()))


def check(name: str, built: tuple[Leaderboard, Store]) -> None:
    write, links = PAGES[name]
    page = write(built)
    if name == "figures":
        page = page.replace("![One](one.png)", "")
    check_page(page, links)
    check_shown(page)


@pytest.mark.usefixtures("audited")
@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_hostile_text_as_text(name: str, built: tuple[Leaderboard, Store]) -> None:
    check(name, built)


@pytest.mark.usefixtures("audited")
@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("dropped", ["Markdown", "control characters"])
def test_a_page_without_escaping_is_found(
    name: str, dropped: str, built: tuple[Leaderboard, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutants that these tests must detect."""
    if dropped == "Markdown":
        monkeypatch.setattr(core_markdown, "_INLINE", re.compile("(?!)"))
    else:
        monkeypatch.setattr(core_markdown, "one_line", lambda words: words)
    with pytest.raises(AssertionError):
        check(name, built)


# The terminal


def printed(built: Leaderboard, width: int) -> str:
    file = io.StringIO()
    terminal.show(built, Console(file=file, width=width))
    return file.getvalue()


def check_terminal(text: str) -> None:
    assert all(one.isprintable() for one in text.replace("\n", ""))
    assert "".join(SHOWN.split()) in "".join(text.split())


@pytest.mark.parametrize("width", [80, 20_000])
def test_a_terminal_shows_hostile_text_as_text(built: tuple[Leaderboard, Store], width: int) -> None:
    check_terminal(printed(built[0], width))


@pytest.mark.parametrize("width", [80, 20_000])
def test_a_terminal_without_escaping_is_found(
    built: tuple[Leaderboard, Store], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mutant without this escaping fails the test above."""
    monkeypatch.setattr(terminal, "one_line", lambda words: words)
    with pytest.raises(AssertionError):
        check_terminal(printed(built[0], width))


def test_a_submitted_row_a_plan_and_progress_are_text() -> None:
    check_terminal("\n".join(score_pages.lines_of(submitted())))
    check_terminal("\n".join(lines([PlanRow(EVIL, EVIL, 1, 1, ())])))
    for on_a_terminal in (True, False):
        out = io.StringIO()
        with Progress(Console(file=out, force_terminal=on_a_terminal, width=400, color_system=None)) as progress:
            progress.step(EVIL, 0, 2)
            progress.print(EVIL)
        assert SHOWN in out.getvalue()
        assert "\x1b[31m" not in out.getvalue()


# Other formats


def test_the_csv_gives_back_every_text(built: tuple[Leaderboard, Store]) -> None:
    import pandas as pd

    results = built[1].results()
    results[0].caveats.append("half \ud800 a character")
    csv_page.write(Leaderboard((), (), tuple((one, True) for one in results)), built[1])
    frame = pd.read_csv(built[1].root / "leaderboard.csv")
    assert set(frame["data"]) == {EVIL.replace("\r\n", "\n")} or set(frame["data"]) == {EVIL}
    assert frame["caveats"][0].endswith("half \\ud800 a character")


def test_a_plugin_that_fails_cannot_write_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """What `bench` prints of any error passes `warn_user`."""
    from bench.core.errors import warn_user

    warn_user(str(UserError(EVIL)))
    assert capsys.readouterr().err == f"bench: evil {SHOWN}\n"
