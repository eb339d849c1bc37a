"""What a stored record depends on: its digest changes with each of these, and with nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cells import cell as made
from conftest import components

from bench.runner.cell import Cell
from bench.runner.controls import control_setting
from bench.runner.selection import choose
from bench.store import freshness
from bench.store.freshness import cell_digest, control_digest, finding_digest, score_digest, sources, verdict_digest


def chosen(data: str = "digits", defense: str = "none", attack: str = "confidence", seed: int = 0) -> Cell:
    known = components()
    [d], [e], [a] = choose(known, "data", data), choose(known, "defense", defense), choose(known, "attack", attack)
    return Cell(d, e, a, seed)


def test_a_cell_depends_on_its_components_options_and_seed() -> None:
    cells = [
        chosen(), chosen(seed=1), chosen("digits,private=60"), chosen("breast_cancer"), chosen(defense="top1"),
        chosen(defense="none,steps=3"), chosen(attack="entropy"), chosen(attack="lira"),
        chosen(attack="lira,shadows=4"),
    ]  # fmt: skip
    assert len({one.digest() for one in cells}) == len(cells)
    assert chosen(defense="none,steps=1500").digest() == chosen().digest(), "a default is the same, stated or not"
    assert len({one.training_digest() for one in cells}) == len(cells) - 3, "a release does not depend on its attack"


def test_numbers_are_told_apart_as_json_tells_them() -> None:
    parts = (components().data["digits"], components().defenses["none"], components().attacks["confidence"])
    found = {
        cell_digest(parts, {"data": {}, "defense": {"a": value}, "attack": {}}, 0) for value in (1, 1.0, True, "1")
    }
    assert len(found) == 4


def test_fresh_is_what_today_would_be_measured_as(monkeypatch: pytest.MonkeyPatch) -> None:
    one = chosen()
    result = made("none", "confidence", options=one.options, digest=one.digest())
    fresh = freshness.freshness(components().find)
    assert fresh(result)
    for other in (made("none", "confidence", options=one.options, digest="0" * 32),
                  made("gone", "confidence", options=one.options, digest=one.digest()),
                  made("none", "confidence", 1, options=one.options, digest=one.digest())):  # fmt: skip
        assert not fresh(other)
    monkeypatch.setattr(freshness, "versions", lambda: {"numpy": "0.1"})
    freshness._code_and_versions.cache_clear()
    assert not fresh(result)
    monkeypatch.undo()
    freshness._code_and_versions.cache_clear()
    assert fresh(result)


def test_what_plays_every_cell_and_judges_its_game_counts() -> None:
    names = {path.name for path in sources([components().attacks["lira"]])}
    assert {"play.py", "lira.py", "membership.py"} <= names


def test_a_file_of_records_counts_for_its_own_cells(tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text("a,label\n1,x\n2,x\n3,y\n4,y\n")
    [mine] = choose(components(), "data", str(tmp_path / "my.csv"))
    ours = {path.name for path in sources([mine.component])}
    assert "user_file.py" in ours
    for component in components().data.values():
        assert not any(path.name == "user_file.py" for path in sources([component]))


def test_every_other_record_has_a_digest_of_what_it_depends_on() -> None:
    known = components()
    [lira], [few] = choose(known, "attack", "lira"), choose(known, "attack", "lira,shadows=4")
    [sgd], [strict] = choose(known, "defense", "dp_sgd"), choose(known, "defense", "dp_sgd,epsilon=1")
    [digits], [small] = choose(known, "data", "digits"), choose(known, "data", "digits,private=300")
    setting = control_setting(lira, known)
    found = [
        *(control_digest(attack, sgd, digits, setting) for attack in (lira, few)),
        control_digest(lira, sgd, digits, replace(setting, null=3)),
        *(verdict_digest(defense, [digits.component]) for defense in (sgd, strict)),
        *(finding_digest(defense, data, kind) for defense in (sgd, strict) for data in (digits, small)
          for kind in ("one_step", "whole", "black_box")),
        score_digest(),
    ]  # fmt: skip
    assert len(set(found)) == len(found)
    assert verdict_digest(sgd, [digits.component]) == verdict_digest(sgd, [digits.component])
