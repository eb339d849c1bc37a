"""The digest of a stored record changes with each of its dependencies, and with nothing else."""

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


def selected(data: str = "digits", defense: str = "none", attack: str = "confidence", seed: int = 0) -> Cell:
    known = components()
    [d], [e], [a] = choose(known, "data", data), choose(known, "defense", defense), choose(known, "attack", attack)
    return Cell(d, e, a, seed)


def test_a_cell_depends_on_its_components_options_and_seed() -> None:
    cells = [
        selected(), selected(seed=1), selected("digits,private=60"), selected("breast_cancer"),
        selected(defense="top1"), selected(defense="none,steps=3"), selected(attack="entropy"), selected(attack="lira"),
        selected(attack="lira,shadows=4"),
    ]  # fmt: skip
    assert len({one.digest() for one in cells}) == len(cells)
    assert selected(defense="none,steps=1500").digest() == selected().digest(), "a default is the same, stated or not"
    assert len({one.training_digest() for one in cells}) == len(cells) - 3, "a release does not depend on its attack"


def test_the_digest_distinguishes_the_types_of_json() -> None:
    parts = (components().data["digits"], components().defenses["none"], components().attacks["confidence"])
    found = {
        cell_digest(parts, {"data": {}, "defense": {"a": value}, "attack": {}}, 0) for value in (1, 1.0, True, "1")
    }
    assert len(found) == 4


def test_a_cell_is_fresh_if_measuring_now_gives_its_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    one = selected()
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


def test_the_runner_and_the_game_count_for_every_cell() -> None:
    names = {path.name for path in sources([components().attacks["lira"]])}
    assert {"play.py", "lira.py", "membership.py"} <= names


def test_the_reader_of_user_files_counts_only_for_cells_of_user_files(tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text("a,label\n1,x\n2,x\n3,y\n4,y\n")
    [mine] = choose(components(), "data", str(tmp_path / "my.csv"))
    ours = {path.name for path in sources([mine.component])}
    assert "user_file.py" in ours
    for component in components().data.values():
        assert not any(path.name == "user_file.py" for path in sources([component]))


def test_every_other_record_kind_has_a_digest_of_its_dependencies() -> None:
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
