"""Tables of the user: splits, scaling, labels of cells, cards and runs."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from data_fixtures import PEOPLE, parts, same, table, write_table
from user_files import REGISTRY, load, selected

from bench.cli.main import main
from bench.core.dataset import DataLocation, record_keys, shared
from bench.core.errors import Caveat, UserError
from bench.data import user_file, user_file_parser
from bench.data.card import FIELDS, card
from bench.runner.cell import Cell
from bench.runner.selection import choose
from bench.store import code_release
from bench.store.freshness import freshness
from bench.store.store import Store


def test_a_table_is_split_into_three_parts_in_the_unit_cube(people: Path) -> None:
    data = load(people)
    assert data.name == "my.csv"
    private, holdout, public = map(len, parts(data))
    assert public == PEOPLE // 4
    assert 0 <= PEOPLE // 2 - private <= 2, "few records become copies of others by scaling"
    assert 0 <= PEOPLE // 4 - holdout <= 2
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


def test_records_equal_the_lines_of_the_table(people: Path) -> None:
    """With the scaling by the stated ranges undone, every record equals a line of the file."""
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


def changes_others(path: Path, rows: list[list[str]], line: int, seed: int = 0) -> bool:
    """Whether an extreme record in a line changes how any other record is scaled."""
    before = {key for part in parts(load(write_table(path, rows), seed=seed)) for key in record_keys(part)}
    changed = [list(row) for row in rows]
    changed[line][0], changed[line][2] = "1000000", "Atlantis"
    after = {key for part in parts(load(write_table(path, changed), seed=seed)) for key in record_keys(part)}
    return len(before - after) > 1


def test_scaling_and_categories_do_not_depend_on_private_records(people: Path) -> None:
    rows, order = table(), np.random.default_rng(0).permutation(PEOPLE)
    private, public = int(order[PEOPLE // 4]) + 1, int(order[0]) + 1
    assert not changes_others(people, rows, private)
    assert changes_others(people, rows, public), "the check does not detect the records that scaling uses"


def test_with_bounds_scaling_does_not_depend_on_any_record(people: Path) -> None:
    bounds = people.with_suffix(".bounds.yaml")
    with pytest.warns(Caveat, match="the range of age, income and the values of city"):
        selected(people).component.function(DataLocation(), np.random.default_rng(0), **selected(people).settings)
    bounds.write_text("age: [0, 120]\nincome: [0, 1e6]\ncity: [Rome, Bern]\n")
    public = int(np.random.default_rng(0).permutation(PEOPLE)[0]) + 1
    assert not changes_others(people, table(), public)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        file = selected(people)
        data = file.component.function(DataLocation(), np.random.default_rng(0), **file.settings)
    assert data.private.shape == (4,)
    assert (data.private.x[:, 2:].sum(1) == 0).any(), "a value that is not listed has no feature"


def test_records_that_are_equal_after_scaling_are_dropped(people: Path) -> None:
    """Clipped to a range that excludes everyone, people differ only by city."""
    people.with_suffix(".bounds.yaml").write_text("age: [0, 1]\nincome: [0, 1]\n")
    with pytest.raises(UserError, match=r"my\.csv has 3 records that differ once they are scaled"):
        load(people)
    people.with_suffix(".bounds.yaml").write_text("age: [0, 120]\nincome: [0, 1e6]\n")
    assert [len(part) for part in parts(load(write_table(people, table() + table()[1:])))] == [
        PEOPLE // 2,
        PEOPLE // 4,
        PEOPLE // 4,
    ]


def test_a_table_has_at_least_four_records(tmp_path: Path) -> None:
    rows = [["a", "label"], ["1", "x"], ["2", "x"], ["3", "y"], ["4", "y"]]
    with pytest.raises(UserError, match=r"my\.csv has [1-3] records that differ"):
        load(write_table(tmp_path / "my.csv", [*rows[:3], ["2", "y"], ["2", "y"]]), "")
    (tmp_path / "my.bounds.yaml").write_text("a: [0, 9]\n")
    assert [len(part) for part in parts(load(write_table(tmp_path / "my.csv", rows), ""))] == [2, 1, 1]


def test_bounds_can_list_labels_and_declare_numbers_as_categories(people: Path) -> None:
    rows = [[*row[:3], str(i % 3), row[3]] for i, row in enumerate(table())]
    rows[0][3] = "rooms"
    write_table(people, rows)
    assert load(people).private.shape == (2 + 3 + 1,)
    people.with_suffix(".bounds.yaml").write_text("rooms: [0, 1, 2]\ntarget: [yes, no, perhaps]\n")
    data = load(people)
    assert data.private.shape == (2 + 3 + 3,)
    assert data.private.classes == 3
    assert [one.name for one in load(people, "label=target,attribute=rooms").attributes] == ["rooms", "city"]


def test_a_label_contains_the_file_name_and_digest_but_no_path(people: Path, tmp_path: Path) -> None:
    first = selected(people)
    assert first.label == f"my.csv,content={first.settings['content']},label=target"
    (tmp_path / "other").mkdir()
    copied = Path(shutil.copy(people, tmp_path / "other" / "my.csv"))
    assert selected(copied).label == first.label
    settings = first.label.partition(",")[2]
    assert selected(copied, settings).label == first.label, "a label of the leaderboard is not a valid option"
    write_table(copied, table(seed=1))
    assert selected(copied).label != first.label
    people.with_suffix(".bounds.yaml").write_text("age: [0, 120]\n")
    assert selected(people).label != first.label, "the digest lacks the bounds"

    digests = set()
    for choice in (first, selected(people), selected(copied)):
        cell = Cell(choice, choose(REGISTRY, "defense", "none")[0], choose(REGISTRY, "attack", "confidence")[0], 0)
        assert str(tmp_path) not in json.dumps([cell.name, cell.options])
        digests.add(cell.digest())
    assert len(digests) == 3


def test_a_file_changed_during_a_run_is_refused(people: Path) -> None:
    before = selected(people)
    user_file.read_once.cache_clear()
    write_table(people, table(seed=1))
    with pytest.raises(UserError, match="was changed while it was read"):
        before.component.function(DataLocation(), np.random.default_rng(0), **before.settings)


def test_a_card_states_what_is_assumed_public(people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "data", f"{people},label=target"]) == 0
    out = capsys.readouterr().out
    assert "400 records, of which 400 are distinct, in 3 columns, 2 classes" in out
    assert "the values of city, inferred from the public part" in out
    assert str(people.parent) not in out
    assert set(card(selected(people).component)) == set(FIELDS)
    people.with_suffix(".bounds.yaml").write_text("age: [0, 120]\nincome: [0, 1e6]\ncity: [Rome, Bern]\n")
    found = card(selected(people).component)["Assumed public"]
    assert found == "the 2 labels; what my.bounds.yaml says."


def test_a_table_is_measured_stored_and_listed(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs, prints the leaderboard without the file, and runs again with another content under the same name."""
    monkeypatch.chdir(tmp_path)
    argv = ["run", "--defense", "none,steps=5", "--attack", "confidence", "--seeds", "0", "--results", "r"]
    argv += ["--data", "my.csv,label=target"]
    assert main(argv) == 0
    store = Store(Path("r"))
    [result] = store.results()
    assert result.data == selected(people).label
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
    write_table(people, table(seed=1))
    assert main(argv) == 0
    assert len(store.results()) == 2
    text = "".join(path.read_text() for path in [*Path("r").rglob("*.json"), *Path("r").glob("leaderboard.*")])
    assert str(tmp_path) not in text


def test_user_files_do_not_change_the_data_sets_of_the_project() -> None:
    [digits] = choose(REGISTRY, "data", "digits")
    assert digits.label == "digits"
    assert digits.settings == {"private": 1000, "holdout": 500, "public": 297}
    data = digits.component.function(DataLocation(), np.random.default_rng(3), **digits.settings)
    content = b"".join(part.x.tobytes() + part.y.tobytes() for part in parts(data))
    assert hashlib.sha256(content).hexdigest().startswith("871a2ced3a0e0637"), "the records of digits changed"
    with pytest.raises(UserError, match="did you mean 'digits'"):
        choose(REGISTRY, "data", "digit")
    assert not user_file.is_file("digits")
    with pytest.raises(UserError, match="no defense"):
        choose(REGISTRY, "defense", "my.csv")
    assert user_file_parser.bounds_file(Path("a/my.csv")) == Path("a/my.bounds.yaml")
