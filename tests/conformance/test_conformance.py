"""The checks pass correct components, and tell in a sentence how to fix each flawed one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import components
from flawed_components import (
    ATTACKS,
    DEFENSES,
    FIRST,
    MEANS,
    SURE,
    attack_of,
    defense_of,
    edited,
    mutants,
    printed,
)

from bench.conformance import attack_checks, defense_checks, dp_checks, end_to_end
from bench.core.component import Choice
from bench.dp import train
from bench.dp.weights_cache import WeightsCache
from bench.runner import controls
from bench.runner.controls import ControlSetting


def test_every_check_has_a_mutant() -> None:
    ours = {repr(check) for check in (*defense_checks.CHECKS, *dp_checks.CHECKS)}
    assert ours == DEFENSES.keys()
    assert {repr(check) for check in attack_checks.CHECKS} == ATTACKS.keys()


def test_a_right_defense_passes_all(tmp_path: Path) -> None:
    runs = defense_of(tmp_path, MEANS)
    for check in (*defense_checks.CHECKS, *dp_checks.CHECKS):
        if check is not dp_checks.zero_epsilon_reads_nothing:
            assert printed(check, runs) == ["passed: "], check
    [skipped] = printed(dp_checks.zero_epsilon_reads_nothing, runs)
    assert skipped == "skipped: its epsilon is above 0."


@pytest.mark.parametrize(("check", "edits", "words"), list(mutants(DEFENSES)))
def test_a_flawed_defense_fails_with_advice(
    check: str, edits: list[tuple[str, str]], words: str, tmp_path: Path
) -> None:
    runs = defense_of(tmp_path, edited(MEANS, edits))
    [one] = [one for one in (*defense_checks.CHECKS, *dp_checks.CHECKS) if repr(one) == check]
    found = printed(one, runs)
    assert any(re.search(f"^FAILED: .*{words}", line) for line in found), found
    assert not any("\n" in line for line in found)


def test_a_right_attack_passes_all(tmp_path: Path) -> None:
    runs = attack_of(tmp_path, SURE)
    for check in attack_checks.CHECKS:
        assert printed(check, runs) == ["passed: "], check


@pytest.mark.parametrize(("check", "edits", "words"), list(mutants(ATTACKS)))
def test_a_flawed_attack_fails_with_advice(
    check: str, edits: list[tuple[str, str]], words: str, tmp_path: Path
) -> None:
    runs = attack_of(tmp_path, edited(SURE, edits))
    [one] = [one for one in attack_checks.CHECKS if repr(one) == check]
    found = printed(one, runs)
    outcome = "skipped" if check == "has_a_required_score" else "FAILED"
    assert any(re.search(f"^{outcome}: .*{words}", line) for line in found), found
    assert not any("\n" in line for line in found)


def test_an_answer_of_none_is_reported_once(tmp_path: Path) -> None:
    runs = attack_of(tmp_path, edited(SURE, [("return score", "return None")]))
    failed = [line for one in attack_checks.CHECKS for line in printed(one, runs) if line.startswith("FAILED")]
    assert len(failed) == 1, failed
    assert "answers with a NoneType" in failed[0]


def test_refusing_records_with_a_user_error_is_allowed(tmp_path: Path) -> None:
    """A defense that fails on malformed records has not refused them."""
    no = (
        "from bench.core.errors import UserError\n"
        "    if private.x.ndim < 4: raise UserError('pictures only')\n    rng = np"
    )
    runs = defense_of(tmp_path, edited(MEANS, [(FIRST, no)]))
    assert printed(defense_checks.works_on_flat_records, runs) == ["skipped: it refuses such records: pictures only"]
    broken = edited(MEANS, [(FIRST, "Examples(private.x * np.nan, private.y, private.classes)\n    rng = np")])
    [line] = printed(defense_checks.works_on_flat_records, defense_of(tmp_path, broken))
    assert line.startswith("FAILED: it stopped at line 17 of means.py: record 0 holds")


def test_a_defense_that_refuses_images_is_tested_on_plain_features(tmp_path: Path) -> None:
    no = (
        "from bench.core.errors import UserError\n"
        "    if private.x.ndim > 2: raise UserError('no pictures')\n    rng = np"
    )
    runs = defense_of(tmp_path, edited(MEANS, [(FIRST, no)]))
    for check in (*defense_checks.CHECKS, dp_checks.claims_what_it_spends, end_to_end.appears_on_leaderboard):
        assert printed(check, runs) == ["passed: "], check


# The controls, and the leaderboard


@pytest.fixture
def small_controls(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = "digits,private=60,holdout=60,public=200"
    small = ControlSetting("membership", "none,steps=300", sizes, random_labels=True, null=3)
    monkeypatch.setattr(controls, "CONTROL_SETTINGS", (small,))
    monkeypatch.setattr(controls, "POSITIVE", 2)


def test_controls_are_played(tmp_path: Path, small_controls: None) -> None:
    with train.caching(WeightsCache(tmp_path / "fits")):
        assert printed(end_to_end.passes_its_controls, attack_of(tmp_path, SURE)) == ["passed: "]
        high = attack_of(tmp_path, edited(SURE, [("required_score=0.7", "required_score=1.1")]))
        [line] = printed(end_to_end.passes_its_controls, high)
    assert re.match(
        r"FAILED: positive control: .* required score is 1.100 .*: fix .* or lower its required_score\.$", line
    )


def test_an_attack_without_a_control_setting_is_skipped(tmp_path: Path, small_controls: None) -> None:
    runs = attack_of(tmp_path, edited(SURE, [('{"predict"}', '{"join"}')]))
    assert printed(end_to_end.passes_its_controls, runs)[0].startswith("skipped: there is no control of its game")
    assert printed(attack_checks.finds_a_leak, runs)[0].startswith("skipped: there is no control of its game")


def test_a_defense_appears_on_leaderboard(tmp_path: Path) -> None:
    assert printed(end_to_end.appears_on_leaderboard, defense_of(tmp_path, MEANS)) == ["passed: "]
    wrong = edited(MEANS, [("def predict(x):", "def predict(x):\n        assert len(x) < 150")])
    [line] = printed(end_to_end.appears_on_leaderboard, defense_of(tmp_path, wrong))
    assert re.match(r"FAILED: against confidence on digits the attack failed, AssertionError", line)
    publishes = (
        ('{"predict", "encode", "generate"}', "set()"),
        ("predict=predict, encode=Codes(), generate=generate", ""),
    )
    nobody = edited(MEANS, list(publishes))
    assert printed(end_to_end.appears_on_leaderboard, defense_of(tmp_path, nobody))[0].startswith(
        "skipped: no attack here"
    )


@pytest.mark.parametrize(
    ("name", "attack"),
    [("dp_vaegm", "confidence"), ("federated_client_dp", "confidence"), ("random_encoder", "confidence")],
)
def test_the_cheapest_attack_is_the_baseline_where_it_can_be(name: str, attack: str) -> None:
    found = end_to_end.cheapest(Choice(components().defenses[name]), "digits", components())
    assert found is not None
    assert found.name == attack
