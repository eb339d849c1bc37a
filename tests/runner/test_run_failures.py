"""A failing component, data set or store: what is reported, which cells fail and which exit code follows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from toy_runs import DATA, Run, edited, files, names

from bench.cli.main import main
from bench.core.dataset import DataLocation
from bench.core.errors import UserError
from bench.runner import play
from bench.runner.registry import discover
from bench.runner.selection import choose
from bench.store.records import CellResult
from bench.store.store import Store


def test_a_failing_attack_is_reported_and_not_stored_and_the_other_cells_are_measured(
    run: Run, results: Path, plugin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    selection = ("says", "constant", "against", "broken", "nan", "honest")
    assert run(*selection) == 1
    assert names(results) == {("says", "honest", 0), ("constant", "honest", 0)}
    out, err = capsys.readouterr()
    failed = [line for line in err.splitlines() if line.startswith("bench: failed:")]
    assert any(f"{DATA}/says/broken/0" in line and "RuntimeError: out of luck" in line for line in failed)
    assert any(f"{DATA}/says/nan/0" in line and "not finite" in line for line in failed)
    assert "Traceback" not in err
    assert "failed" in out
    before = files(results)
    assert run(*selection) == 1, "a failure must not be remembered as done"
    assert files(results) == before
    repaired = edited(plugin, 'raise RuntimeError("out of\\nluck")', "return targets.records.x.mean((1, 2, 3))")
    assert run("says", "against", "broken", code=repaired) == 0
    assert ("says", "broken", 0) in names(results)


def test_a_cell_is_on_disk_before_the_next_begins(run: Run, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("says", "against", "honest", "stopped", "slow") == 130
    assert names(results) == {("says", "honest", 0)}
    assert "repeat the command to go on from there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("defense", "why"),
    [
        ("chatty", "chatty declares that it publishes predict, but published encode, predict"),
        ("absent", "absent returned a NoneType, not a Release"),
    ],
)
def test_a_defense_whose_release_contradicts_its_declaration_fails_with_a_sentence(
    run: Run, results: Path, capsys: pytest.CaptureFixture[str], defense: str, why: str
) -> None:
    assert run(defense, "says", "against", "honest") == 1
    assert f"training failed, ValueError: {why}" in capsys.readouterr().err
    assert names(results) == {("says", "honest", 0)}


def test_a_failing_data_set_fails_its_cells_alone(run: Run, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("says", "against", "honest", data="spoilt", more=("--data", DATA)) == 1
    err = capsys.readouterr().err
    assert "failed: spoilt/says/honest/0: the data set failed, KeyError: 'no such column'" in err
    assert names(results) == {("says", "honest", 0)}


def test_a_result_that_cannot_be_stored_fails_its_cell_alone(
    run: Run, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The game of a plugin may return a value that JSON does not represent."""
    original = Store.save

    def save(self: Store, record: Any) -> Path:
        if isinstance(record, CellResult) and record.attack == "honest":
            record = structs.replace(record, metrics={**record.metrics, "auc": float("nan")})
        return original(self, record)

    monkeypatch.setattr(Store, "save", save)
    assert run("says", "against", "honest", "doubtful") == 1
    assert names(results) == {("says", "doubtful", 0)}
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "failed", "sentence"),
    [
        (("picky", "says", "against", "honest"), "picky/honest", "picky needs more records: give it some."),
        (("says", "against", "fussy", "honest"), "says/fussy", "fussy takes no such option: leave it out."),
        (("says", "against", "demanding", "honest"), "says/demanding", "this game needs other records: leave it out."),
    ],
)
def test_a_mistake_in_one_component_fails_its_cells_alone(
    run: Run, results: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], failed: str, sentence: str
) -> None:
    assert run(*words) == 1
    out, err = capsys.readouterr()
    assert f"bench: failed: {DATA}/{failed}/0: {sentence}\n" in err
    assert "failed" in out
    assert names(results) == {("says", "honest", 0)}


def test_a_run_in_which_every_cell_fails_by_user_error_exits_with_2(
    run: Run, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("picky", "against", "honest", "fussy") == 2
    err = capsys.readouterr().err
    assert [line for line in err.splitlines() if line.startswith("bench: ")] == [
        "bench: picky needs more records: give it some."
    ]
    assert run("says", "against", "honest") == 0
    assert run("says", "picky", "against", "honest") == 1, "what is stored is played"
    assert run("picky", "against", "broken", "honest") == 2, "it fails before any attack"
    assert run("says", "against", "broken", "fussy") == 1, "a bug of a component is no user error"


def test_a_defense_without_a_playable_attack_is_not_trained(
    run: Run, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("mute", "says", "against", "honest") == 0
    assert names(results) == {("says", "honest", 0)}
    assert "n/a: predict" in capsys.readouterr().out
    assert run("mute", "against", "honest") == 2
    assert "no selected attack can be played against a selected defense" in capsys.readouterr().err


def test_a_data_set_too_small_for_targets_fails_before_training(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(play, "train", lambda *given: pytest.fail("trained although no target can be drawn"))
    words = ["run", "--defense", "none", "--attack", "confidence", "--data", "digits,private=3", "--seeds", "0"]
    assert main([*words, "--results", str(results)]) == 2
    assert capsys.readouterr().err.count("bench: ") == 1


def test_a_record_twice_in_one_part_is_refused(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a known record and a target at once, it would reveal its membership."""
    [choice] = choose(discover(), "data", DATA)
    split = choice.component.function(DataLocation(), np.random.default_rng(0), **choice.settings)
    duplicated = replace(split, private=split.private[np.r_[0 : len(split.private), 0]])
    component = replace(choice.component, function=lambda *given, **options: duplicated)
    with pytest.raises(UserError, match="1 records more than once"):
        play.split(replace(choice, component=component), DataLocation(), 0)
