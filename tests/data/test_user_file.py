"""Files of the user's own: every mistake names its line, nothing private decides how they are scaled, and a changed
file is another data set."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.cli.main import main
from bench.core.component import Choice
from bench.core.dataset import DataLocation, Examples, Split, record_keys, shared
from bench.core.errors import Caveat, UserError
from bench.data import user_file, user_file_parser
from bench.data.card import FIELDS, card
from bench.runner.cell import Cell
from bench.runner.registry import discover
from bench.runner.selection import choose
from bench.store import code_release
from bench.store.freshness import freshness
from bench.store.store import Store

REGISTRY = discover()
N = 400


def table(n: int = N, seed: int = 0) -> list[list[str]]:
    """Cells of distinct people: a number, a price, a category and a label that follows from them."""
    rng = np.random.default_rng(seed)
    ages, incomes = rng.integers(18, 90, n), rng.lognormal(10, 1, n)
    cities = rng.choice(["Rome", "Oslo, N", "Bern"], n)
    labels = np.where(ages > 50, "yes", "no")
    rows = zip(ages.tolist(), incomes.tolist(), cities.tolist(), labels.tolist(), strict=True)
    return [["age", "income", "city", "target"], *([str(a), f"{i:.2f}", c, y] for a, i, c, y in rows)]


def write(path: Path, rows: list[list[str]]) -> Path:
    path.write_text("".join(",".join(f'"{cell}"' if "," in cell else cell for cell in row) + "\n" for row in rows))
    return path


@pytest.fixture
def people(tmp_path: Path) -> Path:
    return write(tmp_path / "my.csv", table())


def chosen(path: Path, options: str = "label=target") -> Choice:
    [found] = choose(REGISTRY, "data", f"{path},{options}" if options else str(path))
    return found


def load(path: Path, options: str = "label=target", seed: int = 0) -> Split:
    found = chosen(path, options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Caveat)
        data: Split = found.component.function(DataLocation(), np.random.default_rng(seed), **found.settings)
    return data


def parts(data: Split) -> tuple[Examples, Examples, Examples]:
    return data.private, data.holdout, data.public


def same(a: Examples, b: Examples) -> bool:
    return np.array_equal(a.x, b.x) and np.array_equal(a.y, b.y)


# What becomes of a file


def test_a_file_becomes_three_parts_in_the_unit_cube(people: Path) -> None:
    data = load(people)
    assert data.name == "my.csv"
    private, holdout, public = map(len, parts(data))
    assert public == N // 4
    assert 0 <= N // 2 - private <= 2, "a few may become copies of others once they are scaled"
    assert 0 <= N // 4 - holdout <= 2
    assert shared(data) == 0
    assert all(len(set(record_keys(part))) == len(part) for part in parts(data))
    assert all(part.x.min() >= 0 and part.x.max() <= 1 for part in parts(data))
    assert data.private.shape == (2 + 3,)
    assert data.private.classes == 2
    assert [(one.name, one.start, one.stop) for one in data.attributes] == [("city", 2, 5)]
    assert all(map(same, parts(data), parts(load(people))))
    assert not same(data.private, load(people, seed=1).private)
    sized = load(people, "label=target,private=120,holdout=30,public=50")
    assert [len(part) for part in parts(sized)] == [120, 30, 50]


def test_records_say_what_the_lines_say(people: Path) -> None:
    """Read again by splitting: undo the scaling with the given ranges, and every record is a line of the file."""
    people.with_suffix(".bounds.yaml").write_text("age: [0, 120]\nincome: [0, 1e6]\ncity: [Bern, 'Oslo, N', Rome]\n")
    data = load(people)
    lines = {(row[0], row[2], row[3]): float(row[1]) for row in table()[1:]}
    for part in parts(data):
        for x, y in zip(part.x, part.y, strict=True):
            key = (str(round(120 * x[0])), ["Bern", "Oslo, N", "Rome"][int(x[2:].argmax())], ["no", "yes"][y])
            assert key in lines
    incomes = np.sort(np.concatenate([part.x[:, 1] for part in parts(data)]))
    naive = np.sort([min(float(row[1]), 1e6) / 1e6 for row in table()[1:]])
    assert np.allclose(incomes, naive, atol=1e-6)


def moved(path: Path, rows: list[list[str]], line: int, seed: int = 0) -> bool:
    """Whether an extreme record in a line changes how any other record is scaled."""
    before = {key for part in parts(load(write(path, rows), seed=seed)) for key in record_keys(part)}
    changed = [list(row) for row in rows]
    changed[line][0], changed[line][2] = "1000000", "Atlantis"
    after = {key for part in parts(load(write(path, changed), seed=seed)) for key in record_keys(part)}
    return len(before - after) > 1


def test_what_is_not_public_decides_nothing(people: Path) -> None:
    rows, order = table(), np.random.default_rng(0).permutation(N)
    private, public = int(order[N // 4]) + 1, int(order[0]) + 1
    assert not moved(people, rows, private)
    assert moved(people, rows, public), "the check does not see what scaling reads"


def test_with_bounds_nothing_is_read_off_any_record(people: Path) -> None:
    bounds = people.with_suffix(".bounds.yaml")
    with pytest.warns(Caveat, match="the range of age, income and the values of city"):
        chosen(people).component.function(DataLocation(), np.random.default_rng(0), **chosen(people).settings)
    bounds.write_text("age: [0, 120]\nincome: [0, 1e6]\ncity: [Rome, Bern]\n")
    public = int(np.random.default_rng(0).permutation(N)[0]) + 1
    assert not moved(people, table(), public)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = chosen(people).component.function(DataLocation(), np.random.default_rng(0), **chosen(people).settings)
    assert data.private.shape == (4,)
    assert (data.private.x[:, 2:].sum(1) == 0).any(), "a value that nobody listed is none of the values"


def test_records_that_scaling_makes_the_same_are_dropped(people: Path) -> None:
    """Clipped to a range that holds nobody, people differ by their city alone."""
    people.with_suffix(".bounds.yaml").write_text("age: [0, 1]\nincome: [0, 1]\n")
    with pytest.raises(UserError, match=r"my\.csv has 3 records that differ once they are scaled"):
        load(people)
    people.with_suffix(".bounds.yaml").write_text("age: [0, 120]\nincome: [0, 1e6]\n")
    assert [len(part) for part in parts(load(write(people, table() + table()[1:])))] == [N // 2, N // 4, N // 4]


def test_a_file_of_four_records_is_the_smallest(tmp_path: Path) -> None:
    rows = [["a", "label"], ["1", "x"], ["2", "x"], ["3", "y"], ["4", "y"]]
    with pytest.raises(UserError, match=r"my\.csv has [1-3] records that differ"):
        load(write(tmp_path / "my.csv", [*rows[:3], ["2", "y"], ["2", "y"]]), "")
    (tmp_path / "my.bounds.yaml").write_text("a: [0, 9]\n")
    assert [len(part) for part in parts(load(write(tmp_path / "my.csv", rows), ""))] == [2, 1, 1]


def test_bounds_may_list_labels_and_make_categories_of_numbers(people: Path) -> None:
    rows = [[*row[:3], str(i % 3), row[3]] for i, row in enumerate(table())]
    rows[0][3] = "rooms"
    write(people, rows)
    assert load(people).private.shape == (2 + 3 + 1,)
    people.with_suffix(".bounds.yaml").write_text("rooms: [0, 1, 2]\ntarget: [yes, no, perhaps]\n")
    data = load(people)
    assert data.private.shape == (2 + 3 + 3,)
    assert data.private.classes == 3
    assert [one.name for one in load(people, "label=target,attribute=rooms").attributes] == ["rooms", "city"]


# Mistakes


def broken(line: int, column: int, cell: str | None) -> list[list[str]]:
    rows = table()
    if cell is None:
        del rows[line][column]
    else:
        rows[line][column] = cell
    return rows


LINES: dict[str, tuple[list[list[str]], str]] = {
    "a cell short": (broken(9, 1, None), "line 10: 3 cells, but there are 4 columns"),
    "a word": (broken(9, 0, "old"), "line 10: age is 'old', but a number in line 2"),
    "an empty cell": (broken(9, 1, ""), "line 10: income is ''"),
    "nan": (broken(9, 1, "nan"), "line 10: income is 'nan', not a finite number"),
    "inf": (broken(9, 1, "-inf"), "line 10: income is '-inf', not a finite number"),
    "too large": (broken(9, 1, "1e200"), "line 10: income is '1e200'"),
    "no label": (broken(9, 3, ""), "line 10: the label is empty"),
    "a single label": (broken(9, 3, "perhaps"), "line 10: no other record has the label 'perhaps'"),
    "no label column": (broken(0, 3, "tarjet"), "no column 'target' for label=: did you mean 'tarjet'"),
    "no name": (broken(0, 0, ""), "a column without a name"),
    "twice": (broken(0, 0, "income"), "two of one name ('income')"),
    "no header": ([["1", "2"], ["3", "4"], ["5", "6"]], "first line must name the columns"),
    "no records": (table()[:1], "holds no records"),
    "one column": ([["target"], ["yes"], ["no"]], "the one column 'target'"),
    "one label": ([[*row[:3], row[3] if i == 0 else "yes"] for i, row in enumerate(table())], "the one label 'yes'"),
}


@pytest.mark.parametrize(("rows", "why"), LINES.values(), ids=LINES)
def test_a_mistake_in_a_table_names_its_line(rows: list[list[str]], why: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load(write(tmp_path / "my.csv", rows))
    assert why in str(caught.value)
    assert "my.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_many_categories_are_numbers_that_begin_with_a_word(tmp_path: Path) -> None:
    rows = broken(1, 1, "unknown")
    with pytest.raises(UserError, match=r"column 'income' has [0-9]+ different values"):
        load(write(tmp_path / "my.csv", rows), "label=target,public=200")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "holds no records"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b'a,target\n"1,x\n2,y\n', "cannot be read in line"),
        (b'a,target\n1,x\n2,y\n"3"4,x\n', "cannot be read in line 4"),
    ],
)
def test_a_file_that_is_no_table(data: bytes, why: str, tmp_path: Path) -> None:
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
def test_a_mistake_in_the_bounds(text: str, why: str, people: Path) -> None:
    people.with_suffix(".bounds.yaml").write_text(text)
    rows = table()
    people.write_text(people.read_text())
    with pytest.raises(UserError, match=why) as caught:
        load(write(people, rows))
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
def test_a_mistake_in_the_options(options: str, why: str, people: Path) -> None:
    with pytest.raises(UserError, match=why):
        load(people, options)


# Arrays


def arrays(path: Path, **changed: Any) -> Path:
    rng = np.random.default_rng(0)
    held = {"x": rng.integers(0, 256, (N, 4, 5, 1)), "y": np.arange(N) % 3, "low": 0, "high": 255}
    np.savez(path, **{key: value for key, value in {**held, **changed}.items() if value is not None})
    return path


def test_arrays_become_pictures_or_features(tmp_path: Path) -> None:
    path = arrays(tmp_path / "my.npz")
    data = load(path, "")
    assert data.private.shape == (4, 5, 1)
    assert data.private.classes == 3
    held = {row.tobytes() for row in np.load(path)["x"].astype(np.uint8)}
    assert {np.round(x * 255).astype(np.uint8).tobytes() for part in parts(data) for x in part.x} == held
    assert chosen(path, "").component.has == {"pictures"}
    features = np.random.default_rng(1).normal(size=(N, 7))
    flat = arrays(tmp_path / "flat.npz", x=features, kind=np.array(["a", "b"] * 200))
    assert load(flat, "label=kind").private.classes == 2
    bare = chosen(arrays(tmp_path / "bare.npz", low=None, high=None), "")
    with pytest.warns(Caveat, match="the range of x"):
        bare.component.function(DataLocation(), np.random.default_rng(0), **bare.settings)


NPZ: dict[str, tuple[dict[str, Any], str]] = {
    "no x": ({"x": None}, "no array 'x'"),
    "no label": ({"y": None, "yy": np.arange(N) % 3}, "no array 'y'"),
    "pickled": ({"x": np.array([{}] * N, object)}, "Python objects, which are never unpickled"),
    "words": ({"x": np.array([["a"]] * N)}, "x must be numbers"),
    "one dimension": ({"x": np.arange(N)}, "x must be numbers"),
    "too few labels": ({"y": np.arange(3)}, "for each of the 400 records"),
    "labels of a kind": ({"y": np.arange(N) / 7}, "a whole number or a word"),
    "single label": ({"y": 7 * (np.arange(N) == 0)}, "record 0: no other record has the label '7'"),
    "nan": ({"x": np.where(np.arange(N * 2).reshape(N, 2) == 7, np.nan, 1.0)}, "record 3: x holds a value"),
    "low alone": ({"high": None}, "low and high must both be there"),
    "low above high": ({"low": 255, "high": 0}, "low below high"),
    "ranges of another shape": ({"low": np.zeros(3), "high": np.ones(3)}, "one a feature"),
}


@pytest.mark.parametrize(("changed", "why"), NPZ.values(), ids=NPZ)
def test_a_mistake_in_arrays_is_named(changed: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=why) as caught:
        load(arrays(tmp_path / "my.npz", **changed), "")
    assert "\n" not in str(caught.value)


def test_what_is_no_archive_is_refused_and_never_unpickled(tmp_path: Path) -> None:
    import pickle

    class Trap:
        def __reduce__(self) -> Any:
            return (Path(tmp_path / "sprung").touch, ())

    plain, buffer = tmp_path / "my.npz", io.BytesIO()
    np.save(buffer, np.arange(3))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("x.npy", b"nothing")
        made.writestr("y.npy", b"nothing")
    cut = arrays(tmp_path / "whole.npz").read_bytes()[:-40]
    for data in (pickle.dumps(Trap()), buffer.getvalue(), b"", b"<html>", archive.getvalue(), cut):
        plain.write_bytes(data)
        with pytest.raises(UserError, match=r"my\.npz (cannot be read|has no array)|x must be numbers"):
            load(plain, "")
    assert not (tmp_path / "sprung").exists()


# Identity


def test_a_cell_is_named_by_file_and_content_and_never_by_path(people: Path, tmp_path: Path) -> None:
    first = chosen(people)
    assert first.label == f"my.csv,content={first.settings['content']},label=target"
    (tmp_path / "elsewhere").mkdir()
    moved_file = Path(shutil.copy(people, tmp_path / "elsewhere" / "my.csv"))
    assert chosen(moved_file).label == first.label
    assert chosen(moved_file, first.label.partition(",")[2]).label == first.label, "a label of the board can be given"
    write(moved_file, table(seed=1))
    assert chosen(moved_file).label != first.label
    people.with_suffix(".bounds.yaml").write_text("age: [0, 120]\n")
    assert chosen(people).label != first.label, "bounds decide the numbers too"

    digests = set()
    for choice in (first, chosen(people), chosen(moved_file)):
        cell = Cell(choice, choose(REGISTRY, "defense", "none")[0], choose(REGISTRY, "attack", "confidence")[0], 0)
        assert str(tmp_path) not in json.dumps([cell.name, cell.options])
        digests.add(cell.digest())
    assert len(digests) == 3


def test_a_file_changed_under_a_run_is_refused(people: Path) -> None:
    before = chosen(people)
    user_file.read_once.cache_clear()
    write(people, table(seed=1))
    with pytest.raises(UserError, match="was changed while it was read"):
        before.component.function(DataLocation(), np.random.default_rng(0), **before.settings)


def test_a_card_says_what_is_assumed_public(people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "data", f"{people},label=target"]) == 0
    out = capsys.readouterr().out
    assert "400 records, of which 400 are distinct, in 3 columns, 2 classes" in out
    assert "the values of city, inferred from the public part" in out
    assert str(people.parent) not in out
    assert set(card(chosen(people).component)) == set(FIELDS)
    people.with_suffix(".bounds.yaml").write_text("age: [0, 120]\nincome: [0, 1e6]\ncity: [Rome, Bern]\n")
    found = card(chosen(people).component)["Assumed public"]
    assert found == "the 2 labels; what my.bounds.yaml says."


def test_a_file_goes_through_the_program_and_is_answered_from_the_store(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """run, table without the file, run again; then another content under the same name."""
    monkeypatch.chdir(tmp_path)
    argv = ["run", "--defense", "none,steps=5", "--attack", "confidence", "--seeds", "0", "--results", "r"]
    argv += ["--data", "my.csv,label=target"]
    assert main(argv) == 0
    store = Store(Path("r"))
    [result] = store.results()
    assert result.data == chosen(people).label
    assert any("from its public part" in caveat for caveat in result.caveats)
    measured_by = code_release.load(store, result.code)
    assert measured_by is not None
    assert {"bench/data/user_file.py", "bench/data/user_file_parser.py"} <= measured_by.keys()
    assert freshness(REGISTRY.find)(result)
    written = {path: path.stat().st_mtime_ns for path in Path("r").rglob("*.json")}
    assert main(argv) == 0
    people.rename("away.csv")
    capsys.readouterr()
    assert main(["table", "--results", "r"]) == 0
    out = capsys.readouterr().out
    assert "stale" not in out
    assert "failed" not in out
    assert " ".join(out.split()).count("my.csv: taken from its public part") == 1
    assert {path: path.stat().st_mtime_ns for path in Path("r").rglob("*.json")} == written
    write(people, table(seed=1))
    assert main(argv) == 0
    assert len(store.results()) == 2
    text = "".join(path.read_text() for path in [*Path("r").rglob("*.json"), *Path("r").glob("leaderboard.*")])
    assert str(tmp_path) not in text


def test_a_plain_data_set_is_what_it_was() -> None:
    [digits] = choose(REGISTRY, "data", "digits")
    assert digits.label == "digits"
    assert digits.settings == {"private": 1000, "holdout": 500, "public": 297}
    data = digits.component.function(DataLocation(), np.random.default_rng(3), **digits.settings)
    held = b"".join(part.x.tobytes() + part.y.tobytes() for part in parts(data))
    assert hashlib.sha256(held).hexdigest().startswith("871a2ced3a0e0637"), "as before files could be given"
    with pytest.raises(UserError, match="did you mean 'digits'"):
        choose(REGISTRY, "data", "digit")
    assert not user_file.is_file("digits")
    with pytest.raises(UserError, match="no defense"):
        choose(REGISTRY, "defense", "my.csv")
    assert user_file_parser.bounds_file(Path("a/my.csv")) == Path("a/my.bounds.yaml")
