"""From stored cells to results/figures/: each figure's plot, its numbers, and the page that shows all of them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.core.errors import UserError, warn_user
from bench.core.files import write_if_changed
from bench.core.markdown import Markup, code, escape, item
from bench.core.notices import SEEDED
from bench.core.text import one_line
from bench.report.drawing import save
from bench.report.figures.plan import Plan, Point, points
from bench.report.leaderboard import Estimate

if TYPE_CHECKING:
    from pathlib import Path

    from bench.runner.cell import Cell
    from bench.store.records import CellResult
    from bench.store.store import Store

FOLDER = "figures"
HEAD = f"""# Figures

Written by `bench figure`, which measures the cells of a figure and draws it; `--draw-only` draws stored cells only.
Numbers are means over seeds with 95 % intervals. A point with a missing or stale seed is left out and named.
{SEEDED}
"""


def draw(
    requested: Mapping[Plan, Sequence[Cell]],
    known: Mapping[str, Plan],
    store: Store,
    fresh: Callable[[CellResult], bool],
    flags: str = "",
) -> list[Path]:
    """Draw each plan from its stored cells, and write NAME.png, NAME.csv and the page; returns their paths.

    known: every figure by name, for the page. flags: those that changed the plan, as the user wrote them.
    Raises UserError where there is nothing to draw of any plan, and where the old page is not UTF-8 text.
    """
    page = store.root / FOLDER / "README.md"
    old = _sections(page)
    paths: list[Path] = []
    sections: dict[str, str] = {}
    empty: list[str] = []
    for plan, cells in requested.items():
        found, left = points(plan, cells, store, fresh)
        if not found:
            empty.append(plan.name)
            continue
        folder = store.root / FOLDER
        paths.append(save(folder / f"{plan.name}.png", plan.draw(found)))
        paths.append(folder / f"{plan.name}.csv")
        write_if_changed(paths[-1], table(found))
        sections[plan.name] = _section(plan, found, left, f"bench figure {plan.name}{flags}")
    if not paths:
        raise UserError(
            f"{store.root} does not hold a complete point of {', '.join(empty)}: `bench figure` without --draw-only "
            "measures them."
        )
    if empty:
        warn_user(f"note: not drawn, because no complete point of them is stored: {', '.join(empty)}.")
    write_if_changed(page, _page(old | sections, known).encode())
    return [*paths, page]


def _sections(page: Path) -> dict[str, str]:
    """The page's section of each figure: that of a figure which is not drawn this time stays as it is."""
    try:
        text = page.read_text("utf-8") if page.is_file() else ""
    except UnicodeDecodeError:
        raise UserError(f"{page} is not UTF-8 text: delete it, then run the same command again.") from None
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
        f"    {one_line(command)}", "",
        f"Numbers: [{plan.name}.csv]({plan.name}.csv), seeds {', '.join(map(str, seeds))}.", "",
    ]  # fmt: skip
    notes = [*map(Markup, plan.caveats), *_left(left), *_caveats(found)]
    return "\n".join([*lines, *map(item, notes)])


def _left(left: Sequence[tuple[Cell, str]]) -> list[Markup]:
    """What is not shown, one line per data set and reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for cell, why in left:
        groups.setdefault((cell.data.label, why), []).append(
            f"{code(cell.defense.label)} against {code(cell.attack.label)}"
        )
    return [
        Markup(f"Left out on {code(data)} ({escape(why)}): {', '.join(names)}.")
        for (data, why), names in groups.items()
    ]


def _caveats(found: Sequence[Point]) -> list[str]:
    """The caveats that were stored with the numbers, each with the number of points that it concerns."""
    count: dict[str, int] = {}
    for point in found:
        for caveat in point.cell.caveats:
            count[caveat] = count.get(caveat, 0) + 1
    return [f"Caveat ({times} of {len(found)} points): {caveat}" for caveat, times in count.items()]


def table(found: Sequence[Point]) -> bytes:
    """The CSV: one line per point, with utility, the attack's headline estimate, the release-free baseline, gain."""
    rows = [_row(point) for point in found]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode(errors="backslashreplace")


def _row(point: Point) -> dict[str, Any]:
    metrics, estimates = point.results[0].metrics, point.cell.estimates or {}
    row: dict[str, Any] = {"data": point.data.label, "defense": point.defense.label, "attack": point.attack.label}
    row["seeds"] = " ".join(str(result.seed) for result in point.results)
    row["epsilon"] = max(float(result.privacy["epsilon"]) for result in point.results)
    headline = str(metrics["headline"])
    shown = {
        "utility": point.utility,
        "found": estimates.get(headline),
        **{k: estimates.get(k) for k in ("baseline", "gain")},
    }
    for name, one in shown.items():
        parts = (one.value, one.low, one.high) if isinstance(one, Estimate) else ("", "", "")
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), parts, strict=True))
    return row | {"metric": headline, "chance": metrics["chance"]}
