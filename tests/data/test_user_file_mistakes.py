"""Mistakes in a table, its bounds or its options are refused in one sentence that names the line."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_fixtures import table, write_table
from user_files import load

from bench.core.errors import UserError


def with_cell(line: int, column: int, cell: str | None) -> list[list[str]]:
    rows = table()
    if cell is None:
        del rows[line][column]
    else:
        rows[line][column] = cell
    return rows


LINES: dict[str, tuple[list[list[str]], str]] = {
    "a cell missing": (with_cell(9, 1, None), "line 10: 3 cells, but there are 4 columns"),
    "text": (with_cell(9, 0, "old"), "line 10: age is 'old', but a number in line 2"),
    "an empty cell": (with_cell(9, 1, ""), "line 10: income is ''"),
    "nan": (with_cell(9, 1, "nan"), "line 10: income is 'nan', not a finite number"),
    "inf": (with_cell(9, 1, "-inf"), "line 10: income is '-inf', not a finite number"),
    "too large": (with_cell(9, 1, "1e200"), "line 10: income is '1e200'"),
    "no label": (with_cell(9, 3, ""), "line 10: the label is empty"),
    "a single label": (with_cell(9, 3, "perhaps"), "line 10: no other record has the label 'perhaps'"),
    "no label column": (with_cell(0, 3, "tarjet"), "no column 'target' for label=: did you mean 'tarjet'"),
    "no name": (with_cell(0, 0, ""), "a column without a name"),
    "duplicate name": (with_cell(0, 0, "income"), "two of one name ('income')"),
    "no header": ([["1", "2"], ["3", "4"], ["5", "6"]], "first line must name the columns"),
    "no records": (table()[:1], "holds no records"),
    "one column": ([["target"], ["yes"], ["no"]], "the one column 'target'"),
    "one label": ([[*row[:3], row[3] if i == 0 else "yes"] for i, row in enumerate(table())], "the one label 'yes'"),
}


@pytest.mark.parametrize(("rows", "why"), LINES.values(), ids=LINES)
def test_a_mistake_in_a_table_is_refused_with_its_line(rows: list[list[str]], why: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load(write_table(tmp_path / "my.csv", rows))
    assert why in str(caught.value)
    assert "my.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_many_categories_are_refused(tmp_path: Path) -> None:
    rows = with_cell(1, 1, "unknown")
    with pytest.raises(UserError, match=r"column 'income' has [0-9]+ different values"):
        load(write_table(tmp_path / "my.csv", rows), "label=target,public=200")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "holds no records"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b'a,target\n"1,x\n2,y\n', "cannot be read in line"),
        (b'a,target\n1,x\n2,y\n"3"4,x\n', "cannot be read in line 4"),
    ],
)
def test_a_file_of_another_format_is_refused(data: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    path.write_bytes(data)
    with pytest.raises(UserError, match=why):
        load(path)
    with pytest.raises(UserError, match="cannot be read"):
        load(tmp_path / "other.csv")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ages: [0, 120]", "no column 'ages' of its .bounds.yaml file: did you mean 'age'"),
        ("age: 120", "age must be a list of two or more"),
        ("age: [120, 0]", "the smaller one first"),
        ("age: [0, inf]", "two finite numbers"),
        ("city: [Rome]", "two or more different values"),
        ("city: [Rome, Rome]", "two or more different values"),
        ("age: [0", "not valid YAML in line"),
        ("- age", "a line a column"),
        ("city: [0, 1]", "line 2: city is"),
        ("target: [yes, perhaps]", "the label 'no' is none of those"),
        ("!!python/object/apply:os.system [ls]", "a line a column|not valid"),
    ],
)
def test_a_mistake_in_the_bounds_is_refused(text: str, why: str, people: Path) -> None:
    people.with_suffix(".bounds.yaml").write_text(text)
    rows = table()
    people.write_text(people.read_text())
    with pytest.raises(UserError, match=why) as caught:
        load(write_table(people, rows))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("label=target,public=399", "too few for private="),
        ("label=target,private=-3", "private=-3 of data 'my.csv' must be at least 0"),
        ("label=target,public=-400", "must be at least 0"),
        ("label=target,attribute=town", "no categories 'town': known: city"),
        ("labels=target", "did you mean 'label'"),
        ("label=target,private=many", "a whole number"),
        ("", "no column 'label' for label="),
        ("label=target,content=000000000000", "leave that out"),
    ],
)
def test_a_mistake_in_the_options_is_refused(options: str, why: str, people: Path) -> None:
    with pytest.raises(UserError, match=why):
        load(people, options)
