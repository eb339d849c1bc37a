"""From stored cells to results/figures/: a picture, its numbers, and the page on which all of them stand."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.core.errors import UserError, warn_user
from bench.core.notices import SEEDED
from bench.report.drawing import put, save
from bench.report.figures.plan import Plan, Point, points
from bench.report.leaderboard import Figure

if TYPE_CHECKING:
    from pathlib import Path

    from bench.runner.cell import Cell
    from bench.store.records import CellResult
    from bench.store.store import Store

FOLDER = "figures"
HEAD = f"""# Figures

Written by `bench figure`, which measures what a figure needs and draws it; `--draw-only` draws what is stored. Numbers
are means over seeds with 95 % intervals. A point of which a seed was not measured, or is stale, is left out and named.
{SEEDED}
"""


def draw(
    asked: Mapping[Plan, Sequence[Cell]],
    known: Mapping[str, Plan],
    store: Store,
    fresh: Callable[[CellResult], bool],
    said: str = "",
) -> list[Path]:
    """Draw each plan from its stored cells, and write NAME.png, NAME.csv and the page; returns their paths.

    known: every figure by name, for the page. said: the flags that changed the plan, as the command shows them.
    Raises UserError where there is nothing to draw of any plan.
    """
    paths: list[Path] = []
    sections: dict[str, str] = {}
    empty: list[str] = []
    for plan, cells in asked.items():
        found, left = points(plan, cells, store, fresh)
        if not found:
            empty.append(plan.name)
            continue
        folder = store.root / FOLDER
        paths.append(save(folder / f"{plan.name}.png", plan.draw(found)))
        paths.append(put(folder / f"{plan.name}.csv", table(found)))
        sections[plan.name] = _section(plan, found, left, f"bench figure {plan.name}{said}")
    if not paths:
        raise UserError(
            f"{store.root} holds not one whole point of {', '.join(empty)}: `bench figure` without --draw-only "
            "measures them."
        )
    if empty:
        warn_user(f"note: not drawn, because not one whole point of them is stored: {', '.join(empty)}.")
    page = store.root / FOLDER / "README.md"
    return [*paths, put(page, _page(_sections(page) | sections, known).encode())]


def _sections(page: Path) -> dict[str, str]:
    """What the page says of each figure now: what was not drawn this time stays as it is."""
    text = page.read_text() if page.exists() else ""
    return dict(re.findall(r"^## (\w+)\n\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))


def _page(sections: Mapping[str, str], known: Mapping[str, Plan]) -> str:
    parts = [HEAD, *(f"## {name}\n\n{sections[name].strip()}\n" for name in known if name in sections)]
    if absent := [plan for name, plan in known.items() if name not in sections]:
        lines = (f"- {plan.title} (`bench figure {plan.name}`)" for plan in absent)
        parts.append("\n".join(["## Not measured yet", "", *lines, ""]))
    return "\n".join(parts)


def _section(plan: Plan, found: Sequence[Point], left: Sequence[tuple[Cell, str]], command: str) -> str:
    seeds = sorted({result.seed for point in found for result in point.results})
    lines = [
        f"**{plan.title}.** {plan.summary}", "",
        f"![{plan.title}]({plan.name}.png)", "",
        f"    {command}", "",
        f"Numbers: [{plan.name}.csv]({plan.name}.csv), seeds {', '.join(map(str, seeds))}.", "",
    ]  # fmt: skip
    notes = [*plan.caveats, *_left(left), *_caveats(found)]
    return "\n".join([*lines, *(f"- {note}" for note in notes)])


def _left(left: Sequence[tuple[Cell, str]]) -> list[str]:
    """What is not shown, a line a data set and reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for cell, why in left:
        groups.setdefault((cell.data.label, why), []).append(f"`{cell.defense.label}` against `{cell.attack.label}`")
    return [f"Left out on `{data}` ({why}): {', '.join(names)}." for (data, why), names in groups.items()]


def _caveats(found: Sequence[Point]) -> list[str]:
    """The doubts that were stored with the numbers, each with how many points it concerns."""
    count: dict[str, int] = {}
    for point in found:
        for caveat in point.cell.caveats:
            count[caveat] = count.get(caveat, 0) + 1
    return [f"Caveat ({times} of {len(found)} points): {caveat}" for caveat, times in count.items()]


def table(found: Sequence[Point]) -> bytes:
    """The CSV: a line a point, with its utility, what the attack found there, and what is found blindly."""
    rows = [_row(point) for point in found]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def _row(point: Point) -> dict[str, Any]:
    metrics, figures = point.results[0].metrics, point.cell.figures or {}
    row: dict[str, Any] = {"data": point.data.label, "defense": point.defense.label, "attack": point.attack.label}
    row["seeds"] = " ".join(str(result.seed) for result in point.results)
    row["epsilon"] = max(float(result.privacy["epsilon"]) for result in point.results)
    headline = str(metrics["headline"])
    shown = {
        "utility": point.utility,
        "found": figures.get(headline),
        **{k: figures.get(k) for k in ("baseline", "gain")},
    }
    for name, figure in shown.items():
        parts = (figure.value, figure.low, figure.high) if isinstance(figure, Figure) else ("", "", "")
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), parts, strict=True))
    return row | {"metric": headline, "chance": metrics["chance"]}
