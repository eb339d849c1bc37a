"""README and claims quote the committed results, and every committed configuration can be run."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import yaml

from bench.core.component import missing
from tests.project import commands

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


def test_claims_quote_the_leaderboard() -> None:
    claims = (ROOT / "results" / "claims.md").read_text().partition("\n## Published")[0]
    pages = [ROOT / "results" / "leaderboard.md", *(ROOT / "results").glob("*/details.md")]
    leaderboard = "".join(page.read_text() for page in pages)
    figures = re.findall(r"\d\.\d{3} \[-?\d\.\d+, \d\.\d+\]", claims)
    assert len(figures) > 20
    assert [figure for figure in figures if figure not in leaderboard] == []


def test_claims_quote_the_audits() -> None:
    leaderboard = (ROOT / "results" / "leaderboard.md").read_text().split("\n## ")[1:]
    rows = [
        (part.partition(":")[0].partition(",")[0], *(word.strip(" *") for word in line.split("|")[2:6]))
        for part in leaderboard for line in part.splitlines() if line.startswith("| ")
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
