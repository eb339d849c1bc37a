"""README and claims quote the committed results, and every committed configuration can be run."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import yaml

from bench.core.component import missing
from bench.report import aggregate, epsilon_column, markdown
from bench.runner.registry import discover
from bench.store import audit_findings
from bench.store.freshness import freshness
from bench.store.store import Store
from tests.project import commands

FIGURE = r"\d\.\d{3} \[-?\d\.\d+, \d\.\d+\]"
DIFFERENCE = "less than undefended"
ROOT = Path(__file__).resolve().parents[2]


def test_the_cell_in_the_readmes_example_is_stored():
    [cell] = re.findall(r"bench why (\S+/\d+)", (ROOT / "README.md").read_text())
    assert (ROOT / "results" / f"{cell}.json").is_file()


def tables(page: str) -> list[list[dict[str, str]]]:
    """Every table of a Markdown page: its rows by the names of the columns, without bold markup."""
    found: list[list[list[str]]] = [[]]
    for line in page.splitlines():
        if line.startswith("| "):
            found[-1].append([word.strip(" *") for word in line.split("|")[1:-1]])
        elif not line.startswith("|---") and found[-1]:
            found.append([])
    return [[dict(zip(head, row, strict=True)) for row in rows] for head, *rows in filter(None, found)]


def test_the_leaderboard_in_the_readme_is_the_committed_one() -> None:
    """Cell by cell, in one table; the README shows an audited epsilon without its details."""
    committed = tables((ROOT / "results" / "leaderboard.md").read_text())
    [shown] = [table for table in tables((ROOT / "README.md").read_text()) if "rank" in table[0]]
    names = yaml.safe_load((ROOT / "results" / "boards" / "small.yaml").read_text())["defense"]
    assert sorted(row["defense"] for row in shown) == sorted(names)
    assert len(shown[0]) >= 7
    [whole] = [table for table in committed if all(_matches(row, table) for row in shown)]
    assert [_matches(row, whole)[0]["defense"] for row in shown] == [row["defense"] for row in shown]
    assert not _matches(shown[0] | {"utility": "0.999 [0.871, 0.953]"}, whole)


def _matches(shown: dict[str, str], table: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows of a table that contain the values of `shown`."""
    return [
        row
        for row in table
        if shown.keys() <= row.keys()
        and all((row[name].split()[0] if name == "audited epsilon" else row[name]) == shown[name] for name in shown)
    ]


@pytest.fixture(scope="module")
def pages_of_all_cells(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The leaderboard and its details from all stored cells and audits, those that later code made stale, too."""
    stored, written = Store(ROOT / "results"), Store(tmp_path_factory.mktemp("results"))

    def claim(data: str, defense: str) -> epsilon_column.Claim:
        row = audit_findings.load(stored, data, defense)
        return epsilon_column.claim(row.findings.values()) if row else epsilon_column.NOT_AUDITED

    markdown.write(aggregate.build(stored, None, claim=claim), written)
    return [path.read_text() for path in sorted(written.root.rglob("*.md"))]


def test_claims_quote_the_stored_cells(pages_of_all_cells: list[str]) -> None:
    claims = (ROOT / "results" / "claims.md").read_text().partition("\n## Published")[0]
    figures = re.findall(FIGURE, claims)
    assert len(figures) > 20
    # Paired differences of stale cells are not kept (`bench.report.comparisons`): those in the claims await new ones.
    fresh = freshness(discover().find)
    is_stale = not all(map(fresh, Store(ROOT / "results").results()))
    rows = [row for table in tables(claims) for row in table]
    waiting = {figure for row in rows for figure in re.findall(FIGURE, row.get(DIFFERENCE, "")) if is_stale}
    unknown = [one for one in figures if one not in "".join(pages_of_all_cells) and one not in waiting]
    assert unknown == []


def test_claims_quote_the_audits(pages_of_all_cells: list[str]) -> None:
    [leaderboard] = [page for page in pages_of_all_cells if page.startswith("# Leaderboard")]
    rows = [
        (part.partition(":")[0].partition(",")[0], *(word.strip(" *") for word in line.split("|")[2:6]))
        for part in leaderboard.split("\n## ")[1:] for line in part.splitlines() if line.startswith("| ")
    ]  # fmt: skip
    table = (ROOT / "results" / "claims.md").read_text().partition("| claimed ε 1, ε 8 |")[2]
    names, _, *lines = table.partition("\n\n")[0].splitlines()
    data = [word.strip() for word in names.split("|")[:-1]]
    assert len(lines) * len(data) == 24
    for line in lines:
        defense, *cells = (word.strip(" `") for word in line.split("|")[1:-1])
        for name, cell in zip(data, cells, strict=True):
            for claimed, proved in zip((1, 8), cell.split(", "), strict=True):
                assert any(
                    (where, label.partition(",")[0], audited.split()[0]) == (name, defense, proved)
                    and abs(float(epsilon) - claimed) < 0.05
                    for where, label, _, epsilon, audited in rows
                    if audited[:1].isdigit()
                ), f"{name}: {defense}, {claimed}"


@pytest.mark.parametrize("path", sorted((ROOT / "results").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_committed_configuration_can_be_run(path: Path) -> None:
    """All names in it are known, and at least one of its cells can be played."""
    for grid in commands.request(commands.read(["run", "--config", str(path)])).grids:
        combinations = itertools.product(grid.attacks, grid.defenses, grid.data)
        assert not all(missing(*(choice.component for choice in choices)) for choices in combinations)
